"""Asking the engine of this very process, as its own doors do: a task like any other, told as events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence

from a2a.types import StreamResponse
from a2a.utils.errors import A2AError, InternalError, UnsupportedOperationError

from opswarm.a2a import wire
from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.a2a.frames import Frame, TaskFrame, told
from opswarm.agent.events import Event, Failed, Finished, TextDelta
from opswarm.errors import InvalidInput, OpswarmError, Unavailable
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.store.tasks import answer_of

log = logging.getLogger(__name__)


class Asked:
    """One task that is followed. Stop following with `leave`: the work goes on, unless `cancel` ends it."""

    def __init__(self, engine: Engine, taken: Taken, owner: str) -> None:
        self._engine = engine
        self._taken = taken
        self._owner = owner
        self._cancelling: asyncio.Task[None] | None = None
        self.task_id = taken.task.id
        self.context_id = taken.task.context_id
        self.ended = False

    @classmethod
    async def begin(cls, engine: Engine, call: Call) -> Asked:
        """Sends a message. Raises `InvalidInput` when the engine refuses it."""
        try:
            return cls(engine, await engine.take(call), call.owner)
        except A2AError as error:
            raise _translated(error) from error

    @classmethod
    async def join(cls, engine: Engine, task_id: str, owner: str) -> Asked:
        """Follows a task that is there, or gives what one that has ended said.

        Raises `InvalidInput` for one that is not the owner's.
        """
        try:
            try:
                return cls(engine, await engine.listen(task_id, owner), owner)
            except UnsupportedOperationError:  # It has ended.
                return cls(engine, Taken(await engine.find(task_id, owner)), owner)
        except A2AError as error:
            raise _translated(error) from error

    async def events(self) -> AsyncGenerator[Event, None]:
        """What the task tells, all that it said before included, ending with `Finished` or `Failed`.

        Raises `OpswarmError` when it breaks off.
        """
        listener = self._taken.listener
        if listener is None:
            self.ended = True
            for event in wire.Reader().read(StreamResponse(task=self._taken.task)):
                yield event
            return
        while (frames := await listener.next()) is not None:
            for event in (e for f in frames for e in _told(f)):
                self.ended = isinstance(event, Finished | Failed)
                yield event
                if self.ended:
                    return
        raise OpswarmError("The answer broke off before its end.", hint="Ask again.")

    def leave(self) -> None:
        if self._taken.work is not None and self._taken.listener is not None:
            self._taken.work.leave(self._taken.listener)

    def cancel(self) -> None:
        """Ends the task, if it has not ended. On its own: whoever calls this is mostly being cancelled itself."""
        if not self.ended and self._cancelling is None:
            self._cancelling = asyncio.create_task(self._cancel())
            _at_work.add(self._cancelling)
            self._cancelling.add_done_callback(_at_work.discard)

    async def _cancel(self) -> None:
        try:
            await self._engine.cancel(self.task_id, self._owner)
        except A2AError:
            return  # It has ended by itself.
        except OpswarmError as error:
            log.warning("task %s could not be cancelled: %s", self.task_id, error)


def _told(frame: Frame) -> Sequence[Event]:
    """The events of a frame. The task as it is, which comes first, holds what was said before."""
    if isinstance(frame, TaskFrame):
        text = answer_of(frame.task)
        return (TextDelta(text=text),) if text else ()
    return told(frame)


def _translated(error: A2AError) -> OpswarmError:
    kind = Unavailable if isinstance(error, InternalError) else InvalidInput
    return kind(cap_bytes(clean(str(error)), 400))


_at_work: set[asyncio.Task[None]] = set()
