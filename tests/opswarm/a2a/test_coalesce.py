from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from opswarm.a2a.coalesce import coalesced
from opswarm.agent.events import Event, Finished, TextDelta, ToolStarted


async def events(*given: Event | Exception) -> AsyncGenerator[Event, None]:
    for item in given:
        if isinstance(item, Exception):
            raise item
        yield item


async def test_the_first_delta_goes_at_once_and_the_rest_together() -> None:
    deltas = [TextDelta(text=t) for t in "abcdef"]
    out = [e async for e in coalesced(events(*deltas, Finished()))]
    assert [e.kind for e in out] == ["text", "text", "finished"]
    assert [e.text for e in out if isinstance(e, TextDelta)] == ["a", "bcdef"]


async def test_order_is_kept_around_other_events() -> None:
    tool = ToolStarted(call_id="1", tool="t")
    given = [TextDelta(text="a"), TextDelta(text="b"), tool, TextDelta(text="c"), TextDelta(text="d")]
    out = [e async for e in coalesced(events(*given))]
    assert [getattr(e, "text", e.kind) for e in out] == ["a", "b", "tool_started", "cd"]


async def test_an_error_comes_through_after_what_was_said() -> None:
    out: list[Event] = []
    with pytest.raises(ValueError):
        async for event in coalesced(events(TextDelta(text="a"), TextDelta(text="b"), ValueError("x"))):
            out.append(event)
    assert [e.text for e in out if isinstance(e, TextDelta)] == ["a", "b"]


async def test_leaving_early_closes_the_source() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield TextDelta(text="x")
                await asyncio.sleep(0)
        finally:
            closed.set()

    async for _ in (source := coalesced(endless())):
        break
    await source.aclose()
    assert closed.is_set()


async def test_nothing_is_lost_however_the_windows_fall() -> None:
    async def uneven() -> AsyncGenerator[Event, None]:
        for n in range(600):
            yield TextDelta(text=f"{n} ")
            if n % 7 == 0:
                await asyncio.sleep(0.0011)
            if n % 50 == 0:
                yield ToolStarted(call_id=str(n), tool="t")

    for window in (0.0005, 0.001, 0.002):
        out = [e async for e in coalesced(uneven(), window)]
        assert "".join(e.text for e in out if isinstance(e, TextDelta)) == "".join(f"{n} " for n in range(600))
        assert [e.call_id for e in out if isinstance(e, ToolStarted)] == [str(n) for n in range(0, 600, 50)]


async def test_a_reader_that_is_slow_holds_the_source_up() -> None:
    made = 0

    async def source() -> AsyncGenerator[Event, None]:
        nonlocal made
        for n in range(500):
            made += 1
            yield ToolStarted(call_id=str(n), tool="t")

    reading = coalesced(source())
    await anext(reading)
    await asyncio.sleep(0.02)
    assert made < 100
    assert len([e async for e in reading]) == 499
