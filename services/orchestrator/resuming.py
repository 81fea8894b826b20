"""Having a task go on that waited for a person: one of ours, or one of an agent that was asked directly."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from a2a.types import Message, Part, Role
from a2a.utils.errors import A2AError, UnsupportedOperationError
from pydantic import BaseModel, ConfigDict

from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.actions.proposals import Proposal
from opswarm.agent.events import ApprovalNeeded, ApprovalRequest
from opswarm.agent.pauses import Pauses
from opswarm.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from opswarm.guard import principal as principals
from opswarm.guard.exchange import Exchange
from opswarm.guard.principal import Principal
from opswarm.service import incoming_token, incoming_work
from services.orchestrator.approvals import Approvals
from services.orchestrator.directory import Directory

log = logging.getLogger(__name__)

_MOST_SECONDS = 3_600.0
_AGENT = "agent:"


class Child(BaseModel):
    """An agent's task that waits."""

    model_config = ConfigDict(frozen=True)

    agent: str
    task_id: str


class WaitingTask(BaseModel):
    """What one of our tasks waits with: for whom it works, and the agents' tasks that wait behind it.

    `round` counts how often it was parked: the message that resumes a child is named by it, so that it is the same
    message when it has to be sent again.
    """

    model_config = ConfigDict(frozen=True)

    principal: Principal
    children: tuple[Child, ...]
    requests: tuple[ApprovalRequest, ...]
    round: int = 0

    def waits_for(self, id: str) -> bool:
        return any(r.id == id for r in self.requests)


class Resuming:
    """Resumes tasks. `delegation_seconds` bounds what an agent that was asked directly is waited for."""

    def __init__(
        self,
        engine: Engine,
        pauses: Pauses[WaitingTask],
        approvals: Approvals,
        directory: Directory,
        exchange: Exchange,
        *,
        delegation_seconds: float,
    ) -> None:
        self._engine = engine
        self._pauses = pauses
        self._approvals = approvals
        self._directory = directory
        self._exchange = exchange
        self._seconds = delegation_seconds

    async def go_on(self, proposal: Proposal) -> None:
        """Has the task of an answered proposal go on, and waits for its end or its next pause.

        Raises `Unavailable` or `AgentDown` when it could not, and may later.
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
            await self._directly(asked_by, proposal)
            return
        if not paused.waits_for(proposal.id):
            return
        taken = await self.resume(asked_by.task, paused, proposal)
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
        """The task, at work; None where it has ended."""
        principal = paused.principal
        said = f"({proposal.summary} {proposal.state}{f' by {proposal.approver}' if proposal.approver else ''})"
        message = Message(
            message_id=f"answer-{proposal.id}-{proposal.state}-{paused.round}",
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

    async def _gone_on(self, task_id: str, id: str) -> None:
        try:
            paused = await self._pauses.find(task_id)
        except NotFound:
            return
        if paused.waits_for(id):
            raise Unavailable(f"The task of approval {id} has not gone on yet.", hint="It is tried again.")

    async def _directly(self, asked_by: Principal, proposal: Proposal) -> None:
        """The task is an agent's own: it was asked without us."""
        name = asked_by.acting.removeprefix(_AGENT)
        if not asked_by.acting.startswith(_AGENT) or name not in self._directory.names():
            return
        agent = await self._directory.get(name)
        person = asked_by.model_copy(update={"actors": asked_by.actors[1:], "task": ""})
        tokens = self._exchange.for_agent(person, name, asked_by.task)
        asking = agent.ask(
            f"({proposal.summary} {proposal.state})",
            token=tokens.door,
            work_token=tokens.work,
            task_id=asked_by.task,
            deadline=self._seconds,
        )
        try:
            async with aclosing(asking) as events:
                async for event in events:
                    if isinstance(event, ApprovalNeeded) and any(r.id == proposal.id for r in event.approvals):
                        raise Unavailable(f"The task of approval {proposal.id} has not gone on yet.")
        except InvalidInput as error:
            log.info("the task of approval %s is not resumed: %s", proposal.id, error)  # It ended, or is at work.
