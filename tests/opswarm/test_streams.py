"""Streams between tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from opswarm.streams import bounded, read_ahead


async def ticks(gap: float, *, broken: bool = False) -> AsyncGenerator[int, None]:
    for n in range(200):
        await asyncio.sleep(gap)
        if broken and n == 3:
            raise ValueError("three")
        yield n


async def test_the_deadline_interrupts_the_source_and_never_the_reader() -> None:
    seen: list[int] = []
    with pytest.raises(TimeoutError):
        async with aclosing(bounded(ticks(0.001), 0.1)) as items:
            async for item in items:
                seen.append(item)
                await asyncio.sleep(0.06)  # Where a deadline held around the whole loop would strike.
    assert 1 <= len(seen) <= 3


async def test_a_source_that_ends_in_time_is_given_whole() -> None:
    async def three() -> AsyncGenerator[int, None]:
        for n in range(3):
            yield n

    assert [n async for n in bounded(three(), 1)] == [0, 1, 2]


async def test_reading_ahead_waits_when_nobody_reads_and_hands_on_what_broke() -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="three"):
        async with read_ahead(ticks(0, broken=True), 1) as stream:
            await asyncio.sleep(0.02)
            async for item in stream:
                seen.append(item)
    assert seen == [0, 1, 2]


async def test_a_deadline_that_passes_while_the_buffer_is_full_ends_the_stream() -> None:
    seen: list[int] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5), read_ahead(bounded(ticks(0.001), 0.05), 4) as stream:
            await asyncio.sleep(0.2)
            async for item in stream:
                seen.append(item)
    assert len(seen) < 200


async def test_a_source_cancelled_by_somebody_else_ends_the_stream() -> None:
    async def doomed() -> AsyncGenerator[int, None]:
        yield 1
        raise asyncio.CancelledError

    async with asyncio.timeout(5), read_ahead(doomed(), 4) as stream:
        assert [n async for n in stream] == [1]
