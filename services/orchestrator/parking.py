"""Tasks that wait for people: the approvals that agents ask the orchestrator for, and the answers to them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from opswarm.a2a.frames import TaskFrame, told
from opswarm.a2a.responder import TurnInput
from opswarm.actions.proposals import Proposal
from opswarm.agent.events import ApprovalNeeded, ApprovalRequest, Event, Failed, Finished, TextDelta
from opswarm.agent.pauses import Pauses
from opswarm.errors import OpswarmError
from services.orchestrator.answers import Said
from services.orchestrator.approvals import Approvals
from services.orchestrator.resuming import Child, Resuming, WaitingTask

log = logging.getLogger(__name__)

_ROUNDS = 20
"""How often one task may be parked. What asks for more is going round in circles."""


@dataclass(slots=True)
class Waits:
    """What the agents of one request wait for, as it comes in."""

    children: list[Child] = field(default_factory=list)
    requests: list[ApprovalRequest] = field(default_factory=list)

    def add(self, agent: str, task_id: str, needed: ApprovalNeeded) -> None:
        self.children.append(Child(agent=agent, task_id=task_id))
        self.requests += needed.approvals


class Parking:
    """Parks tasks and takes the answers to what they wait for. `begin` has an approval waited for, durably."""

    def __init__(
        self,
        approvals: Approvals,
        pauses: Pauses[WaitingTask],
        begin: Callable[[str, float], Awaitable[None]],
    ) -> None:
        self._approvals = approvals
        self._pauses = pauses
        self._begin = begin
        self.resuming: Resuming | None = None

    async def kept(self, request: TurnInput, before: WaitingTask | None, waits: Waits) -> Event:
        """The event with which the request ends, since somebody has to answer first: what is shown is what the tool
        servers have, not what the agent said. Raises as `Approvals.find` does."""
        requests = tuple(await self._approvals.requests(waits.requests))
        number = before.round + 1 if before is not None else 0
        if number > _ROUNDS:
            return Failed(code="limit_exceeded", message="This task asked for approvals too often. Ask anew.")
        principal = before.principal if before is not None else request.principal
        children = tuple({c.task_id: c for c in waits.children}.values())
        await self._pauses.keep(
            request.task_id,
            WaitingTask(principal=principal, children=children, requests=requests, round=number),
        )
        for one in requests:
            await self._begin(one.id, one.expires)
        return ApprovalNeeded(approvals=requests)

    async def find(self, task_id: str) -> WaitingTask:
        """Raises `NotFound`."""
        return await self._pauses.find(task_id)

    async def drop(self, task_id: str) -> None:
        await self._pauses.drop(task_id)

    async def take(self, request: TurnInput, said: list[Said]) -> AsyncGenerator[Event | Proposal, None]:
        """Takes answers, and tells what became of each: a sentence, and the proposal where it was taken."""
        for one in said:
            try:
                taken = await self._approvals.answer(
                    one.id, request.principal, approve=one.approve, reason=one.reason, digest=one.digest
                )
            except OpswarmError as error:
                yield TextDelta(text=f"{error}\n\n")
                continue
            yield TextDelta(text=f"`{taken.id}` {taken.state}: {taken.summary}\n\n")
            yield taken

    async def elsewhere(self, request: TurnInput, said: list[Said]) -> AsyncGenerator[Event, None]:
        """Answers given in a task of their own, as a chat client gives them: what waited goes on, and is told here
        where it is the same person's."""
        async with aclosing(self.take(request, said)) as taken:
            async for found in taken:
                if isinstance(found, Proposal):
                    async for event in self._followed(request, found):
                        yield event
                else:
                    yield found
        yield Finished()

    async def _followed(self, request: TurnInput, proposal: Proposal) -> AsyncGenerator[Event, None]:
        try:
            asked_by = self._approvals.asked_by(proposal)
            paused = await self._pauses.find(asked_by.task)
        except OpswarmError:
            yield TextDelta(text="What asked for it goes on.\n\n")
            return
        if self.resuming is None or paused.principal.subject != request.principal.subject:
            yield TextDelta(text="What asked for it goes on in its own task.\n\n")
            return
        joined = await self.resuming.resume(asked_by.task, paused, proposal)
        if joined is None or joined.work is None or joined.listener is None:
            yield TextDelta(text="What asked for it has gone on.\n\n")
            return
        try:
            while (frames := await joined.listener.next()) is not None:
                for event in (e for f in frames if not isinstance(f, TaskFrame) for e in told(f)):
                    match event:
                        case ApprovalNeeded():
                            yield TextDelta(text=event.text())
                        case Failed(message=message):
                            yield TextDelta(text=f"**It failed:** {message}")
                        case Finished():
                            pass
                        case _:
                            yield event
        finally:
            joined.work.leave(joined.listener)
