"""Streams that tell that they are alive, and what came as soon as it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from opswarm.pacing import paced
from tests.support.hosting import until


class Source:
    """Gives numbers: those in `ready` at once, others when they are put. What became of it is kept."""

    def __init__(self, *ready: int, error: Exception | None = None, stay: bool = False) -> None:
        self.more: asyncio.Queue[int] = asyncio.Queue()
        self.given = 0
        self.closed = self.waited = False
        self._ready = ready
        self._error = error
        self._stay = stay

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for number in self._ready:
                self.given += 1
                yield number
            while self._stay:
                self.waited = True
                yield await self.more.get()
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


def summed(before: int, after: int) -> int | None:
    return before + after if after < 100 else None


async def test_everything_comes_in_its_order_and_the_source_is_closed() -> None:
    source = Source(*range(500))
    assert [n async for n in paced(source.items(), 10)] == list(range(500))
    assert source.closed


async def test_silence_is_told_and_then_what_came() -> None:
    source = Source(stay=True)
    async with aclosing(paced(source.items(), 0.01)) as items:
        assert await anext(items) is None
        assert await anext(items) is None
        source.more.put_nowait(1)
        assert [n async for n in _until_a_number(items)] == [1]
    assert source.closed


async def _until_a_number(items: AsyncGenerator[int | None, None]) -> AsyncGenerator[int, None]:
    async for item in items:
        if item is not None:
            yield item
            return


async def test_what_failed_is_told_after_what_came_before() -> None:
    came = []
    with pytest.raises(ValueError, match="gone"):
        async for number in paced(Source(1, 2, error=ValueError("gone")).items(), 10):
            came.append(number)
    assert came == [1, 2]


async def test_the_first_goes_alone_and_what_waits_goes_together() -> None:
    source = Source(*[1] * 20, 100, 1)
    came = [n async for n in paced(source.items(), 10, summed) if n is not None]
    assert came[0] == 1
    assert sum(came) == 121
    assert len(came) < 22


async def test_a_reader_that_takes_its_time_is_waited_for() -> None:
    source = Source(*[1] * 10_000)
    async with aclosing(paced(source.items(), 10, summed)) as items:
        total = await anext(items) or 0
        await asyncio.sleep(0.02)
        assert source.given < 200
        async for number in items:
            total += number or 0
    assert total == 10_000


async def test_who_leaves_closes_the_source() -> None:
    source = Source(1, stay=True)
    async with aclosing(paced(source.items(), 10)) as items:
        assert await anext(items) == 1
    assert source.closed


async def test_who_is_cancelled_while_waiting_closes_the_source() -> None:
    source = Source(stay=True)

    async def read() -> None:
        async with aclosing(paced(source.items(), 10)) as items:
            async for _ in items:
                pass

    reading = asyncio.create_task(read())
    await until(lambda: source.waited)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed


async def test_a_stream_that_is_let_go_of_does_not_stay() -> None:
    source = Source(1, stay=True)
    items = paced(source.items(), 10)
    assert await anext(items) == 1
    del items
    await until(lambda: source.closed)
