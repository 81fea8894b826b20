"""Event streams between tasks: read ahead by one task, read by another, and bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")


async def bounded(source: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T, None]:
    """The same items. Raises `TimeoutError` when the source has not ended within `seconds`.

    Only the source is interrupted, and only while it is waited for: never the reader.
    """
    until = asyncio.get_running_loop().time() + seconds
    async with aclosing(source) as items:
        while True:
            try:
                async with asyncio.timeout_at(until):
                    item = await anext(items)
            except StopAsyncIteration:
                return
            yield item


@asynccontextmanager
async def read_ahead(source: AsyncGenerator[T, None], most: int) -> AsyncIterator[MemoryObjectReceiveStream[T]]:
    """The source, read by a task of its own that is never more than `most` items ahead.

    The stream ends when the source does, however it does; what the source raised is then raised here.
    """
    sender, receiver = anyio.create_memory_object_stream[T](most)

    async def read() -> None:
        async with sender, aclosing(source) as items:
            async for item in items:
                await sender.send(item)

    reading = asyncio.create_task(read())
    try:
        yield receiver
        if reading.done() and not reading.cancelled() and (error := reading.exception()) is not None:
            raise error
    finally:
        reading.cancel()
        receiver.close()
        await asyncio.gather(reading, return_exceptions=True)
