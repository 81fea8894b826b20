"""Telling a waiting client that its reply is still being worked on, and what came of it as soon as it did."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")

KEEP_ALIVE_SECONDS = 15.0
"""How long a stream may be silent before it says that it is alive: well below the minute of usual proxies."""

_MOST_AHEAD = 64
_SLICE_SECONDS = 0.005
"""For how long a source that need not wait is read on before its reader gets a turn: what comes in it goes together."""


def _apart(before: T, after: T) -> T | None:
    return None


async def paced(
    source: AsyncGenerator[T, None], seconds: float, joined: Callable[[T, T], T | None] = _apart
) -> AsyncGenerator[T | None, None]:
    """What `source` gives, and None whenever `seconds` went by without one. Closes `source` at its end.

    One task reads it, at most 64 items ahead. Of two items that wait, `joined` may make one.
    """
    loop = asyncio.get_running_loop()
    waiting: deque[T] = deque()
    news, room = asyncio.Event(), asyncio.Event()
    ahead, ended = 0, False

    async def read() -> None:
        nonlocal ahead, ended
        turn = 0.0
        try:
            async with aclosing(source):
                async for item in source:
                    both = joined(waiting[-1], item) if waiting else None
                    if both is None:
                        waiting.append(item)
                    else:
                        waiting[-1] = both
                    ahead += 1
                    news.set()
                    if ahead >= _MOST_AHEAD:
                        room.clear()
                        await room.wait()
                    elif loop.time() - turn > _SLICE_SECONDS:
                        await asyncio.sleep(0)
                        turn = loop.time()
        finally:
            ended = True
            news.set()

    reading = asyncio.create_task(read())
    try:
        while not ended or waiting:
            if waiting:
                yield waiting.popleft()
                if not waiting:
                    ahead = 0
                    room.set()
                continue
            news.clear()
            alarm = loop.call_later(seconds, news.set)
            try:
                await news.wait()
            finally:
                alarm.cancel()
            if not waiting and not ended:
                yield None
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
