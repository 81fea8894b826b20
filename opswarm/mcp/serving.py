"""A tool server as a service over HTTP, or as a child process over stdio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Mount

from opswarm import __version__, telemetry
from opswarm.actions.gate import Gate
from opswarm.actions.opening import open_gate
from opswarm.actions.routes import ActionRoutes
from opswarm.guard.follower import service_follower
from opswarm.guard.keys import verifier
from opswarm.guard.live_policy import LivePolicy, live_policy
from opswarm.guard.principal import Kind
from opswarm.guard.tokens import Verifier
from opswarm.mcp.factory import ToolServer, local_person
from opswarm.mcp.tools import ToolSpec
from opswarm.service import Check, Service
from opswarm.settings import Settings


@dataclass(frozen=True, slots=True)
class ToolProvider:
    """What one tool server offers, whatever the transport."""

    name: str
    specs: Sequence[ToolSpec]
    instructions: str
    checks: Mapping[str, Check] = field(default_factory=dict)


Opener = Callable[[Settings], AbstractAsyncContextManager[ToolProvider]]
"""What `mcp_servers/NAME/app.py` gives: the provider, while its backend's connections are open."""


@dataclass(frozen=True, slots=True)
class _Guard:
    """What a tool server's calls go through. `gate` is None where it has nothing but reads."""

    policy: LivePolicy
    gate: Gate | None


def _observe(server: str) -> Callable[[str, str, float], None]:
    def told(tool: str, outcome: str, seconds: float) -> None:
        telemetry.TOOL_CALLS.labels(server, tool, outcome).inc()
        telemetry.TOOL_SECONDS.labels(server, tool).observe(seconds)

    return told


@asynccontextmanager
async def _guarded(provider: ToolProvider, settings: Settings, checks_tokens: Verifier) -> AsyncIterator[_Guard]:
    policy = live_policy(settings)
    actions = {spec.name: spec.action for spec in provider.specs if spec.action is not None}
    async with AsyncExitStack() as stack:
        gate = None
        if actions:
            # One that no orchestrator is named to follows what is kept on its own machine.
            url = settings.addresses.get("orchestrator", "")
            following = service_follower(settings, provider.name, Kind.SERVICE, url=url).following()
            control = await stack.enter_async_context(following)
            opened = open_gate(
                settings, provider.name, actions, policy=policy, control=control, verifier=checks_tokens
            )
            gate = await stack.enter_async_context(opened)
        yield _Guard(policy, gate)


@asynccontextmanager
async def http_service(opener: Opener, settings: Settings) -> AsyncIterator[Service]:
    """The tool server as an HTTP service; every call needs a bearer token."""
    known = verifier(settings)
    async with opener(settings) as provider, _guarded(provider, settings, known) as guard:
        server = ToolServer(
            provider.name,
            provider.specs,
            instructions=provider.instructions,
            version=__version__,
            verifier=known,
            observe=_observe(provider.name),
            policy=guard.policy,
            gate=guard.gate,
        )
        routes: list[BaseRoute] = []
        if guard.gate is not None:
            routes += ActionRoutes(guard.gate, known).routes()
        # Mounted whole: the SDK's token check is middleware of its app, not part of its routes.
        routes.append(Mount("/", app=server.http(allowed_hosts=settings.server.allowed_hosts)))
        checks = {**provider.checks, "policy": guard.policy.check}
        yield Service(provider.name, routes, None, None, lifespan=server.lifespan, checks=checks)


async def serve_stdio(opener: Opener, settings: Settings) -> None:
    """Serves one desktop client over stdin and stdout."""
    async with opener(settings) as provider, _guarded(provider, settings, verifier(settings)) as guard:
        server = ToolServer(
            provider.name,
            provider.specs,
            instructions=provider.instructions,
            version=__version__,
            stdio_caller=local_person(),
            switches=True,
            observe=_observe(provider.name),
            policy=guard.policy,
            gate=guard.gate,
        )
        await server.stdio()
