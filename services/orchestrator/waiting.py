"""What waits for people, durably: one workflow an approval, from when it is seen until its task has gone on.

The tool servers know what was answered; the workflow sleeps until it is, or until it expires, and then has the task
resumed, as often as that takes. Kill this process, the agent or the tool server at any instant: once they are back the
task goes on, and the action is done once, which is the tool server's part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from dbos import DBOS, SetWorkflowID

from opswarm.actions.proposals import Proposal, State
from opswarm.errors import NotFound, OpswarmError
from opswarm.settings import Settings
from opswarm.workflows import forget_ended, interruptible, outside, workflows
from services.orchestrator.approvals import Approvals
from services.orchestrator.resuming import Resuming

log = logging.getLogger(__name__)

_VERSION = "approvals-2"
"""Of the shape of the workflow below. It is in the workflows' ids: another shape begins what waits anew."""

_LOOK_SECONDS = 300.0
"""How often a workflow looks by itself, should the word that it was answered be lost."""

_SWEEP_SECONDS = 30.0
"""How often the tool servers are asked what waits that no one told of, such as for an agent that was asked directly."""

_FIRST_SECONDS = 1.0
"""After this it is tried again to have a task go on, and then after twice as long, up to `_LOOK_SECONDS`."""

_GIVE_UP_SECONDS = 86_400.0
"""For how long after an approval has expired its task is tried to go on. A message to the task still has it go on."""

_TIDY_SECONDS = 3_600.0
_GONE = "gone"
_TOPIC = "answered"


class ApprovalWorkflows:
    """The workflows of one orchestrator. One in a process, as DBOS is."""

    def __init__(self, settings: Settings, approvals: Approvals, resuming: Resuming) -> None:
        self._settings = settings
        self._approvals = approvals
        self._resuming = resuming

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Goes on with what waited before, and takes what comes. Raises `Unavailable` with its database."""
        global _desk
        _desk = self
        self._approvals.answered = self.answered
        # It stays when this ends: a workflow that has no desk would end for good, and be gone on with never.
        async with workflows(self._settings, "orchestrator", _VERSION):
            sweeping = asyncio.create_task(self._sweep())
            try:
                yield
            finally:
                sweeping.cancel()
                with suppress(asyncio.CancelledError):
                    await sweeping

    async def begin(self, id: str, expires: float) -> None:
        """Waits for the approval from now on; nothing when it does already."""
        with SetWorkflowID(_name(id)):
            await DBOS.start_workflow_async(approval, id, expires)

    async def answered(self, proposal: Proposal) -> None:
        """Wakes the workflow of an approval that somebody answered."""
        await self.begin(proposal.id, proposal.expires)
        await DBOS.send_async(_name(proposal.id), proposal.state.value, _TOPIC, idempotency_key=proposal.id)

    async def look(self, id: str) -> str:
        """The approval's state, or "gone"; `waiting` when it can't be known."""
        try:
            return (await self._approvals.find(id)).state.value
        except NotFound:
            return _GONE
        except OpswarmError as error:
            log.warning("approval %s can't be looked at: %s", id, error)
            return State.WAITING.value

    async def go_on(self, id: str) -> bool:
        """Has the task of an answered approval go on. False where it could not yet."""
        try:
            await self._resuming.go_on(await self._approvals.find(id))
        except NotFound:
            return True  # Nobody can go on with what is gone.
        except OpswarmError as error:
            log.warning("the task of approval %s can't go on yet: %s", id, error)
            return False
        except Exception:  # The workflow's boundary: whatever broke, it is tried again.
            log.exception("the task of approval %s can't go on yet", id)
            return False
        return True

    async def _sweep(self) -> None:
        tidied = -_TIDY_SECONDS
        while True:
            try:
                if time.monotonic() - tidied >= _TIDY_SECONDS:
                    tidied = time.monotonic()
                    await forget_ended(self._settings.keep_days)
                found, _ = await self._approvals.waiting()
                # Our own tasks too: what they wait for may be answered, by a process that did not get further.
                own = await self._resuming.waited_for()
                for one in own:
                    await self.begin(one.id, one.expires)
                for proposal in found:
                    await self.begin(proposal.id, proposal.expires)
            except Exception:  # The loop's boundary: what fails now is tried again.
                log.exception("what waits could not be swept up")
            await asyncio.sleep(_SWEEP_SECONDS)


def _name(id: str) -> str:
    return f"{_VERSION}-{id}"


_desk: ApprovalWorkflows | None = None
"""Workflows are found by name after a restart, so they are functions of the module; this is what they work with."""


def _at_desk() -> ApprovalWorkflows:
    assert _desk is not None  # Set before the first workflow is gone on with.
    return _desk


@DBOS.step(name="look")
async def look(id: str) -> str:
    return await outside(_at_desk().look(id))


@DBOS.step(name="seconds_left")
async def seconds_left(expires: float) -> float:
    return expires - time.time()


@DBOS.step(name="go_on")
async def go_on(id: str) -> bool:
    return await outside(_at_desk().go_on(id))


@DBOS.workflow(name="approval", max_recovery_attempts=None)  # However often it is started again.
async def approval(id: str, expires: float) -> str:
    """Sleeps until the approval is answered or has expired, then has its task go on. Gives the state."""
    with interruptible():
        while (state := await look(id)) == State.WAITING.value:
            left = await seconds_left(expires)
            if left < -_GIVE_UP_SECONDS:
                return "not known"
            await DBOS.recv_async(_TOPIC, timeout_seconds=min(max(left, 0.0) + 1.0, _LOOK_SECONDS))
        if state == _GONE:
            return state
        pause = _FIRST_SECONDS
        while not await go_on(id):
            if await seconds_left(expires) < -_GIVE_UP_SECONDS:
                return "not gone on"
            await DBOS.sleep_async(pause)
            pause = min(pause * 2, _LOOK_SECONDS)
        return state
