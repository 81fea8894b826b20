"""Asking the engine of this very process, as its own doors do: a task like any other, told as events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from a2a.utils.errors import A2AError, InternalError

from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.a2a.frames import told
from opswarm.agent.events import Event, Failed, Finished
from opswarm.errors import InvalidInput, OpswarmError, Unavailable
from opswarm.guard.untrusted import cap_bytes, clean

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
        """Follows a task that is there. Raises `InvalidInput` for one that has ended, or is not the owner's."""
        try:
            return cls(engine, await engine.listen(task_id, owner), owner)
        except A2AError as error:
            raise _translated(error) from error

    async def events(self) -> AsyncGenerator[Event, None]:
        """What the task tells, ending with `Finished` or `Failed`. Raises `OpswarmError` when it breaks off."""
        work, listener = self._taken.work, self._taken.listener
        if work is None or listener is None:
            raise InvalidInput("This task waits for an answer, and nobody works on it now.")
        while (frames := await listener.next()) is not None:
            for event in (e for f in frames for e in told(f)):
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


def _translated(error: A2AError) -> OpswarmError:
    kind = Unavailable if isinstance(error, InternalError) else InvalidInput
    return kind(cap_bytes(clean(str(error)), 400))


_at_work: set[asyncio.Task[None]] = set()
