"""Running ASGI apps with uvicorn in the current event loop, on sockets that were bound first."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from opswarm.errors import SettingsInvalid, Unavailable
from opswarm.settings import Metrics, Server

_START_SECONDS = 30.0


class _Quiet(uvicorn.Server):
    """Leaves the process's signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `SettingsInvalid`, naming the port, when it is taken or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsInvalid(
                f"Port {port} on {host} is in use.", hint="Stop what uses it, or choose another."
            ) from None
        raise SettingsInvalid(f"Port {port} on {host} can't be used: {os.strerror(error.errno or 0)}.") from None
    except OverflowError:
        listener.close()
        raise SettingsInvalid(f"{port} is not a port.") from None
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


@asynccontextmanager
async def hosted(app: ASGIApp, listener: socket.socket, settings: Server) -> AsyncIterator[None]:
    """Serves `app` for the length of the block. Raises `Unavailable` when it does not start."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        server_header=False,
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
    except TimeoutError:
        task.cancel()
        raise Unavailable("The service did not start in time.", hint="Its log says why.") from None
    if task.done():
        await asyncio.gather(task, return_exceptions=True)
        raise Unavailable("The service stopped while it started.", hint="Its log says why.")
    try:
        yield
    finally:
        server.should_exit = True
        try:
            async with asyncio.timeout(settings.stop_seconds + 1):
                await asyncio.shield(task)
        except TimeoutError:
            server.force_exit = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def metrics_hosted(metrics: Metrics, server: Server) -> AsyncIterator[str]:
    """Serves `/metrics` on its own port; gives its URL, or "" when it is off."""
    if not metrics.enabled:
        yield ""
        return
    listener = listen(metrics.host, metrics.port)
    url = f"{url_of(listener)}/metrics"
    app = Starlette(routes=[Mount("/metrics", app=make_asgi_app())])
    async with hosted(app, listener, server):
        yield url


def mounted(apps: dict[str, Starlette]) -> Starlette:
    """Several apps as one: each below its prefix, their lifespans run together. "" is the one at the root."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for inner in apps.values():
                await stack.enter_async_context(inner.router.lifespan_context(inner))
            yield

    ordered = sorted(apps.items(), key=lambda a: -len(a[0]))
    return Starlette(routes=[Mount(prefix, app=app) for prefix, app in ordered], lifespan=lifespan)
