"""Running ASGI apps with uvicorn in the current event loop, on sockets that were bound first."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.routing import Mount

from opswarm.errors import SettingsInvalid, Unavailable
from opswarm.settings import Metrics, Server

log = logging.getLogger(__name__)

_START_SECONDS = 30.0
_CANCEL_SECONDS = 0.5


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
async def held(apps: Sequence[Starlette], seconds: float) -> AsyncIterator[None]:
    """Runs the apps' lifespans, each in a task of its own: they begin and end together, and the end is bounded."""
    stop = asyncio.Event()
    begun = [asyncio.Event() for _ in apps]

    async def hold(app: Starlette, mark: asyncio.Event) -> None:
        async with app.router.lifespan_context(app):
            mark.set()
            await stop.wait()

    holding = [asyncio.create_task(hold(a, m)) for a, m in zip(apps, begun, strict=True)]
    try:
        await _begun(holding, begun)
        yield
    finally:
        stop.set()
        await _ended(holding, seconds)


async def _begun(tasks: Sequence[asyncio.Task[None]], marks: Sequence[asyncio.Event]) -> None:
    """Waits until every task has set its mark. What one of them raised instead is raised here."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not all(m.is_set() for m in marks):
                for task in tasks:
                    if task.done():
                        await task
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise Unavailable("The service did not start in time.", hint="Its log says why.") from None


async def _ended(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Waits for tasks; those that take too long are cancelled and, should they not mind, left behind."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=_CANCEL_SECONDS)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            log.warning("stopping a service failed", exc_info=error)


@asynccontextmanager
async def hosted(app: Starlette, listener: socket.socket, settings: Server) -> AsyncIterator[None]:
    """Serves `app` for the length of the block. Raises `OpswarmError` when it does not start.

    At the end no new connection is taken, the lifespans end, and with them the work in flight and its streams.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        server_header=False,
        # uvicorn would let X-Forwarded-For say where a connection comes from, and forward-auth goes by that.
        proxy_headers=False,
    )
    server = _Quiet(config)
    serving: list[asyncio.Task[None]] = []
    try:
        async with held([app], settings.stop_seconds):
            serving.append(asyncio.create_task(server.serve(sockets=[listener])))
            try:
                await _started(server, serving[0])
                yield
            finally:
                server.should_exit = True
    finally:
        server.should_exit = True
        _, late = await asyncio.wait(serving, timeout=1) if serving else (set(), set())
        server.force_exit = bool(late)
        await _ended(serving, _CANCEL_SECONDS)
        listener.close()


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    until = asyncio.get_running_loop().time() + _START_SECONDS
    while not server.started:
        if task.done():
            raise Unavailable("The service stopped while it started.", hint="Its log says why.")
        if asyncio.get_running_loop().time() > until:
            raise Unavailable("The service did not start in time.", hint="Its log says why.")
        await asyncio.sleep(0.01)


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


def mounted(apps: dict[str, Starlette], seconds: float) -> Starlette:
    """Several apps as one: each below its prefix, their lifespans run together. "" is the one at the root.

    Their lifespans get `seconds` to end.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with held(list(apps.values()), seconds):
            yield

    ordered = sorted(apps.items(), key=lambda a: -len(a[0]))
    return Starlette(routes=[Mount(prefix, app=app) for prefix, app in ordered], lifespan=lifespan)
