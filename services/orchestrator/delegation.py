"""Passing a request on, and the agent's events back, unchanged."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from opswarm import telemetry
from opswarm.a2a.server import TurnInput
from opswarm.a2a.wire import AGENT_KEY, HISTORY_KEY, MODEL_KEY
from opswarm.agent.events import Delegated, Event, Failed, Finished, TextDelta
from opswarm.errors import AgentDown, InvalidInput, OpswarmError
from opswarm.guard.exchange import Exchange
from opswarm.mcp.client import bearer
from opswarm.models.chat import ChatModel
from opswarm.settings import Orchestrator
from opswarm.streams import read_ahead
from services.orchestrator import routing
from services.orchestrator.directory import Directory
from services.orchestrator.routing import Route

_AHEAD = 256
_SELF = "orchestrator"
_PASSED_ON = (HISTORY_KEY, MODEL_KEY)


class Delegation:
    """The orchestrator as a responder: finds the agents, delegates, and joins what they say."""

    def __init__(
        self, directory: Directory, exchange: Exchange, model: ChatModel, settings: Orchestrator, system: str
    ) -> None:
        self._directory = directory
        self._exchange = exchange
        self._model = model
        self._settings = settings
        self._system = system

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        route = await self._route(request)
        for name in route.agents:
            yield Delegated(agent=name, because=route.because)
        if len(route.agents) == 1:
            source = self._ask(route.agents[0], route.text, request)
        else:
            source = self._join(route, request)
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

    async def _ask(self, name: str, text: str, request: TurnInput) -> AsyncGenerator[Event, None]:
        agent = await self._directory.get(name)
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
            source = agent.ask(
                text,
                token=tokens.door,
                work_token=tokens.work,
                context_id=request.context_id,
                metadata={key: kept for key in _PASSED_ON if (kept := request.metadata.get(key)) is not None},
                deadline=self._settings.delegation_seconds,
            )
        outcome = "canceled"
        try:
            async with aclosing(source) as events:
                async for event in events:
                    if isinstance(event, Finished | Failed):
                        outcome = event.kind
                    yield event
        except AgentDown:
            self._directory.lost(name)
            outcome = AgentDown.code
            raise
        except OpswarmError as error:
            outcome = error.code
            raise
        finally:
            telemetry.DELEGATIONS.labels(name, outcome).inc()

    async def _join(self, route: Route, request: TurnInput) -> AsyncGenerator[Event, None]:
        """Asks several agents at the same time and gives their answers one after the other, each under its name."""
        failures: list[str] = []
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(read_ahead(self._told(name, route.text, request), _AHEAD))
                for name in route.agents
            ]
            for name, stream in zip(route.agents, streams, strict=True):
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
        if len(failures) == len(route.agents):
            yield Failed(code="agents_failed", message=" ".join(failures))
        else:
            yield Finished(notice=" ".join(failures))

    async def _told(self, name: str, text: str, request: TurnInput) -> AsyncGenerator[Event, None]:
        """As `_ask`, with an error told as an event."""
        try:
            async with aclosing(self._ask(name, text, request)) as events:
                async for event in events:
                    yield event
        except OpswarmError as error:
            yield Failed(code=error.code, message=str(error))


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
