"""Having a task go on that waited for a person: one of ours, or one of an agent that was asked directly."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from a2a.types import Message, Part, Role, Task, TaskState
from a2a.utils.errors import A2AError, UnsupportedOperationError
from pydantic import BaseModel, ConfigDict, Field

from opswarm.a2a.engine import Call, Engine, Taken, parked_for
from opswarm.actions.proposals import Proposal
from opswarm.agent.events import ApprovalNeeded, ApprovalRequest
from opswarm.agent.pauses import Pauses
from opswarm.errors import Conflict, NotFound, OpswarmError, PermissionDenied, Unavailable
from opswarm.guard import principal as principals
from opswarm.guard.exchange import Exchange
from opswarm.guard.principal import Principal
from opswarm.service import incoming_token, incoming_work
from opswarm.store.tasks import INTERRUPTED, TERMINAL
from services.orchestrator.approvals import Approvals
from services.orchestrator.directory import Directory
from services.orchestrator.proofs import Proofs

log = logging.getLogger(__name__)

_MOST_SECONDS = 3_600.0
_AGENT = "agent:"
MOST_TASKS = 100
"""Of an agent's newest tasks for one person, among which the one is looked for that waits."""


class Child(BaseModel):
    """An agent's task that waits for `approvals`.

    `number` counts the messages that it has answered: the next one is named by it, so that it is the same message when
    it has to be sent again, as its answer was lost.
    """

    model_config = ConfigDict(frozen=True)

    agent: str
    task_id: str
    approvals: tuple[str, ...]
    number: int = 0


class WaitingTask(BaseModel):
    """What one of our tasks waits with: the proof of for whom it works, and the agents' tasks that wait behind it.

    `number` counts how often it was parked: the message that resumes it is named by it. `asked` counts how often it
    was for other approvals than before.
    """

    model_config = ConfigDict(frozen=True)

    proof: str = Field(repr=False)
    children: tuple[Child, ...]
    requests: tuple[ApprovalRequest, ...]
    number: int = 0
    asked: int = 0

    def waits_for(self, id: str) -> bool:
        return any(r.id == id for r in self.requests)


class Resuming:
    """Resumes tasks. `delegation_seconds` bounds what an agent that was asked directly is waited for."""

    def __init__(
        self,
        engine: Engine,
        pauses: Pauses[WaitingTask],
        approvals: Approvals,
        proofs: Proofs,
        directory: Directory,
        exchange: Exchange,
        *,
        delegation_seconds: float,
    ) -> None:
        self._engine = engine
        self._pauses = pauses
        self._approvals = approvals
        self._proofs = proofs
        self._directory = directory
        self._exchange = exchange
        self._seconds = delegation_seconds

    async def go_on(self, proposal: Proposal) -> None:
        """Has the task of an answered proposal go on, and waits for its end or its next pause.

        Raises `Unavailable` when it could not, and may later.
        """
        try:
            asked_by = self._approvals.asked_by(proposal)
        except PermissionDenied as error:
            log.warning("%s; its task is not resumed by itself", error)
            return
        if not asked_by.task:
            return  # Nothing waits: whoever called the tool calls it again.
        try:
            paused = await self._pauses.find(asked_by.task)
        except NotFound:
            if await self._not_parked(asked_by):
                await self._directly(asked_by, proposal)
            return
        if not paused.waits_for(proposal.id):
            # It may have been answered before its task is parked for it, which waited for another before.
            await self._not_parked(asked_by)
            try:
                paused = await self._pauses.find(asked_by.task)
            except NotFound:
                return
            if not paused.waits_for(proposal.id):
                return
        try:
            taken = await self.resume(asked_by.task, paused, proposal)
        except PermissionDenied as error:
            log.error("the task of approval %s is not resumed: %s", proposal.id, error)
            return
        if taken is None:
            return
        if taken.work is not None:
            if taken.listener is not None:
                taken.work.leave(taken.listener)
            async with asyncio.timeout(_MOST_SECONDS):
                await asyncio.shield(taken.work.settled)
        await self._gone_on(asked_by.task, proposal.id)

    async def waited_for(self) -> list[ApprovalRequest]:
        """All that our tasks wait for."""
        return [r for paused in await self._pauses.all() for r in paused.requests]

    async def resume(self, task_id: str, paused: WaitingTask, proposal: Proposal) -> Taken | None:
        """The task, at work; None where it has ended. Raises `PermissionDenied` where the pause is not to be trusted,
        and `Unavailable`."""
        principal = self._proofs.whose(paused.proof, task_id)
        said = f"({proposal.summary} {proposal.state}{f' by {proposal.approver}' if proposal.approver else ''})"
        message = Message(
            message_id=f"answer-{proposal.id}-{proposal.state}-{paused.number}",
            task_id=task_id,
            role=Role.ROLE_USER,
            parts=[Part(text=said)],
        )
        principals.set_current(principal)
        incoming_token.set("")
        incoming_work.set("")
        try:
            return await self._engine.take(Call(message, principal.subject))
        except UnsupportedOperationError:
            try:
                return await self._engine.listen(task_id, principal.subject)
            except UnsupportedOperationError:
                return None  # It has ended.
        except A2AError as error:
            raise Unavailable(f"The task of approval {proposal.id} could not be resumed.") from error

    async def wanted(self, proposal: Proposal) -> None:
        """Raises `Conflict` where the task that asked for it was cancelled: a yes would do nothing."""
        try:
            asked_by = self._approvals.asked_by(proposal)
            ours = await self._engine.find(asked_by.task, asked_by.subject)
        except (PermissionDenied, A2AError):
            return  # It is no task of ours.
        if ours.status.state == TaskState.TASK_STATE_CANCELED:
            raise Conflict(
                f"The task that asked for {proposal.id} was cancelled, so nobody waits for it any more.",
                hint=f"Nothing was done. `opswarm reject {proposal.id}` takes it off the list.",
            )

    async def ended(self, task: Task) -> None:
        """Forgets what a task waited with that has ended. What waits behind one that was broken off is cancelled."""
        try:
            paused = await self._pauses.find(task.id)
        except NotFound:
            return
        await self._pauses.drop(task.id)
        if task.status.state != TaskState.TASK_STATE_COMPLETED:
            await asyncio.gather(*(self._cancelled(c, paused, task.id) for c in paused.children))

    async def _cancelled(self, child: Child, paused: WaitingTask, task_id: str) -> None:
        try:
            agent = await self._directory.get(child.agent)
            tokens = self._exchange.for_agent(self._proofs.whose(paused.proof, task_id), child.agent, task_id)
        except OpswarmError as error:
            log.warning("task %s of %s is not cancelled: %s", child.task_id, child.agent, error)
            return
        await agent.cancel(child.task_id, tokens.door)

    async def _gone_on(self, task_id: str, id: str) -> None:
        try:
            paused = await self._pauses.find(task_id)
        except NotFound:
            return
        if paused.waits_for(id):
            raise Unavailable(f"The task of approval {id} has not gone on yet.", hint="It is tried again.")

    async def _not_parked(self, asked_by: Principal) -> bool:
        """Whether an agent's task may wait though no task of ours does. Raises `Unavailable` where one of ours is about
        to."""
        try:
            ours = await self._engine.find(asked_by.task, asked_by.subject)
        except A2AError:
            return True  # It is not ours: the agent was asked directly.
        if ours.status.state not in TERMINAL and ours.status.state not in INTERRUPTED:
            raise Unavailable("The task of the approval has not been parked yet.")
        return ours.status.state != TaskState.TASK_STATE_CANCELED

    async def _directly(self, asked_by: Principal, proposal: Proposal) -> None:
        """The task is an agent's own: it was asked without us, or ours has ended before it."""
        name = asked_by.acting.removeprefix(_AGENT)
        if not asked_by.acting.startswith(_AGENT) or name not in self._directory.names():
            return
        agent = await self._directory.get(name)
        person = asked_by.model_copy(update={"actors": asked_by.actors[1:], "task": ""})
        tokens = self._exchange.for_agent(person, name, asked_by.task)
        theirs = await agent.tasks(tokens.door, limit=MOST_TASKS)
        waiting = next((t for t in theirs if _waits_for(t, proposal.id)), None)
        if waiting is None:
            if any(t.id == asked_by.task and t.status.state == TaskState.TASK_STATE_WORKING for t in theirs):
                raise Unavailable("The task of the approval has not been parked yet.")
            if len(theirs) >= MOST_TASKS and not any(t.id == asked_by.task for t in theirs):
                raise Unavailable(
                    f"The task of the approval is not among the {MOST_TASKS} newest of {name} for this person.",
                    hint="A message to the task has it go on.",
                )
            return
        asking = agent.ask(
            f"({proposal.summary} {proposal.state})",
            token=tokens.door,
            work_token=tokens.work,
            task_id=waiting.id,
            message_id=f"answer-{proposal.id}-{proposal.state}",
            deadline=self._seconds,
        )
        async with aclosing(asking) as events:
            async for event in events:
                if isinstance(event, ApprovalNeeded) and any(r.id == proposal.id for r in event.approvals):
                    raise Unavailable(f"The task of approval {proposal.id} has not gone on yet.")


def _waits_for(task: Task, id: str) -> bool:
    needed = parked_for(task)
    return needed is not None and any(r.id == id for r in needed.approvals)
