"""What a person says to something that waits for them: structured, or in the exact words, and in no others.

No prose is searched: a message is an answer as a whole, or it is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opswarm.a2a.wire import APPROVALS_URI
from opswarm.errors import InvalidInput

MOST = 20
"""Answers in one message."""

_WORDS = re.compile(r"(approve|reject) ([a-z0-9]{1,32})(?: (.{1,500}))?")
_ID = re.compile(r"[a-z0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class Said:
    """A person's answer to the approval `id`; `digest` is that of what they were shown, or ""."""

    id: str
    approve: bool
    reason: str = ""
    digest: str = ""


def answers(text: str, metadata: Mapping[str, Any]) -> list[Said]:
    """The answers in a message: those of its metadata, or else the one that its text is; none in any other.

    Raises `InvalidInput` for metadata that is there and can't be read as answers.
    """
    if (given := metadata.get(APPROVALS_URI)) is not None:
        return _structured(given)
    found = _WORDS.fullmatch(text.strip())
    if found is None or (found[1] == "approve" and found[3]):
        return []  # A yes has nothing behind it: what would follow might be meant to change it.
    return [Said(found[2], found[1] == "approve", found[3] or "")]


def _structured(given: Any) -> list[Said]:
    listed = given.get("answers") if isinstance(given, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST:
        raise InvalidInput(f"{APPROVALS_URI} must hold 1 to {MOST} answers.")
    said = []
    for one in listed:
        given = one if isinstance(one, dict) else {}
        id, approve, reason, digest = (given.get(k) for k in ("id", "approve", "reason", "digest"))
        texts = isinstance(reason, str | None) and isinstance(digest, str | None)
        if not isinstance(id, str) or not _ID.fullmatch(id) or not isinstance(approve, bool) or not texts:
            raise InvalidInput("An answer is {id, approve: true or false, reason, digest}.")
        said.append(Said(id, approve, (reason or "")[:500], (digest or "")[:64]))
    if len({s.id for s in said}) != len(said):
        raise InvalidInput("An approval is answered once in a message.")
    return said
