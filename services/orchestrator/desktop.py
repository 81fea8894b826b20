"""The MCP endpoint of the orchestrator, for desktop apps.

It is made when it is first asked for: importing an MCP server costs 25 MB, and most swarms have no desktop app.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from opswarm import __version__
from opswarm.a2a.engine import Engine
from opswarm.errors import Unavailable
from opswarm.guard.exchange import Exchange
from opswarm.guard.tokens import Verifier
from opswarm.mcp.client import ToolServerClient
from opswarm.settings import Settings
from services.orchestrator.directory import Directory

_START_SECONDS = 20.0
_INSTRUCTIONS = (
    "Agents that look after a Kubernetes cluster. Ask them with invoke_agent and answer from what they found; "
    "keep the context_id for follow-up questions."
)


class Lazy:
    """An ASGI app that `opened` makes at the first request, and that lives until the end of `lifespan`."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[ASGIApp]]) -> None:
        self._opened = opened
        self._app: asyncio.Future[ASGIApp] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = asyncio.get_running_loop().create_future()
            self._holding = asyncio.create_task(self._hold(self._app))
        try:
            async with asyncio.timeout(_START_SECONDS):
                app = await asyncio.shield(self._app)
        except TimeoutError:
            raise Unavailable("The MCP endpoint did not start in time.", hint="Ask again.") from None
        await app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._stop.set()
            if self._holding is not None:
                self._holding.cancel()
                with suppress(asyncio.CancelledError):
                    await self._holding

    async def _hold(self, made: asyncio.Future[ASGIApp]) -> None:
        try:
            async with self._opened() as app:
                made.set_result(app)
                await self._stop.wait()
        except Exception as error:  # Whoever asks is told; the next one tries again.
            if made.done():
                raise
            self._app = None
            made.set_exception(error)


def desktop(
    name: str,
    settings: Settings,
    engine: Engine,
    directory: Directory,
    exchange: Exchange,
    verifier: Verifier,
    servers: Mapping[str, ToolServerClient],
) -> Lazy:
    """The endpoint as an app to be mounted at `/mcp`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[ASGIApp]:
        await asyncio.to_thread(_load)
        from mcp.server.mcpserver.resources import FunctionResource
        from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated

        from opswarm.mcp.factory import ToolServer
        from services.orchestrator.passthrough import PassThrough
        from services.orchestrator.tools import AgentTools

        specs = AgentTools(engine, directory, name, wait=settings.orchestrator.tool_wait_seconds).specs()
        bus = InMemorySubscriptionBus()
        server = ToolServer(
            name,
            specs,
            instructions=_INSTRUCTIONS,
            version=__version__,
            verifier=verifier,
            resources=[
                FunctionResource.from_function(
                    _reader(directory, e.name),
                    uri=f"agent://{e.name}",
                    name=e.name,
                    description=f"The {e.name} agent: what it is for, and whether it answers.",
                    mime_type="application/json",
                )
                for e in directory.entries()
            ],
            events=bus,
            middleware=[PassThrough(servers, exchange, [s.name for s in specs])],
        )

        async def changed(agent: str) -> None:
            await bus.publish(ResourceUpdated(f"agent://{agent}"))

        async with AsyncExitStack() as stack:
            for client in servers.values():
                stack.push_async_callback(client.aclose)
            app = server.http(allowed_hosts=settings.server.allowed_hosts)
            await stack.enter_async_context(server.lifespan())
            stack.enter_context(directory.watched(changed))
            yield app

    return Lazy(opened)


def _load() -> None:
    """Imports what the endpoint needs, off the event loop: it takes most of a second."""
    import services.orchestrator.passthrough
    import services.orchestrator.tools  # noqa: F401


def _reader(directory: Directory, name: str) -> Callable[[], object]:
    async def read() -> str:
        entry = next(e for e in directory.entries() if e.name == name)
        return json.dumps(entry.shown(), ensure_ascii=False)

    return read
