"""The engine: takes messages, runs turns, keeps tasks, and lets any number listen.

A task is `Work` in memory while a turn is at it, and a row in the store before, between and after. The work belongs
to nobody who waits for it: clients leave, come back and are slow as they like. What a message does:

- a new one begins a task and a turn; sent again, now or later, it finds that task;
- one to a task that waits for input resumes it with a new turn; where that can't go on, since something it needs does
  not answer, the task waits as it did, as if the message had never come;
- one to a task that is being worked on is refused, as there is nobody to read it: the protocol lets an agent choose,
  and a message that is taken but not heeded would be worse. The same question in the same context begins a new task;
- one to a task that has ended is refused, as the protocol has it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from a2a.types import ListTasksRequest, ListTasksResponse, Message, Task, TaskState, TaskStatus
from a2a.utils.errors import (
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError

from opswarm import telemetry
from opswarm.a2a import wire
from opswarm.a2a.frames import StateFrame, TaskFrame, end_of, parked_frame
from opswarm.a2a.listener import Listener
from opswarm.a2a.messages import brought, check, text_of
from opswarm.a2a.responder import Responder, TurnInput
from opswarm.a2a.rpc import SAFE
from opswarm.a2a.work import Work
from opswarm.agent.events import EVENT, ApprovalNeeded, Failed, Finished, TextDelta
from opswarm.errors import DeadlineExceeded, OpswarmError, Unavailable
from opswarm.guard import principal as principals
from opswarm.guard.principal import Kind, Principal
from opswarm.models.chat import Message as Said
from opswarm.service import incoming_token, incoming_work
from opswarm.store.tasks import INTERRUPTED, TERMINAL, Tasks, answer_of, question_of

log = logging.getLogger(__name__)

_CLOSING = "The agent is being stopped. Ask again when it runs."
_STOPPED = "The agent was stopped while it worked on this. Ask again."
_BREATHER = 64
"""Events in a row after which others get their turn, should a responder never wait by itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """One message and who sent it. `metadata` is that of the request around the message."""

    message: Message
    owner: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a message: the work it began or joined with a listener to it, or a task that is at rest."""

    task: Task
    work: Work | None = None
    listener: Listener | None = None


async def forgotten(task: Task) -> None:
    """Nothing was kept for it."""


class Engine:
    """Runs the turns of one responder and keeps their tasks."""

    def __init__(
        self,
        name: str,
        responder: Responder,
        store: Tasks,
        ended: Callable[[Task], Awaitable[None]] = forgotten,
    ) -> None:
        """`ended` is told of each task that had waited and has ended, once its end is stored: what was kept for its
        going on can go. Killed in between it is not told."""
        self._ended = ended
        self._name = name
        self._responder = responder
        self._store = store
        self._works: dict[str, Work] = {}
        self._messages: dict[tuple[str, str], Work] = {}
        self._at_work: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def take(self, call: Call) -> Taken:
        """Begins, resumes or joins what the message is about; whoever takes the listener must `leave` it.

        Raises `A2AError` for what is refused, and `Unavailable` when nothing can be kept.
        """
        self._open()
        check(call.message)
        if call.message.task_id:
            return await self._follow_up(call)
        key = call.owner, call.message.message_id
        if (work := self._messages.get(key)) is not None:
            return await self._joined(work)
        task = _task_of(call.message)
        work = Work(task, call.owner)
        self._messages[key] = self._works[task.id] = work
        return await self._started(work, call, None)

    async def find(self, task_id: str, owner: str) -> Task:
        """The task as it is now. Raises `TaskNotFoundError`, also where it is another owner's."""
        self._open()
        work = self._works.get(task_id)
        if work is not None and work.owner == owner and work.begun.done():
            return work.snapshot()
        if (task := await self._store.get(task_id, owner)) is None:
            raise TaskNotFoundError(f"Task {task_id[:64]} not found")
        return task

    async def page(self, params: ListTasksRequest, owner: str) -> ListTasksResponse:
        """A page of the owner's tasks, those at work as they are now."""
        self._open()
        found = await self._store.list(params, owner)
        for task in found.tasks:
            if (work := self._works.get(task.id)) is not None:
                task.CopyFrom(work.snapshot())
        return found

    async def listen(self, task_id: str, owner: str) -> Taken:
        """Joins the work on a task. Raises `TaskNotFoundError`, or `UnsupportedOperationError` for one that ended."""
        work = self._works.get(task_id)
        if work is not None and work.owner == owner:
            return await self._joined(work)
        task = await self.find(task_id, owner)
        if task.status.state in TERMINAL:
            raise _ended(task)
        return Taken(task)

    async def cancel(self, task_id: str, owner: str) -> Task:
        """Ends a task. Raises `TaskNotFoundError`, or `TaskNotCancelableError` for one that ended by itself."""
        if task_id not in self._works or self._works[task_id].owner != owner:
            task = await self.find(task_id, owner)
            if task.status.state in TERMINAL:
                raise TaskNotCancelableError
            if task_id not in self._works:  # Unless it was resumed while the store was asked.
                resting = self._works[task_id] = Work(task, owner, resumed=True)
                resting.begun.set_result(None)
        work = self._works[task_id]
        await asyncio.shield(work.begun)
        if work.settling:
            await asyncio.shield(work.settled)
            raise TaskNotCancelableError
        ids = work.task.id, work.task.context_id
        event = Failed(code="canceled", message="Canceled.")
        frame = StateFrame(*ids, TaskState.TASK_STATE_CANCELED, event, text="Canceled.")
        telemetry.TURNS.labels(self._name, "canceled").inc()
        self._break_off(work, frame)
        await self._uninterrupted(self._finish(work))
        return work.task

    async def aclose(self) -> None:
        """Ends the work in flight; what is asked from now on is refused."""
        self._closing = True
        at_work = [w for w in self._works.values() if w.begun.done() and not w.settling]
        for work in at_work:
            self._break_off(work, _stopped(work))
        await asyncio.gather(*(self._finish(w) for w in at_work))
        if self._at_work:
            await asyncio.gather(*self._at_work, return_exceptions=True)

    async def _follow_up(self, call: Call) -> Taken:
        message = call.message
        task = await self.find(message.task_id, call.owner)
        if message.context_id and message.context_id != task.context_id:
            raise InvalidParamsError(
                f"Context {message.context_id} does not match context {task.context_id} of task {task.id}"
            )
        if task.id not in self._works and _holds(task, message):
            return Taken(task)
        if task.status.state in TERMINAL:
            raise _ended(task)
        if (work := self._works.get(task.id)) is not None and _holds(work.task, message):
            return await self._joined(work)
        if work is not None or task.status.state not in INTERRUPTED:
            raise UnsupportedOperationError(
                f"Task {task.id} is still being worked on. Wait for it, cancel it, or ask in its context alone."
            )
        resumes = Task()
        resumes.CopyFrom(task)
        said = task.history.add()
        said.CopyFrom(message)
        said.context_id = task.context_id
        task.status.Clear()
        task.ClearField("metadata")
        task.status.state = TaskState.TASK_STATE_WORKING
        resumed = self._works[task.id] = Work(task, call.owner, resumed=True)
        return await self._started(resumed, call, resumes)

    async def _started(self, work: Work, call: Call, resumes: Task | None) -> Taken:
        listener = work.listen(from_now=resumes is not None)
        work.running = asyncio.create_task(self._run(work, call, resumes))
        self._track(work.running)
        try:
            known = await asyncio.shield(work.begun)
        except BaseException:
            work.leave(listener)
            raise
        if known is not None:
            return Taken(known)
        return Taken(work.task, work, listener)

    async def _joined(self, work: Work) -> Taken:
        known = await asyncio.shield(work.begun)
        if known is not None:
            return Taken(known)
        if work.settling:
            await asyncio.shield(work.settled)
            return Taken(work.task)
        return Taken(work.task, work, work.listen())

    async def _run(self, work: Work, call: Call, resumes: Task | None) -> None:
        try:
            known = None
            if resumes is None:
                known = await self._store.begin(work.task, work.owner)
            # One that is resumed stays in the store as it waits, until its turn ends: broken off, it waits again.
        except Exception as error:  # Whoever sent the message is told; there is no task.
            self._forget(work)
            work.begun.set_exception(error)
            work.begun.exception()
            return
        if known is not None:
            self._forget(work)
            work.begun.set_result(known)
            return
        if resumes is None:
            work.tell(TaskFrame(work.task))
        work.tell(StateFrame(work.task.id, work.task.context_id, TaskState.TASK_STATE_WORKING))
        work.begun.set_result(None)
        try:
            last = _stopped(work) if self._closing else await self._turn(work, call, resumes)
        except asyncio.CancelledError:
            await self._uninterrupted(self._settle(work, _stopped(work)))
            raise
        await self._uninterrupted(self._settle(work, last))

    async def _turn(self, work: Work, call: Call, resumes: Task | None) -> StateFrame:
        ids = work.task.id, work.task.context_id
        started = time.monotonic()
        outcome: Finished | Failed | ApprovalNeeded
        try:
            outcome = await self._events(await self._input(work, call, resumes), work)
        except OpswarmError as error:
            outcome = self._broken(work, resumes, error)
        except Exception:  # The process boundary: the log gets the details, the client a sentence.
            log.exception("turn of task %s broke", work.task.id)
            outcome = Failed(code="internal", message=f"The {self._name} agent broke on this request; see its log.")
        seconds = time.monotonic() - started
        telemetry.TURNS.labels(self._name, outcome.kind).inc()
        telemetry.TURN_SECONDS.labels(self._name).observe(seconds)
        log.info("turn of task %s %s in %.2f s", work.task.id, outcome.kind, seconds)
        if isinstance(outcome, ApprovalNeeded):
            return parked_frame(*ids, outcome)
        return end_of(*ids, outcome)

    def _broken(self, work: Work, resumes: Task | None, error: OpswarmError) -> Failed | ApprovalNeeded:
        """A turn that raised has failed; but one that was to go on, and could not yet, waits as it did."""
        waits_for = parked_for(resumes) if resumes is not None else None
        if waits_for is None or not isinstance(error, Unavailable | DeadlineExceeded):
            return Failed(code=error.code, message=str(error))
        work.take(TextDelta(text=f"**Not yet:** {error}\n\n"))
        work.stays = True
        return waits_for

    async def _events(self, request: TurnInput, work: Work) -> Finished | Failed | ApprovalNeeded:
        count = 0
        async with aclosing(self._responder.respond(request)) as events:
            async for event in events:
                if isinstance(event, Finished | Failed | ApprovalNeeded):
                    return event  # The last frame tells it.
                work.take(event)
                count += 1
                if count % _BREATHER == 0:
                    await asyncio.sleep(0)
        return Failed(code="internal", message=f"The {self._name} agent stopped without an end.")

    async def _input(self, work: Work, call: Call, resumes: Task | None) -> TurnInput:
        message = call.message
        metadata = dict(call.metadata)
        if message.metadata.fields:
            metadata |= MessageToDict(message.metadata)
        history = brought(metadata.get(wire.HISTORY_KEY))
        if history is None:
            history = []
            if message.context_id or message.task_id:
                earlier = await self._store.conversation(work.task.context_id, work.owner)
                history = [m for e in earlier for m in (Said("user", e.question), Said("assistant", e.answer))]
        waits_for: ApprovalNeeded | None = None
        if resumes is not None:
            history += [Said("user", question_of(resumes)), Said("assistant", answer_of(resumes))]
            waits_for = parked_for(resumes)
        return TurnInput(
            text_of(message),
            work.task.id,
            work.task.context_id,
            principals.current() or Principal(kind=Kind.SERVICE, subject=work.owner),
            incoming_token.get(),
            tuple(m for m in history if m.content),
            metadata,
            incoming_work.get(),
            waits_for,
        )

    async def _settle(self, work: Work, last: StateFrame) -> None:
        """Ends or parks a task: stored first, told then. The first to decide how is the one who does."""
        if not work.settling:
            work.decide(last)
            await self._finish(work)

    def _break_off(self, work: Work, last: StateFrame) -> None:
        """Decides how a task ends and stops its turn, which does nothing more from here on."""
        work.decide(last)
        if work.running is not None:
            work.running.cancel()

    async def _finish(self, work: Work) -> None:
        try:
            if not work.stays:
                await self._store.save(work.task, work.owner)
                if work.resumed and work.task.status.state in TERMINAL:
                    await self._ended(work.task)
        except Exception:  # Whoever listens must hear the end, whatever became of the row.
            log.exception("the end of task %s could not be kept", work.task.id)
        self._forget(work)
        work.finish()

    def _forget(self, work: Work) -> None:
        if self._works.get(work.task.id) is work:
            del self._works[work.task.id]
        if work.task.history:
            key = work.owner, work.task.history[0].message_id
            if self._messages.get(key) is work:
                del self._messages[key]

    async def _uninterrupted(self, work: Coroutine[Any, Any, None]) -> None:
        """Goes on to its end when whoever waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._track(task)
        await asyncio.shield(task)

    def _track(self, task: asyncio.Task[Any]) -> None:
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    def _open(self) -> None:
        if self._closing:
            raise InternalError(_CLOSING, data={SAFE: "unavailable"})


def _task_of(message: Message) -> Task:
    """A new task, and in it the message under the task's ids."""
    task = Task(
        id=str(uuid.uuid4()),
        context_id=message.context_id or str(uuid.uuid4()),
        status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED),
        history=[message],
    )
    task.history[0].task_id = task.id
    task.history[0].context_id = task.context_id
    return task


def _holds(task: Task, message: Message) -> bool:
    return any(m.message_id == message.message_id for m in task.history)


def _ended(task: Task) -> UnsupportedOperationError:
    return UnsupportedOperationError(f"Task {task.id} is in terminal state: {TaskState.Name(task.status.state)}")


def _stopped(work: Work) -> StateFrame:
    if not work.settling:
        work.stays = work.resumed  # One that had been resumed waits again, as it does in the store.
    return end_of(work.task.id, work.task.context_id, Failed(code="unavailable", message=_STOPPED))


def parked_for(task: Task) -> ApprovalNeeded | None:
    """What a parked task waits for; None for any other."""
    if task.status.state not in INTERRUPTED:
        return None
    try:
        event = EVENT.validate_python(MessageToDict(task.metadata).get(wire.EVENTS_URI))
    except ValidationError:
        return None
    return event if isinstance(event, ApprovalNeeded) else None
