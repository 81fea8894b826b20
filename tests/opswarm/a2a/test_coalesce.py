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
