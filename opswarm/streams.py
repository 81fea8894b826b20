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
    deadline = _Deadline(seconds)
    try:
        async with aclosing(source) as items:
            while True:
                try:
                    item = await deadline.keep(items)
                except StopAsyncIteration:
                    return
                yield item
    finally:
        deadline.cancel()


class _Deadline:
    """One timer for all items, where `asyncio.timeout` would be one for each."""

    def __init__(self, seconds: float) -> None:
        self._passed = False
        self._waiting: asyncio.Task[object] | None = None
        self._struck = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._strike)

    async def keep(self, items: AsyncGenerator[T, None]) -> T:
        """The next item. Raises `TimeoutError` when the deadline passes before it is there."""
        if self._passed:
            raise TimeoutError
        task = self._waiting = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            return await anext(items)
        except asyncio.CancelledError:
            # Cancelled by somebody else as well, it stays a cancellation.
            if self._struck and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def cancel(self) -> None:
        self._timer.cancel()

    def _strike(self) -> None:
        self._passed = True
        if self._waiting is not None:
            self._struck = True
            self._waiting.cancel()


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
