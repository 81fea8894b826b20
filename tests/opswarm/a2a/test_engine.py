"""The engine: what a message does to a task, and that no task is left at work."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from a2a.types import Message, Part, Role, Task, TaskState
from a2a.utils.errors import (
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.a2a.frames import Frame, TextFrame, told
from opswarm.a2a.responder import TurnInput
from opswarm.agent.events import ApprovalNeeded, ApprovalRequest, Event, Failed, Finished, TextDelta
from opswarm.errors import NotFound, OpswarmError, Unavailable
from opswarm.store import database
from opswarm.store.tasks import Tasks, answer_of
from tests.support.databases import locked
from tests.support.hosting import until

ANN, EVE = "person:ann", "person:eve"


ASKED = ApprovalNeeded(approvals=(ApprovalRequest(id="ap1", tool="scale", summary="Scale sonarr to 0?"),))


class Asker:
    """Asks for approval before it answers; some words make it do something else."""

    def __init__(self) -> None:
        self.seen: list[TurnInput] = []
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.down: OpswarmError | None = None

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        self.seen.append(request)
        if request.resumes is not None and self.down is not None:
            raise self.down
        if request.resumes is not None:
            yield TextDelta(text=f"{request.resumes.approvals[0].id} was answered: {request.text}")
            yield Finished()
            return
        if "wait" in request.text:
            yield TextDelta(text="waiting")
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if "spin" in request.text:
            while not self.release.is_set():
                yield TextDelta(text=".")
        if "ask" in request.text:
            yield TextDelta(text="I want to scale it. ")
            yield ASKED
            return
        yield TextDelta(text="done")
        yield Finished()


class Place:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.agent = Asker()
        self.store = Tasks(f"sqlite+aiosqlite:///{path}", "s")
        self.forgotten: list[str] = []
        self.engine = Engine("s", self.agent, self.store, self._ended)

    async def _ended(self, task: Task) -> None:
        kept = await self.store.get(task.id, ANN)
        assert kept is not None and kept.status.state == task.status.state  # It is stored by then.
        self.forgotten.append(task.id)

    async def send(self, text: str, owner: str = ANN, **ids: str) -> Taken:
        given = {"message_id": uuid.uuid4().hex, **ids}
        return await self.engine.take(Call(Message(role=Role.ROLE_USER, parts=[Part(text=text)], **given), owner))

    async def ended(self, taken: Taken) -> Task:
        if taken.work is not None:
            async with asyncio.timeout(10):
                await asyncio.shield(taken.work.settled)
        return await self.engine.find(taken.task.id, ANN)

    def states(self) -> set[int]:
        with sqlite3.connect(self.path) as connection:
            return {row[0] for row in connection.execute("SELECT state FROM tasks")}


@asynccontextmanager
async def place(path: Path) -> AsyncIterator[Place]:
    made = Place(path / "t.db")
    await made.store.open()
    try:
        yield made
    finally:
        await made.engine.aclose()
        await made.store.close()


async def heard(taken: Taken) -> list[Frame]:
    assert taken.listener is not None
    frames: list[Frame] = []
    async with asyncio.timeout(10):
        while (more := await taken.listener.next()) is not None:
            frames += more
    return frames


async def test_a_task_that_waits_for_input_is_parked_and_resumes_with_the_answer(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = await at.send("please ask")
        events = [e for f in await heard(first) for e in told(f)]
        parked = await at.ended(first)
        assert parked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert "Scale sonarr to 0?" in parked.status.message.parts[0].text
        assert events[-2:] == [ASKED, Finished(notice="The agent waits for an answer.")]
        assert not at.engine._works
        second = await at.send("yes", task_id=parked.id)
        frames = await heard(second)
        task = await at.ended(second)
    assert second.task.id == parked.id and task.status.state == TaskState.TASK_STATE_COMPLETED
    assert answer_of(task) == "I want to scale it. ap1 was answered: yes"
    assert [f.first for f in frames if isinstance(f, TextFrame)] == [False]
    assert [m.parts[0].text for m in task.history] == ["please ask", "yes"]
    resumed = at.agent.seen[-1]
    assert resumed.resumes == ASKED
    assert [m.content for m in resumed.history] == ["please ask", "I want to scale it. "]
    assert resumed.context_id == parked.context_id


async def test_a_parked_task_outlives_the_process(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        parked = await at.ended(await at.send("please ask"))
    async with place(tmp_path) as again:
        task = await again.ended(await again.send("yes", task_id=parked.id))
    assert "ap1 was answered" in answer_of(task) and task.status.state == TaskState.TASK_STATE_COMPLETED


async def test_a_task_that_cant_go_on_yet_waits_as_if_the_message_had_never_come(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        parked = await at.ended(await at.send("please ask"))
        at.agent.down = Unavailable("The lamps do not answer.")
        frames = await heard(await at.send("yes", task_id=parked.id, message_id="answer"))
        events = [e for f in frames for e in told(f)]
        assert TextDelta(text="**Not yet:** The lamps do not answer.\n\n") in events and ASKED in events
        still = await at.engine.find(parked.id, ANN)
        assert still == parked
        at.agent.down = None
        again = await at.ended(await at.send("yes", task_id=parked.id, message_id="answer"))
    assert again.status.state == TaskState.TASK_STATE_COMPLETED and "Not yet" not in answer_of(again)


async def test_a_task_that_fails_when_it_goes_on_has_failed(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        parked = await at.ended(await at.send("please ask"))
        at.agent.down = NotFound("What it waited with is gone.")
        again = await at.ended(await at.send("yes", task_id=parked.id))
    assert again.status.state == TaskState.TASK_STATE_FAILED and at.forgotten == [parked.id]


async def test_what_was_kept_for_a_task_goes_only_when_its_end_is_stored(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        done = await at.ended(await at.send("hello"))
        parked = await at.ended(await at.send("please ask"))
        canceled = await at.ended(await at.send("please ask"))
        assert at.forgotten == []
        await at.ended(await at.send("yes", task_id=parked.id))
        await at.engine.cancel(canceled.id, ANN)
    assert done.id not in at.forgotten and at.forgotten == [parked.id, canceled.id]


async def test_an_answer_sent_twice_resumes_once(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        parked = await at.ended(await at.send("please ask"))
        both = await asyncio.gather(*(at.send("yes", task_id=parked.id, message_id="answer") for _ in range(2)))
        for taken in both:
            await at.ended(taken)
        later = await at.send("yes", task_id=parked.id, message_id="answer")
    assert later.work is None and later.task.status.state == TaskState.TASK_STATE_COMPLETED
    assert len(at.agent.seen) == 2


async def test_a_parked_task_can_be_canceled(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        parked = await at.ended(await at.send("please ask"))
        with pytest.raises(TaskNotFoundError):
            await at.engine.cancel(parked.id, EVE)
        ended = await at.engine.cancel(parked.id, ANN)
        assert ended.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(TaskNotCancelableError):
            await at.engine.cancel(parked.id, ANN)
        with pytest.raises(UnsupportedOperationError, match="terminal"):
            await at.send("yes", task_id=parked.id)
    assert at.states() == {int(TaskState.TASK_STATE_CANCELED)}


async def test_an_answer_and_a_cancel_at_the_same_time_are_one_of_the_two(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        for _ in range(10):
            parked = await at.ended(await at.send("please ask"))
            await asyncio.gather(
                at.send("yes", task_id=parked.id), at.engine.cancel(parked.id, ANN), return_exceptions=True
            )
            await until(lambda: not at.engine._works)
            task = await at.engine.find(parked.id, ANN)
            assert task.status.state in (TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_CANCELED)


async def test_a_cancel_stops_the_work_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 300)
    async with place(tmp_path) as at:
        taken = await at.send("wait")
        await until(lambda: bool(at.agent.seen))
        with locked(at.path):
            canceling = asyncio.create_task(at.engine.cancel(taken.task.id, ANN))
            await asyncio.wait_for(at.agent.cancelled.wait(), 0.25)
            assert not canceling.done()
        await canceling
    assert at.states() == {int(TaskState.TASK_STATE_CANCELED)}


async def test_a_message_to_a_task_at_work_is_refused_at_once_and_not_kept(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        taken = await at.send("wait")
        with pytest.raises(UnsupportedOperationError, match="still being worked on"):
            await at.send("more", task_id=taken.task.id)
        with pytest.raises(InvalidParamsError, match="does not match"):
            await at.send("more", task_id=taken.task.id, context_id="another")
        with pytest.raises(TaskNotFoundError):
            await at.send("more", EVE, task_id=taken.task.id)
        at.agent.release.set()
        task = await at.ended(taken)
        with pytest.raises(UnsupportedOperationError, match="terminal"):
            await at.send("more", task_id=task.id)
    assert len(task.history) == len(at.agent.seen) == 1


async def test_the_same_message_joins_its_task_at_work_and_after(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first, second = await asyncio.gather(*(at.send("wait", message_id="same") for _ in range(2)))
        other = await at.send("wait", EVE, message_id="same")
        at.agent.release.set()
        assert [type(f).__name__ for f in (await heard(second))][:1] == ["TaskFrame"]
        await at.ended(first)
        later = await at.send("wait", message_id="same")
    assert first.task.id == second.task.id == later.task.id != other.task.id
    assert later.work is None and len(at.agent.seen) == 2


async def test_a_sender_that_leaves_before_the_task_is_kept_leaves_no_row_at_work(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        sending = asyncio.create_task(at.send("hello"))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait({sending})
        await until(lambda: not at.engine._works)
    assert at.states() == {int(TaskState.TASK_STATE_COMPLETED)}


async def test_a_cancel_and_the_end_at_the_same_time_are_one_of_the_two(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        for _ in range(20):
            taken = await at.send("hello")
            found, _ = await asyncio.gather(at.engine.cancel(taken.task.id, ANN), heard(taken), return_exceptions=True)
            task = await at.ended(taken)
            canceled = task.status.state == TaskState.TASK_STATE_CANCELED
            assert canceled or isinstance(found, TaskNotCancelableError)


async def test_a_stop_ends_what_is_at_work_and_refuses_what_comes(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        taken = await at.send("wait")
        async with asyncio.timeout(1):
            await at.engine.aclose()
        frames = await heard(taken)
        with pytest.raises(InternalError, match="being stopped"):
            await at.send("hello")
    end = frames[-1].event
    assert isinstance(end, Failed) and "was stopped" in end.message
    assert at.agent.cancelled.is_set() and at.states() == {int(TaskState.TASK_STATE_FAILED)}


async def test_a_responder_that_never_waits_lets_others_have_their_turn(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        spinning = await at.send("spin")
        async with asyncio.timeout(5):
            other = await at.ended(await at.send("hello"))
            at.agent.release.set()
            await at.ended(spinning)
    assert answer_of(other) == "done"


async def test_a_locked_database_leaves_no_task_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 50)
    async with place(tmp_path) as at:
        taken = await at.send("wait")
        with locked(at.path):
            with pytest.raises(Unavailable, match="can't be written"):
                await at.send("hello")
            at.agent.release.set()
            found = await at.ended(taken)
            assert found.status.state == TaskState.TASK_STATE_COMPLETED
        assert not at.engine._works and not at.engine._messages
        again = await at.ended(await at.send("hello"))
        assert again.status.state == TaskState.TASK_STATE_COMPLETED
    assert at.states() == {int(TaskState.TASK_STATE_COMPLETED)}


async def test_nothing_is_kept_in_memory_of_what_is_over(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        for n in range(20):
            await at.ended(await at.send("ask" if n % 2 else "hello"))
        await until(lambda: not at.engine._at_work)
        assert not at.engine._works and not at.engine._messages


async def test_a_source_is_closed_when_its_task_is_canceled(tmp_path: Path) -> None:
    closed = asyncio.Event()

    class Endless:
        async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
            async def inner() -> AsyncGenerator[Event, None]:
                try:
                    while True:
                        yield TextDelta(text="x")
                        await asyncio.sleep(0)
                finally:
                    closed.set()

            async with aclosing(inner()) as events:
                async for event in events:
                    yield event

    async with place(tmp_path) as at:
        engine: Any = Engine("s", Endless(), at.store)
        call = Call(Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="go")]), ANN)
        taken = await engine.take(call)
        await engine.cancel(taken.task.id, ANN)
        await asyncio.wait_for(closed.wait(), 5)
        await engine.aclose()
