"""Fewer, larger text events: the first delta goes at once, what follows within a short window goes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from opswarm.agent.events import Event, TextDelta

WINDOW_SECONDS = 0.02
"""Below what a reader notices, above the gap between a model's tokens (the performance guide allows 25 ms)."""

_AHEAD = 64


class _Joiner:
    """Takes events from one task, joins text until its window ends, and hands them to another."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[Event | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._held: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._spoke = False

    async def read(self, events: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(events) as source:
                async for event in source:
                    await self._take(event)
        finally:
            self._flush()
            self._ready.put_nowait(None)

    async def get(self) -> Event | None:
        """The next event; None when there are no more."""
        event = await self._ready.get()
        self._room.set()
        return event

    async def _take(self, event: Event) -> None:
        if isinstance(event, TextDelta) and self._spoke:
            self._held.append(event.text)
            if self._timer is None:
                self._timer = self._loop.call_later(self._window, self._flush)
        else:
            self._spoke = self._spoke or isinstance(event, TextDelta)
            self._flush()
            self._ready.put_nowait(event)
        while self._ready.qsize() >= _AHEAD:
            self._room.clear()
            await self._room.wait()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._ready.put_nowait(TextDelta(text="".join(self._held)))
            self._held = []


async def coalesced(events: AsyncGenerator[Event, None], window: float = WINDOW_SECONDS) -> AsyncGenerator[Event, None]:
    """The same events in the same order, neighbouring text deltas joined. Errors come through as they are."""
    joiner = _Joiner(window)
    reading = asyncio.create_task(joiner.read(events))
    try:
        while (event := await joiner.get()) is not None:
            yield event
        # The end mark is put as the reading ends, so this does not wait.
        if not reading.cancelled():
            await asyncio.wait((reading,))
            if not reading.cancelled() and (error := reading.exception()) is not None:
                raise error
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
