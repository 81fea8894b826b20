"""Tasks that wait for people: the approvals that agents ask the orchestrator for, and the answers to them."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from opswarm.a2a.frames import TaskFrame, told
from opswarm.a2a.responder import TurnInput
from opswarm.actions.proposals import Proposal, State
from opswarm.agent.events import ApprovalNeeded, ApprovalRequest, Event, Failed, Finished, TextDelta
from opswarm.agent.pauses import Pauses
from opswarm.errors import NotFound, OpswarmError, Unavailable
from opswarm.guard.principal import Principal
from services.orchestrator.answers import Said
from services.orchestrator.approvals import Approvals, request_of
from services.orchestrator.proofs import Proofs
from services.orchestrator.resuming import Child, Resuming, WaitingTask

log = logging.getLogger(__name__)

_MOST_ASKED = 20
"""How often one task may ask for other approvals. What asks for more is going round in circles."""

_UNCHECKED = "What it is can't be shown now, as its tool server can't be asked. `opswarm approvals` shows it later."


@dataclass(slots=True)
class Waits:
    """What the agents of one request wait for, as it comes in. `before` is what the request's task waited with."""

    before: WaitingTask | None = None
    children: dict[str, Child] = field(default_factory=dict)
    requests: dict[str, ApprovalRequest] = field(default_factory=dict)

    def add(self, agent: str, task_id: str, needed: ApprovalNeeded, number: int) -> None:
        """What an agent says that its task waits for, in answer to message `number` of this task."""
        ids = tuple(r.id for r in needed.approvals)
        self.children[task_id] = Child(agent=agent, task_id=task_id, approvals=ids, number=number)
        self.requests |= {r.id: r for r in needed.approvals}

    def again(self, child: Child) -> None:
        """A child that could not go on: it waits as it did."""
        self.children[child.task_id] = child
        if self.before is not None:
            self.requests |= {r.id: r for r in self.before.requests if r.id in child.approvals}

    @property
    def unchanged(self) -> bool:
        """Whether it is all as before: none that waited has ended, and none waits for anything else."""
        return (
            self.before is not None
            and self.requests.keys() == {r.id for r in self.before.requests}
            and self.children.keys() == {c.task_id for c in self.before.children}
        )


class Parking:
    """Parks tasks and takes the answers to what they wait for. `begin` has an approval waited for, durably."""

    def __init__(
        self,
        approvals: Approvals,
        pauses: Pauses[WaitingTask],
        proofs: Proofs,
        begin: Callable[[str, float], Awaitable[None]],
    ) -> None:
        self._approvals = approvals
        self._pauses = pauses
        self._proofs = proofs
        self._begin = begin
        self.resuming: Resuming | None = None

    async def kept(self, request: TurnInput, waits: Waits) -> Event:
        """The event with which the request ends, since somebody has to answer first: what is shown is what the tool
        servers have, not what the agent said.

        Raises `NotFound` for an approval that no tool server knows.
        """
        requests = tuple([await self._request(one, waits) for one in waits.requests.values()])
        before = waits.before
        known = {r.id for r in before.requests} if before is not None else set()
        asked = (before.asked if before is not None else 0) + (not waits.requests.keys() <= known)
        if asked > _MOST_ASKED:
            return Failed(code="limit_exceeded", message="This task asked for approvals too often. Ask anew.")
        proof = before.proof if before is not None else self._proofs.sign(request.principal, request.task_id)
        children = tuple(waits.children.values())
        await self._pauses.keep(
            request.task_id,
            WaitingTask(
                proof=proof,
                children=children,
                requests=requests,
                number=before.number + 1 if before is not None else 0,
                asked=asked,
            ),
        )
        for one in requests:
            await self._begin(one.id, one.expires)
        return ApprovalNeeded(approvals=requests)

    async def stay(self, request: TurnInput, waits: Waits) -> None:
        """Keeps a task that waits for the same as before, though its agents were told to go on.

        Raises `Unavailable`, always: the task goes on later.
        """
        assert waits.before is not None
        children = tuple(waits.children.values())
        await self._pauses.keep(request.task_id, waits.before.model_copy(update={"children": children}))
        names = ", ".join(sorted({c.agent for c in children}))
        raise Unavailable(f"What {names} waits for can't be done at the moment.", hint="It is tried again by itself.")

    async def _request(self, said: ApprovalRequest, waits: Waits) -> ApprovalRequest:
        try:
            return request_of(await self._approvals.find(said.id))
        except Unavailable as error:
            log.warning("approval %s can't be looked at: %s", said.id, error)
        for known in waits.before.requests if waits.before is not None else ():
            if known.id == said.id:
                return known
        # What the agent says of it is not shown to anybody, nor may it keep it from being waited for.
        return ApprovalRequest(id=said.id, summary=_UNCHECKED, expires=max(said.expires, time.time()))

    async def answered(self, paused: WaitingTask) -> set[str]:
        """The ids of what it need not wait for any more: somebody answered, it has expired, or it is gone.

        Raises `Unavailable` where none is known to be, but some can't be looked at.
        """
        found: set[str] = set()
        lost: Unavailable | None = None
        for one in paused.requests:
            try:
                proposal = await self._approvals.find(one.id)
            except NotFound:
                found.add(one.id)
            except Unavailable as error:
                lost = error
            else:
                if proposal.state is not State.WAITING:
                    found.add(one.id)
        if lost is not None and not found:
            raise lost
        return found

    def whose(self, task_id: str, paused: WaitingTask) -> Principal:
        """For whom a task that waits works. Raises `PermissionDenied` where that is not proven."""
        return self._proofs.whose(paused.proof, task_id)

    async def find(self, task_id: str) -> WaitingTask:
        """Raises `NotFound`."""
        return await self._pauses.find(task_id)

    async def take(
        self, request: TurnInput, said: list[Said], shown: Sequence[ApprovalRequest] = ()
    ) -> AsyncGenerator[Event | Proposal, None]:
        """Takes answers, and tells what became of each: a sentence, and the proposal where it was taken.

        `shown` is what was shown in this task: an answer that does not say what it is for is for that.
        """
        digests = {s.id: s.digest for s in shown}
        for one in said:
            digest = one.digest or digests.get(one.id, "")
            try:
                taken = await self._approvals.answer(
                    one.id, request.principal, approve=one.approve, reason=one.reason, digest=digest
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
            whose = self.whose(asked_by.task, paused)
        except OpswarmError:
            yield TextDelta(text="What asked for it goes on.\n\n")
            return
        if self.resuming is None or whose.subject != request.principal.subject:
            yield TextDelta(text="What asked for it goes on in its own task.\n\n")
            return
        try:
            joined = await self.resuming.resume(asked_by.task, paused, proposal)
        except Unavailable as error:
            log.warning("%s", error)
            yield TextDelta(text="What asked for it goes on later, in its own task.\n\n")
            return
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
