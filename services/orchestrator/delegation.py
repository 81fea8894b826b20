"""Passing a request on, and the agent's events back, unchanged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from opswarm import telemetry
from opswarm.a2a.client import RemoteAgent
from opswarm.a2a.server import TurnInput
from opswarm.a2a.wire import AGENT_KEY, HISTORY_KEY, MODEL_ASKS_KEY, MODEL_KEY
from opswarm.actions.proposals import Proposal
from opswarm.agent.events import ApprovalNeeded, Delegated, Event, Failed, Finished, TextDelta
from opswarm.errors import (
    AgentDown,
    DeadlineExceeded,
    InvalidInput,
    OpswarmError,
    PermissionDenied,
    Unavailable,
)
from opswarm.guard.exchange import Exchange
from opswarm.mcp.client import bearer
from opswarm.models.chat import ChatModel
from opswarm.settings import Orchestrator
from opswarm.store.tasks import TERMINAL
from opswarm.streams import read_ahead
from services.orchestrator import routing
from services.orchestrator.answers import Said, answers
from services.orchestrator.directory import Directory
from services.orchestrator.parking import Parking, Waits
from services.orchestrator.resuming import MOST_TASKS, Child, WaitingTask
from services.orchestrator.routing import Route

_AHEAD = 256
_SELF = "orchestrator"
_PASSED_ON = (HISTORY_KEY, MODEL_KEY)


class Delegation:
    """The orchestrator as a responder: finds the agents, delegates, and joins what they say."""

    def __init__(
        self,
        directory: Directory,
        exchange: Exchange,
        model: ChatModel,
        settings: Orchestrator,
        system: str,
        parking: Parking | None = None,
    ) -> None:
        """Without `parking` nothing waits for people here, as no tool server of the swarm has actions."""
        self._directory = directory
        self._exchange = exchange
        self._model = model
        self._settings = settings
        self._system = system
        self._parking = parking

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        waits = Waits()
        if request.resumes is not None and self._parking is not None:
            waits.before = await self._parking.find(request.task_id)
        source = self._source(request, waits)
        end: Event | None = None
        async with aclosing(source) as events:
            async for event in events:
                if isinstance(event, Finished | Failed):
                    end = event
                    break
                yield event
        if waits.children and self._parking is not None:
            if waits.unchanged and end is not None:  # Its agents were told to go on, and wait as they did.
                await self._parking.stay(request, waits)
            yield await self._parking.kept(request, waits)
        elif end is not None:
            yield end

    def _source(self, request: TurnInput, waits: Waits) -> AsyncGenerator[Event, None]:
        if self._parking is None:
            return self._started(request, waits)
        said = answers(request.text, request.metadata)
        if said and request.metadata.get(MODEL_ASKS_KEY):
            raise PermissionDenied(
                "An approval can't be given through a tool that a model calls.",
                hint="The person answers with `opswarm approve ID` or `opswarm reject ID`.",
                rule="approval.person",
            )
        if waits.before is not None:
            return self._resumed(request, self._parking, waits.before, said, waits)
        return self._parking.elsewhere(request, said) if said else self._started(request, waits)

    async def _started(self, request: TurnInput, waits: Waits) -> AsyncGenerator[Event, None]:
        route = await self._route(request)
        for name in route.agents:
            yield Delegated(agent=name, because=route.because)
        if len(route.agents) == 1:
            source = self._ask(route.agents[0], route.text, request, waits)
        else:
            source = self._join([(name, None) for name in route.agents], route.text, request, waits)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _resumed(
        self, request: TurnInput, parking: Parking, paused: WaitingTask, said: list[Said], waits: Waits
    ) -> AsyncGenerator[Event, None]:
        """Takes the answers, if the message has any, and has the agents that waited go on."""
        async with aclosing(parking.take(request, said, paused.requests)) as taken:
            async for found in taken:
                if not isinstance(found, Proposal):
                    yield found
        # It goes on for whoever asked for it, whoever answered.
        ours = replace(request, principal=parking.whose(request.task_id, paused))
        answered = await parking.answered(paused)
        going = [c for c in paused.children if answered & set(c.approvals)]
        for child in paused.children:
            if child not in going:
                waits.again(child)
        if not going:
            yield TextDelta(text="Nobody has answered yet.\n\n")
            return
        if len(going) == len(paused.children) == 1:
            source = self._ask(going[0].agent, request.text, ours, waits, going[0])
        else:
            # What becomes of one of several is told, and keeps the others from nothing.
            source = self._join([(c.agent, c) for c in going], request.text, ours, waits)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _route(self, request: TurnInput) -> Route:
        named = str(request.metadata.get(AGENT_KEY) or request.metadata.get("opswarm/path_agent") or "")
        names = tuple(n for n in (p.strip().lower() for p in named.split(",")) if n and n != _SELF)
        text = request.text
        if not names:
            names, text = routing.mentioned(request.text)
        if names:
            if len(names) > self._settings.max_fan_out:
                raise InvalidInput(f"At most {self._settings.max_fan_out} agents can be asked at once.")
            for name in names:
                await self._directory.get(name)
            return Route(names, text, "it was named")
        return await self._place(request)

    async def _place(self, request: TurnInput) -> Route:
        cards = {a.name: a.card for a in self._directory.alive()}
        if not cards:
            await self._directory.refresh()
            cards = {a.name: a.card for a in self._directory.alive()}
        if not cards:
            raise AgentDown("No agent answers.", hint="`opswarm agents` says which are dead.")
        if len(cards) == 1:
            return Route((next(iter(cards)),), request.text, "it is the only agent")
        scored = routing.scores(request.text, cards)
        if name := routing.sure(scored):
            return Route((name,), request.text, "its skills fit")
        token = self._exchange.for_work(request.principal, _SELF, request.task_id)
        bearer.set(lambda: token)
        choice = await routing.choose(
            request.text,
            cards,
            self._model,
            self._system,
            seconds=self._settings.routing_seconds,
            most=self._settings.max_fan_out,
        )
        if choice is not None:
            return Route(tuple(choice.agents), request.text, f"a model chose it: {choice.reason}")
        best = max(scored, key=lambda n: (scored[n], n == self._settings.default_agent))
        return Route((best,), request.text, "it fits best by its skills")

    async def _ask(
        self, name: str, text: str, request: TurnInput, waits: Waits, resumed: Child | None = None
    ) -> AsyncGenerator[Event, None]:
        agent = await self._directory.get(name)
        task_id = resumed.task_id if resumed is not None else ""
        door = ""

        def begun(task: str, context: str) -> None:
            nonlocal task_id
            task_id = task

        if (outside := self._directory.outside(name)) is not None:
            # Another's agent gets the question and its own token: nothing with which it could act here.
            source = _said(
                agent.ask(
                    text,
                    token=outside.bearer(),
                    context_id=request.context_id,
                    deadline=self._settings.delegation_seconds,
                )
            )
        else:
            tokens = self._exchange.for_agent(request.principal, name, request.task_id)
            door = tokens.door
            source = agent.ask(
                text,
                token=door,
                work_token=tokens.work,
                context_id="" if resumed is not None else request.context_id,
                task_id=task_id,
                message_id=f"resume-{request.task_id}-{resumed.number}" if resumed is not None else "",
                started=begun,
                metadata={key: kept for key in _PASSED_ON if (kept := request.metadata.get(key)) is not None},
                deadline=self._settings.delegation_seconds,
            )
        outcome = "canceled"
        try:
            async with aclosing(source) as events:
                async for event in events:
                    if isinstance(event, ApprovalNeeded):
                        waits.add(name, task_id, event, resumed.number + 1 if resumed is not None else 0)
                        continue
                    if isinstance(event, Finished | Failed):
                        outcome = event.kind
                    yield event
        except AgentDown:
            self._directory.lost(name)
            outcome = AgentDown.code
            raise
        except OpswarmError as error:
            outcome = error.code
            if resumed is not None and isinstance(error, InvalidInput) and await _at_work(agent, door, resumed):
                raise Unavailable(f"The {name} agent is at work on this already.") from error
            raise
        finally:
            telemetry.DELEGATIONS.labels(name, outcome).inc()

    async def _join(
        self, asked: Sequence[tuple[str, Child | None]], text: str, request: TurnInput, waits: Waits
    ) -> AsyncGenerator[Event, None]:
        """Asks several agents at the same time, or has their tasks go on, and gives their answers one after the other,
        each under its name."""
        failures: list[str] = []
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(
                    read_ahead(self._told(name, text, request, waits, child), _AHEAD)
                )
                for name, child in asked
            ]
            for (name, _), stream in zip(asked, streams, strict=True):
                yield TextDelta(text=f"## {name}\n\n")
                end: Event = Failed(code="internal", message="It stopped without an end.")
                async for event in stream:
                    if isinstance(event, Finished | Failed):
                        end = event
                        break
                    yield event
                if isinstance(end, Failed):
                    failures.append(f"{name}: {end.message}")
                    yield TextDelta(text=f"**The {name} agent failed:** {end.message}")
                yield TextDelta(text="\n\n")
        if len(failures) == len(asked):
            yield Failed(code="agents_failed", message=" ".join(failures))
        else:
            yield Finished(notice=" ".join(failures))

    async def _told(
        self, name: str, text: str, request: TurnInput, waits: Waits, resumed: Child | None
    ) -> AsyncGenerator[Event, None]:
        """As `_ask`, with an error told as an event; a task that was to go on, and could not yet, waits as it did."""
        try:
            async with aclosing(self._ask(name, text, request, waits, resumed)) as events:
                async for event in events:
                    yield event
        except OpswarmError as error:
            if resumed is not None and isinstance(error, Unavailable | DeadlineExceeded):
                waits.again(resumed)
                yield TextDelta(text=f"**Not yet:** {error}")
                yield Finished()
                return
            yield Failed(code=error.code, message=str(error))


async def _at_work(agent: RemoteAgent, door: str, child: Child) -> bool:
    """Whether a task that did not take a message is being worked on, by another message."""
    theirs = await agent.tasks(door, limit=MOST_TASKS)
    return any(t.id == child.task_id and t.status.state not in TERMINAL for t in theirs)


async def _said(source: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """What another's agent says: its words and its end. What ours alone may tell, such as an approval that is needed,
    a tool call or an error's code, is not taken from it."""
    async with aclosing(source) as events:
        async for event in events:
            match event:
                case TextDelta() | Finished():
                    yield event
                case Failed(message=message):
                    yield Failed(code="agent_failed", message=message)
