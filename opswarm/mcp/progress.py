"""Progress notifications: a client that asked for them hears every two seconds that a call is at work, and with what.

A tool says what it is at with `note`, from anywhere below it; who listens is none of its business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opswarm.guard.redaction import redact
from opswarm.mcp.text import one_line

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
_LONGEST = 200

Tell = Callable[[float, float | None, str | None], Awaitable[None]]
"""Told (progress, total, message), as `Context.report_progress` is."""


@dataclass(slots=True)
class _Note:
    text: str = ""


_current: ContextVar[_Note | None] = ContextVar("progress", default=None)


def note(text: str) -> None:
    """What the call that is being served is doing just now, in a few words. Without one, or when nobody listens,
    nothing happens."""
    noted = _current.get()
    if noted is not None:
        noted.text = text


def wanted(request: Any) -> bool:
    """Whether whoever made the request (the SDK's request context) asked for progress."""
    return request.meta is not None and "progress_token" in request.meta


@asynccontextmanager
async def reported(tool: str, tell: Tell) -> AsyncIterator[None]:
    """While the body runs, `tell` hears how many seconds it has taken, and what it noted last."""
    noted = _Note()
    token = _current.set(noted)
    telling = asyncio.create_task(_telling(tool, tell, noted))
    try:
        yield
    finally:
        _current.reset(token)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _telling(tool: str, tell: Tell, noted: _Note) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        seconds = time.monotonic() - began
        message = f"{tool}: {seconds:.0f} s" + (f", {one_line(noted.text)[:_LONGEST]}" if noted.text else "")
        try:
            await tell(round(seconds, 1), None, redact(message))
        except Exception:  # Whoever has gone must not end the call, which ends by its own rules.
            log.info("progress of %s could not be told", tool, exc_info=True)
            return
