"""One task at work: how text goes together, and who hears what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from a2a.types import Message, Part, Role, Task, TaskState, TaskStatus

from opswarm.a2a.frames import Frame, StateFrame, TaskFrame, TextFrame, end_of
from opswarm.a2a.listener import MOST_WAITING, Listener
from opswarm.a2a.work import Work
from opswarm.agent.events import Finished, TextDelta, ToolStarted
from opswarm.store.tasks import answer_of


def work(window: float = 0.02) -> Work:
    said = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="q")])
    task = Task(id="t", context_id="c", status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED), history=[said])
    return Work(task, "person:x", window=window)


def tool(n: int = 0) -> ToolStarted:
    return ToolStarted(call_id=str(n), tool="t")


def end(made: Work) -> None:
    made.decide(end_of("t", "c", Finished()))
    made.finish()


async def heard(listener: Listener) -> list[Frame]:
    frames: list[Frame] = []
    while (more := await listener.next()) is not None:
        frames += more
    return frames


def shown(frames: Sequence[Frame]) -> list[str]:
    return [f.text if isinstance(f, TextFrame) else f.event.kind if f.event else type(f).__name__ for f in frames]


async def test_the_first_text_goes_at_once_and_the_rest_together() -> None:
    made = work()
    listener = made.listen(from_now=False)
    for letter in "abcdef":
        made.take(TextDelta(text=letter))
    assert shown(await listener.next() or ()) == ["a"]
    assert shown(await listener.next() or ()) == ["bcdef"]
    end(made)


async def test_order_is_kept_around_other_events() -> None:
    made = work()
    listener = made.listen(from_now=False)
    for event in (TextDelta(text="a"), TextDelta(text="b"), tool(), TextDelta(text="c"), TextDelta(text="d")):
        made.take(event)
    end(made)
    frames = await heard(listener)
    assert shown(frames) == ["a", "b", "tool_started", "cd", "finished"]
    assert [f.first for f in frames if isinstance(f, TextFrame)] == [True, False, False]
    assert answer_of(made.task) == "abcd"


async def test_nothing_is_lost_however_the_windows_fall() -> None:
    for window in (0.0005, 0.001, 0.002):
        made = work(window)
        hearing = asyncio.create_task(heard(made.listen(from_now=False)))
        for n in range(600):
            made.take(TextDelta(text=f"{n} "))
            if n % 7 == 0:
                await asyncio.sleep(0.0011)
            if n % 50 == 0:
                made.take(tool(n))
        end(made)
        frames = await hearing
        whole = "".join(f"{n} " for n in range(600))
        assert "".join(f.text for f in frames if isinstance(f, TextFrame)) == whole == answer_of(made.task)
        calls = [f.event.call_id for f in frames if isinstance(f.event, ToolStarted)]
        assert calls == [str(n) for n in range(0, 600, 50)]


async def test_who_comes_later_gets_the_task_as_it_is_and_then_the_same_as_all() -> None:
    made = work()
    early = made.listen(from_now=False)
    made.take(TextDelta(text="one "))
    made.take(TextDelta(text="two "))
    late = made.listen()
    made.take(tool())
    made.take(TextDelta(text="three"))
    end(made)
    first, *rest = await heard(late)
    assert isinstance(first, TaskFrame) and answer_of(first.proto()) == "one two "
    assert shown(rest) == ["tool_started", "three", "finished"]
    assert shown(await heard(early)) == ["one ", "two ", "tool_started", "three", "finished"]


async def test_a_reader_that_is_slow_keeps_nobody_and_loses_no_text() -> None:
    made = work(window=0)
    slow = made.listen()
    for n in range(20_000):
        made.take(tool(n))
        made.take(TextDelta(text=f"{n} "))
    assert len(slow._frames) <= MOST_WAITING
    end(made)
    frames = await heard(slow)
    assert "".join(f.text for f in frames if isinstance(f, TextFrame)) == answer_of(made.task)
    assert isinstance(frames[0], TaskFrame) and isinstance(frames[-1], StateFrame)
    newest = [f.event.call_id for f in frames if isinstance(f.event, ToolStarted)][-1]
    assert newest == "19999" and len(frames) <= MOST_WAITING + 2


async def test_who_left_is_told_nothing_more() -> None:
    made = work()
    listener = made.listen(from_now=False)
    made.leave(listener)
    made.take(TextDelta(text="a"))
    assert not listener._frames


async def test_silence_is_told_and_the_end_is_the_end() -> None:
    listener = Listener()
    assert await listener.next(0.01) == ()
    listener.end()
    assert await listener.next(5) is None


async def test_what_comes_after_the_end_was_decided_is_not_taken() -> None:
    made = work()
    listener = made.listen(from_now=False)
    made.decide(end_of("t", "c", Finished()))
    made.take(TextDelta(text="late"))
    made.finish()
    assert shown(await heard(listener)) == ["finished"] and not answer_of(made.task)


async def test_half_a_character_is_no_reason_to_lose_an_answer() -> None:
    made = work()
    hearing = asyncio.create_task(heard(made.listen(from_now=False)))
    made.take(TextDelta(text="a\ud800b"))
    made.take(ToolStarted(call_id="\udfff", tool="t"))
    made.decide(end_of("t", "c", Finished(notice="\ud800")))
    made.finish()
    assert all(f.json() and f.proto() for f in await hearing)
    assert answer_of(made.task) == "a?b"
