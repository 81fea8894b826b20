"""A tool server as a service over HTTP, or as a child process over stdio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Mount

from opswarm import __version__, telemetry
from opswarm.guard.keys import verifier
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


def _observe(server: str) -> Callable[[str, str, float], None]:
    def told(tool: str, outcome: str, seconds: float) -> None:
        telemetry.TOOL_CALLS.labels(server, tool, outcome).inc()
        telemetry.TOOL_SECONDS.labels(server, tool).observe(seconds)

    return told


@asynccontextmanager
async def http_service(opener: Opener, settings: Settings) -> AsyncIterator[Service]:
    """The tool server as an HTTP service; every call needs a bearer token."""
    async with opener(settings) as provider:
        server = ToolServer(
            provider.name,
            provider.specs,
            instructions=provider.instructions,
            version=__version__,
            verifier=verifier(settings),
            observe=_observe(provider.name),
        )
        # Mounted whole: the SDK's token check is middleware of its app, not part of its routes.
        routes: list[BaseRoute] = [Mount("/", app=server.http(allowed_hosts=settings.server.allowed_hosts))]
        yield Service(provider.name, routes, None, None, lifespan=server.lifespan, checks=provider.checks)


async def serve_stdio(opener: Opener, settings: Settings) -> None:
    """Serves one desktop client over stdin and stdout."""
    async with opener(settings) as provider:
        server = ToolServer(
            provider.name,
            provider.specs,
            instructions=provider.instructions,
            version=__version__,
            stdio_caller=local_person(),
            observe=_observe(provider.name),
        )
        await server.stdio()
