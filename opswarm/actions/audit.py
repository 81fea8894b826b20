"""The audit: every attempt to change the world, in a chain that shows when a part of it is changed or missing.

Each entry holds the hash of the one before it. The head (the newest entry's number and hash) is signed with a key of
the tool server's own and told with every entry to the log: whoever keeps a head can tell later that nothing up to it
was edited, removed or cut off. Old entries are dropped, and a signed anchor stays where the chain then begins.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict

from opswarm.actions.canonical import canonical
from opswarm.errors import InvalidInput, Unavailable
from opswarm.guard.redaction import redact_value
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.store.database import Database, Row

log = logging.getLogger("opswarm.audit")

GENESIS = "0" * 64
"""What the first entry has in place of a hash before it."""

_TEXT_BYTES = 4_000
_TRIES = 20
_PRUNE_EVERY = 500
_DAY = 86_400.0


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
    """Where a chain stood: the number and hash of an entry, signed by the server's audit key.

    Spelt `NUMBER:HASH:SIGNATURE`, the signature in hexadecimal.
    """

    server: str
    number: int
    hash: str
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}:{self.signature}"

    @property
    def message(self) -> bytes:
        return f"opswarm audit {self.server} {self.number} {self.hash}".encode()

    @classmethod
    def parse(cls, server: str, text: str) -> Head:
        """Raises `InvalidInput` for what is no head."""
        number, _, rest = text.strip().partition(":")
        hash_, _, signature = rest.partition(":")
        if not number.isdecimal() or len(hash_) != 64 or any(c not in "0123456789abcdef" for c in hash_ + signature):
            raise InvalidInput("A head is NUMBER:HASH or NUMBER:HASH:SIGNATURE, as the log has it.")
        return cls(server, int(number), hash_, signature)

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes.fromhex(self.signature), self.message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Audit:
    """The audit of one tool server. `open` it first."""

    def __init__(
        self,
        database: Database,
        server: str,
        key: Ed25519PrivateKey,
        *,
        keep_days: float = 365.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._server = server
        self._key = key
        self._keep_days = keep_days
        self._clock = clock
        self._lock = asyncio.Lock()
        self._added = 0

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self._key.public_key()

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS audit (server VARCHAR(64) NOT NULL, number BIGINT NOT NULL,"
                " at DOUBLE PRECISION NOT NULL, tool VARCHAR(128) NOT NULL, subject VARCHAR(256) NOT NULL,"
                " body TEXT NOT NULL, before VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL,"
                " PRIMARY KEY (server, number))",
                "CREATE TABLE IF NOT EXISTS audit_anchors (server VARCHAR(64) NOT NULL PRIMARY KEY,"
                " number BIGINT NOT NULL, hash VARCHAR(64) NOT NULL, signature VARCHAR(128) NOT NULL)",
            ]
        )

    async def add(self, event: Event) -> Head:
        """Adds an entry and gives the signed head. Raises `Unavailable` when it can't be written."""
        event = _kept(event)
        async with self._lock:
            for _ in range(_TRIES):
                number, before = await self._last()
                entry = Entry(
                    server=self._server, number=number + 1, at=self._clock(), event=event, before=before, hash=""
                )
                entry = entry.model_copy(update={"hash": entry.computed()})
                if await self._written(entry):
                    break
            else:
                raise Unavailable("The audit can't be written: others write to it all the time.", hint="Try again.")
        head = self._signed(entry.number, entry.hash)
        log.info("audit %s", json.dumps({**entry.model_dump(mode="json"), "head": str(head)}, ensure_ascii=False))
        await self._pruned()
        return head

    async def head(self) -> Head:
        """The newest head; number 0 when there is no entry yet."""
        return self._signed(*await self._last())

    async def entries(
        self, *, since: float = 0.0, after: int = 0, tool: str = "", most: int = 1_000
    ) -> Sequence[Entry]:
        """Entries in order: from `since` (Unix seconds), with a number above `after`, of one tool."""
        where = "server = :server AND at >= :since AND number > :after" + (" AND tool = :tool" if tool else "")
        given = {"server": self._server, "since": since, "after": after, "most": most}
        rows = await self._database.rows(
            f"SELECT number, at, body, before, hash FROM audit WHERE {where} ORDER BY number LIMIT :most",
            {**given, "tool": tool} if tool else given,
        )
        return [self._entry(r) for r in rows]

    async def anchor(self) -> Head | None:
        """Where the chain begins, since older entries were dropped; None while it is whole."""
        rows = await self._database.rows(
            "SELECT number, hash, signature FROM audit_anchors WHERE server = :server", {"server": self._server}
        )
        return Head(self._server, int(rows[0][0]), str(rows[0][1]), str(rows[0][2])) if rows else None

    async def prune(self, until: float) -> None:
        """Drops the entries before `until` (Unix seconds), never the newest, and leaves a signed anchor."""
        rows = await self._database.rows(
            "SELECT number, hash FROM audit WHERE server = :server AND number = (SELECT MAX(number) FROM audit"
            " WHERE server = :server AND at < :until AND number < (SELECT MAX(number) FROM audit"
            " WHERE server = :server))",
            {"server": self._server, "until": until},
        )
        if not rows:
            return
        anchor = self._signed(int(rows[0][0]), str(rows[0][1]))
        # The anchor first: a chain that begins before its anchor can be checked, one that begins after it can't.
        await self._database.write(
            "INSERT INTO audit_anchors (server, number, hash, signature) VALUES (:server, :number, :hash, :signature)"
            " ON CONFLICT (server) DO UPDATE SET number = excluded.number, hash = excluded.hash,"
            " signature = excluded.signature",
            {"server": self._server, "number": anchor.number, "hash": anchor.hash, "signature": anchor.signature},
        )
        await self._database.write(
            "DELETE FROM audit WHERE server = :server AND number <= :number",
            {"server": self._server, "number": anchor.number},
        )

    async def _pruned(self) -> None:
        self._added += 1
        if self._added % _PRUNE_EVERY == 1:
            try:
                await self.prune(self._clock() - self._keep_days * _DAY)
            except Unavailable:
                log.warning("old entries of the audit of %s could not be dropped", self._server)

    async def _last(self) -> tuple[int, str]:
        rows = await self._database.rows(
            "SELECT number, hash FROM audit WHERE server = :server ORDER BY number DESC LIMIT 1",
            {"server": self._server},
        )
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, GENESIS)

    async def _written(self, entry: Entry) -> bool:
        """False when another replica took the number."""
        rows = await self._database.rows(
            "INSERT INTO audit (server, number, at, tool, subject, body, before, hash)"
            " VALUES (:server, :number, :at, :tool, :subject, :body, :before, :hash)"
            " ON CONFLICT (server, number) DO NOTHING RETURNING number",
            {
                "server": entry.server,
                "number": entry.number,
                "at": entry.at,
                "tool": entry.event.tool[:128],
                "subject": entry.event.subject[:256],
                "body": canonical(entry.event),
                "before": entry.before,
                "hash": entry.hash,
            },
        )
        return bool(rows)

    def _entry(self, row: Row) -> Entry:
        number, at, body, before, hash_ = row
        event = Event.model_validate_json(body)
        return Entry(server=self._server, number=int(number), at=float(at), event=event, before=before, hash=hash_)

    def _signed(self, number: int, hash_: str) -> Head:
        bare = Head(self._server, number, hash_)
        return Head(self._server, number, hash_, self._key.sign(bare.message).hex())


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
    for entry in (e for e in entries if e.number > number):
        if entry.number != number + 1:
            found.append(f"Entries {number + 1} to {entry.number - 1} are missing.")
        elif entry.before != before:
            found.append(f"Entry {entry.number} does not follow from the one before it.")
        if entry.computed() != entry.hash:
            found.append(f"Entry {entry.number} was changed.")
        number, before = entry.number, entry.hash
        known[number] = before
    found += [fault for head in heads for fault in _against(head, known, number, anchor, key)]
    return found


def _against(
    head: Head, known: Mapping[int, str], last: int, anchor: Head | None, key: Ed25519PublicKey
) -> Iterator[str]:
    if head.signature and not head.signed_by(key):
        yield f"The head {head.number} is not signed by this server's audit key."
    elif head.number > last:
        yield f"The chain ends at entry {last}, but reached {head.number}: its tail was cut off."
    elif head.number in known and known[head.number] != head.hash:
        yield f"Entry {head.number} is not the one that the head was taken of."
    elif head.number not in known and (anchor is None or head.number > anchor.number):
        yield f"Entry {head.number}, of which the head was taken, is missing."


def _kept(event: Event) -> Event:
    """The event as it is written: redacted, cleaned, capped."""
    plain = redact_value(event.model_dump(mode="python"))
    for name in ("arguments", "state"):
        if len(canonical(plain[name])) > _TEXT_BYTES * 4:
            plain[name] = {"cut": cap_bytes(canonical(plain[name]), _TEXT_BYTES)}
    plain["text"] = cap_bytes(clean(plain["text"]), _TEXT_BYTES)
    return Event.model_validate(plain)
