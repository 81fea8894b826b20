"""The chain of the audit: entries that each hold the hash of the one before, and signed heads that pin it.

The head (the newest entry's number, hash and time) is signed with a key of the tool server's own and told with every
entry to the log: whoever keeps a head can tell later that nothing up to it was edited, removed or cut off. Where old
entries were dropped a signed anchor tells how far, and before which time: its signature is not one of a head.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict

from opswarm.actions.canonical import canonical
from opswarm.errors import InvalidInput

GENESIS = "0" * 64
"""What the first entry has in place of a hash before it."""

HEAD, ANCHOR = "head", "anchor"
_SPELT = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})(?::([0-9]{1,18}):([0-9a-f]*))?")


class Event(BaseModel):
    """What happened to one attempt.

    `event`: `denied` (an approval that expired too), `needs_approval`, `approved`, `rejected`, `executing`,
    `executed`, `failed`, `unknown`, `verified`, `not_verified`, or `previewed`. `caller` is the whole chain, `subject`
    on whose behalf, `seconds` how long it took.
    """

    model_config = ConfigDict(frozen=True)

    event: str
    tool: str
    caller: str = ""
    subject: str = ""
    task: str = ""
    arguments: Mapping[str, Any] = {}
    key: str = ""
    proposal: str = ""
    outcome: str = ""
    rule: str = ""
    risk: str = ""
    text: str = ""
    state: Mapping[str, Any] = {}
    seconds: float = 0.0


class Entry(BaseModel):
    """One entry as it is kept: `at` in Unix seconds, `hash` over everything else and `before`, the hash before it."""

    model_config = ConfigDict(frozen=True)

    server: str
    number: int
    at: float
    event: Event
    before: str
    hash: str

    def computed(self) -> str:
        body = {"server": self.server, "number": self.number, "at": self.at, "event": self.event}
        return hashlib.sha256(f"{self.before}{canonical(body)}".encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stood: the number, the hash and the time (whole Unix seconds) of an entry, signed by the server.

    An anchor (`kind`) is the newest of the entries that were dropped, and `at` the time before which they were. Spelt
    `NUMBER:HASH:AT:SIGNATURE`, the signature in hexadecimal.
    """

    server: str
    number: int
    hash: str
    at: int = 0
    signature: str = ""
    kind: str = HEAD

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}:{self.at}:{self.signature}"

    @property
    def message(self) -> bytes:
        return f"opswarm audit {self.kind} {self.server} {self.number} {self.hash} {self.at}".encode()

    @classmethod
    def parse(cls, server: str, text: str, kind: str = HEAD) -> Head:
        """Raises `InvalidInput` for what is no head."""
        found = _SPELT.fullmatch(text.strip())
        if found is None:
            raise InvalidInput("A head is NUMBER:HASH or NUMBER:HASH:AT:SIGNATURE, as the log has it.")
        number, hash_, at, signature = found.groups("")
        return cls(server, int(number), hash_, int(at or 0), signature, kind)

    def signed(self, key: Ed25519PrivateKey) -> Head:
        return replace(self, signature=key.sign(self.message).hex())

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes.fromhex(self.signature), self.message)
        except (InvalidSignature, ValueError):
            return False
        return True


def links(entries: Sequence[Entry], number: int, before: str) -> Iterator[str]:
    """What is wrong with entries that should follow on entry `number` with the hash `before`, as sentences."""
    for entry in entries:
        if entry.number != number + 1:
            yield f"Entries {number + 1} to {entry.number - 1} are missing."
        elif entry.before != before:
            yield f"Entry {entry.number} does not follow from the one before it."
        if entry.computed() != entry.hash:
            yield f"Entry {entry.number} was changed."
        number, before = entry.number, entry.hash


def faults(
    entries: Sequence[Entry], anchor: Head | None, key: Ed25519PublicKey, heads: Sequence[Head] = ()
) -> list[str]:
    """What is wrong with a whole chain, as sentences; empty when nothing is.

    `entries` are all that there are, in order; `heads` those that somebody kept, which the chain must still contain.
    """
    found: list[str] = []
    number, before = 0, GENESIS
    if anchor is not None:
        if not anchor.signed_by(key):
            found.append(f"The anchor at entry {anchor.number} is not signed by this server's audit key.")
        number, before = anchor.number, anchor.hash
    known = {number: before}
    # Those up to the anchor are on their way out.
    left = [e for e in entries if e.number > number]
    found += links(left, number, before)
    known |= {e.number: e.hash for e in left}
    last = left[-1].number if left else number
    return found + [fault for head in heads for fault in _against(head, known, last, anchor, key)]


def unchecked(anchor: Head | None, heads: Sequence[Head]) -> list[str]:
    """The kept heads that nothing can be said about, as sentences: their entries were dropped."""
    if anchor is None:
        return []
    when = time.strftime("%Y-%m-%d", time.gmtime(anchor.at))
    return [
        f"Entry {head.number} was dropped with all before {when}, so its head can't be checked."
        for head in heads
        if head.number < anchor.number
    ]


def _against(
    head: Head, known: Mapping[int, str], last: int, anchor: Head | None, key: Ed25519PublicKey
) -> Iterator[str]:
    if head.signature and not head.signed_by(key):
        yield f"The head {head.number} is not signed by this server's audit key."
    elif head.number > last:
        yield f"The chain ends at entry {last}, but reached {head.number}: its tail was cut off."
    elif head.number in known and known[head.number] != head.hash:
        yield f"Entry {head.number} is not the one that the head was taken of."
    elif head.number in known:
        return
    elif anchor is None or head.number > anchor.number:
        yield f"Entry {head.number}, of which the head was taken, is missing."
    elif head.at > anchor.at:
        yield f"Entry {head.number} was dropped, and was younger than all that was to be."
