"""Fewer, larger text events: the first delta goes at once, what follows within a short window goes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from opswarm.agent.events import Event, TextDelta

WINDOW_SECONDS = 0.02
"""Below what a reader notices, above the gap between a model's tokens (the performance guide allows 25 ms)."""

_QUEUED = 64


async def coalesced(events: AsyncGenerator[Event, None], window: float = WINDOW_SECONDS) -> AsyncGenerator[Event, None]:
    """The same events in the same order, neighbouring text deltas joined. Errors come through as they are."""
    queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue(_QUEUED)

    async def pump() -> None:
        try:
            async with aclosing(events) as source:
                async for event in source:
                    await queue.put(event)
        except Exception as error:  # Handed on to whoever reads the events, who knows what to do with it.
            await queue.put(error)
        else:
            await queue.put(None)

    pumping = asyncio.create_task(pump())
    clock = asyncio.get_running_loop().time
    first = True
    held: Event | BaseException | None = None
    try:
        while True:
            item = held if held is not None else await queue.get()
            held = None
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, TextDelta) or first:
                first = first and not isinstance(item, TextDelta)
                yield item
                continue
            parts = [item.text]
            until = clock() + window
            ended = False
            while (left := until - clock()) > 0:
                try:
                    after = await asyncio.wait_for(queue.get(), left)
                except TimeoutError:
                    break
                if isinstance(after, TextDelta):
                    parts.append(after.text)
                    continue
                held, ended = after, after is None
                break
            yield TextDelta(text="".join(parts))
            if ended:
                return
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
