"""Waiting for an effect: looked for again and again, with growing pauses, for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opswarm.actions.action import Verification
from opswarm.errors import DeadlineExceeded, Unavailable
from opswarm.mcp import progress

_FIRST, _LONGEST, _GROWTH = 0.5, 5.0, 1.5


@dataclass(frozen=True, slots=True)
class Time:
    """The clock that waits go by, in seconds, and how they pause."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def watched(look: Callable[[], Awaitable[Verification]], seconds: float, by: Time) -> Verification:
    """What `look` said when it was over (`ok` not None), or last before `seconds` were.

    A look that fails because the API server does not answer is taken again; raises its error when it was the last.
    """
    end, pause = by.clock() + seconds, _FIRST
    while True:
        seen: Verification | None = None
        try:
            seen = await look()
            progress.note(seen.text)
            if seen.ok is not None:
                return seen
        except (Unavailable, DeadlineExceeded):
            if by.clock() + pause > end:
                raise
        if by.clock() + pause > end and seen is not None:
            return seen
        await by.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST)
