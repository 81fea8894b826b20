"""How an action is written: a tool function that plans, and three functions that do, look and check.

```python
async def scale(kind: ..., name: ..., namespace: ..., replicas: int) -> Plan: ...   # changes nothing

ToolSpec(scale, read_only=False, action=Action(perform, probe, verify, seconds=30, verify_seconds=120))
```

The tool function works out, from the world as it is, what the call would do. It is asked twice where a person is: for
what they are shown, and again right before it is done. The other three get an `Intent`, which is JSON and is written
down before the effect, so that each can be asked in another process than the one that planned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from opswarm.guard.limits import Touch
from opswarm.guard.risk import Risk


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call would do.

    `summary` is one sentence for a person, such as "Scale Deployment media/jellyfin from 1 to 3 replicas.". `preview`
    is what else they are shown before they say yes: facts and a diff, the same text as long as the world is the same
    in what matters (so no ages, no counters, no resource versions). `touches` are all the objects and files that it
    lays hands on, and `risk` what that amounts to. `state` is a JSON object that `perform`, `probe` and `verify` get:
    what was there before, uids, what makes the call the one that was planned. It is kept in the audit, redacted.
    """

    summary: str
    touches: tuple[Touch, ...]
    risk: Risk = Risk.RISKY
    preview: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intent:
    """One action that is to be done, or may have been: the call, and the `state` of its plan.

    `key` is its idempotency key, of at most 63 letters, digits and dashes; where the world can hold it (an annotation),
    `perform` leaves it there in the same write as the effect, for `probe` to find.
    """

    key: str
    tool: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Any] = field(default_factory=dict)


class Happened(StrEnum):
    """What the world says about an action that may have been broken off."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did: a sentence for a person, and what is there now (a JSON object, kept in the audit)."""

    text: str
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the effect came about, as a sentence that says what was seen. `ok` is None where it is not over yet."""

    ok: bool | None
    text: str


Perform = Callable[[Intent], Awaitable[Done]]
"""Does it, once. Raises `OpswarmError`: where it can't be told from that whether it was done, `probe` is asked."""

Probe = Callable[[Intent], Awaitable[Happened]]
"""Looks whether it was done, without changing anything. Raises `OpswarmError` when it can't look."""

Verify = Callable[[Intent], Awaitable[Verification]]
"""Waits for the effect, bounded by itself, and says what came of it. Raises `OpswarmError` when it can't look."""


_allowed: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("allowed", default=None)


async def may_go_on() -> None:
    """To be asked right before each request that changes something; the clients of the APIs do.

    Raises `PermissionDenied` where actions were paused since the one under way began: what is left of it is not for
    doing then.
    """
    check = _allowed.get()
    if check is not None:
        await check()


@contextmanager
def asking_before_writes(check: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """What is performed in the body, or in a task that is begun there, asks `check` by `may_go_on`."""
    token = _allowed.set(check)
    try:
        yield
    finally:
        _allowed.reset(token)


@dataclass(frozen=True, slots=True)
class Action:
    """What a tool that changes something has beside its planning function.

    `seconds` bounds `perform`, `verify_seconds` bounds `verify`; past them both are cut off.
    """

    perform: Perform
    probe: Probe
    verify: Verify
    seconds: float = 30.0
    verify_seconds: float = 120.0
