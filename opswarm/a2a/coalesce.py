"""Fewer, larger text events: the first delta goes at once, what follows within a short window goes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from anyio import EndOfStream

from opswarm.agent.events import Event, TextDelta
from opswarm.streams import read_ahead

WINDOW_SECONDS = 0.02
"""Below what a reader notices, above the gap between a model's tokens (the performance guide allows 25 ms)."""

_AHEAD = 64


async def coalesced(events: AsyncGenerator[Event, None], window: float = WINDOW_SECONDS) -> AsyncGenerator[Event, None]:
    """The same events in the same order, neighbouring text deltas joined. Errors come through as they are."""
    clock = asyncio.get_running_loop().time
    first = True
    async with read_ahead(events, _AHEAD) as stream:
        held: Event | None = None
        while True:
            try:
                item = held if held is not None else await stream.receive()
            except EndOfStream:
                break
            held = None
            if not isinstance(item, TextDelta) or first:
                first = first and not isinstance(item, TextDelta)
                yield item
                continue
            parts = [item.text]
            until = clock() + window
            try:
                async with asyncio.timeout_at(until):
                    while isinstance(after := await stream.receive(), TextDelta):
                        parts.append(after.text)
                held = after
            except (TimeoutError, EndOfStream):
                pass  # The window is over, or the source is: the next receive says which.
            yield TextDelta(text="".join(parts))
