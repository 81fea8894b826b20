"""An agent as a service, put together from the kit: what every specialist has in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import httpx
from a2a.types import AgentCard

from opswarm.a2a.server import A2AServer, TurnInput
from opswarm.a2a.wire import MODEL_KEY
from opswarm.agent.events import Event
from opswarm.agent.pauses import Pauses
from opswarm.agent.toolbox import Toolbox
from opswarm.agent.turn import PausedTurn, TurnLoop, TurnRequest, out_of_time
from opswarm.errors import InvalidInput, OpswarmError, Unavailable
from opswarm.fetch import Fetcher
from opswarm.guard.exchange import ExchangeClient
from opswarm.guard.follower import service_follower
from opswarm.guard.keys import ServiceToken, verifier
from opswarm.guard.principal import Kind
from opswarm.guard.tokens import AUDIENCE_PERSON, turn_audience
from opswarm.mcp.client import PooledToolbox, ToolServerClient, bearer
from opswarm.models.chat import ToolCall
from opswarm.models.client import GatewayClient
from opswarm.models.playbook import Playbook
from opswarm.service import Check, Service
from opswarm.settings import AgentModels, Settings, Turn
from opswarm.store.tasks import Tasks


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What rules decide before a model is asked: the calls to make first, and sentences to open with."""

    calls: tuple[ToolCall, ...] = ()
    notes: tuple[str, ...] = ()


Rules = Callable[[TurnInput, Toolbox], Awaitable[FirstLook]]


async def no_rules(request: TurnInput, tools: Toolbox) -> FirstLook:
    """For an agent whose model picks every tool."""
    return FirstLook()


def prompt(package: str, name: str) -> str:
    """A prompt from a service's `prompts/` folder."""
    return files(package).joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")


class ToolAgent:
    """Answers with a model and the tools of some tool servers."""

    def __init__(
        self,
        loop: TurnLoop,
        servers: Sequence[ToolServerClient],
        exchange: ExchangeClient,
        limits: Turn,
        *,
        system: str,
        rules: Rules,
        models: AgentModels,
        pauses: Pauses[PausedTurn],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._servers = servers
        self._exchange = exchange
        self._system = system
        self._rules = rules
        self._models = models
        self._pauses = pauses

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        clock = asyncio.get_running_loop().time
        until = clock() + self._limits.max_seconds
        paused = await self._pauses.find(request.task_id) if request.resumes is not None else None
        async with self._exchange.turn(request.token, request.task_id, work=request.work_token) as token:
            bearer.set(token)
            try:
                async with asyncio.timeout_at(until):
                    tools, turn = await self._prepared(request, paused)
            except TimeoutError:
                raise out_of_time(self._limits) from None
            keep = partial(self._pauses.keep, request.task_id)
            if paused is None:
                source = self._loop.run(turn, tools, seconds=until - clock(), pause=keep)
            else:
                source = self._loop.resume(turn, paused, tools, seconds=until - clock(), pause=keep)
            async with aclosing(source) as events:
                async for event in events:
                    yield event

    async def _prepared(self, request: TurnInput, paused: PausedTurn | None) -> tuple[Toolbox, TurnRequest]:
        """The tools there are, and the turn with what the rules want looked at first."""
        tools = await PooledToolbox.open(self._servers)
        notes = [f"**Not available:** {error}" for error in tools.missing]
        look = FirstLook()
        if paused is None:
            try:
                look = await self._rules(request, tools)
            except OpswarmError as error:
                look = FirstLook(notes=(f"**Not available:** {error}",))
        turn = TurnRequest(
            run=request.task_id,
            system=self._system,
            question=request.text if paused is None else paused.question,
            history=request.history,
            first_calls=look.calls,
            model=_asked_for(request) or self._models.model,
            steps={} if _asked_for(request) else self._models.steps,
            notes=(*notes, *look.notes),
        )
        return tools, turn


def _asked_for(request: TurnInput) -> str:
    """The tier or model that the request names, or "". Raises `InvalidInput` for what is no name."""
    name = request.metadata.get(MODEL_KEY, "")
    if not isinstance(name, str) or len(name) > 200 or any(c.isspace() or not c.isprintable() for c in name):
        raise InvalidInput("The model that the request names is no name.", hint="Use a tier or a LiteLLM name.")
    return name


def _turn_token() -> str:
    held = bearer.get()
    return held() if held is not None else ""


def agent_service(
    settings: Settings, name: str, card: AgentCard, *, tool_servers: Sequence[str], system: str, rules: Rules
) -> Service:
    """The service of one specialist agent. `tool_servers` are those that it calls where the settings name no others."""
    tool_servers = settings.tool_servers.get(name, tool_servers)
    store = Tasks(settings.database(name), name, executor=settings.executor, keep_days=settings.keep_days)
    http = httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=False)
    servers = [ToolServerClient(s, settings.address(s), settings.toolsets.get(s, ())) for s in tool_servers]
    fetch = Fetcher()
    gateway = GatewayClient(
        settings.address("gateway"), fetch, _turn_token, silence_seconds=settings.models.timeout_seconds
    )
    exchange = ExchangeClient(settings.address("orchestrator"), http, ServiceToken(settings, name))
    control = service_follower(settings, name, Kind.AGENT, url=settings.address("orchestrator"))
    loop = TurnLoop(gateway, Playbook(), settings.turn, halted=control.paused)
    models = settings.models.agents.get(name, AgentModels())
    pauses = Pauses[PausedTurn](store.database, name, PausedTurn)
    agent = ToolAgent(
        loop, servers, exchange, settings.turn, system=system, rules=rules, models=models, pauses=pauses
    )
    server = A2AServer(
        name, card, agent, store, max_bytes=settings.server.max_request_bytes, ended=lambda task: pauses.drop(task.id)
    )

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(http.aclose)
            stack.push_async_callback(fetch.aclose)
            for tool_server in servers:
                stack.push_async_callback(tool_server.aclose)
            await stack.enter_async_context(server.lifespan())
            await pauses.open()
            await stack.enter_async_context(control.following())
            yield

    peers = {"gateway": "gateway", "orchestrator": "orchestrator", **{s: f"tool server {s}" for s in tool_servers}}
    checks: dict[str, Check] = {"database": store.ping}
    checks |= {label: answers(http, label, settings.address(peer)) for peer, label in peers.items()}
    return Service(
        name=name,
        routes=[*server.routes(), *server.chat_routes(lambda: (name,))],
        verifier=verifier(settings),
        audiences=(turn_audience(name), AUDIENCE_PERSON),
        lifespan=lifespan,
        checks=checks,
    )


def answers(http: httpx.AsyncClient, label: str, url: str) -> Check:
    """A readiness check: the service at `url` answers its `/healthz`."""

    async def check() -> None:
        try:
            async with asyncio.timeout(3):
                response = await http.get(f"{url}/healthz")
        except (TimeoutError, httpx.HTTPError) as error:
            raise Unavailable(f"{label} does not answer at {url}") from error
        if response.status_code != 200:
            raise Unavailable(f"{label} at {url} answers HTTP {response.status_code}")

    return check
