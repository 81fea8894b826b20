"""Serving a lab over TLS on loopback, in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from lab.app import Lab
from lab.kubeconfig import kubeconfig
from lab.tls import self_signed


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Hosted:
    """An application that is being served. `stop` ends it within two seconds."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], url: str) -> None:
        self.url = url
        self._server, self._task = server, task

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task


class RunningLab:
    """A lab that is being served. `stop` (or leaving the context) ends it within two seconds."""

    def __init__(self, lab: Lab, hosted: Hosted, ca_pem: bytes) -> None:
        self.lab = lab
        self.url = hosted.url
        self.ca_pem = ca_pem
        self._hosted = hosted

    def kubeconfig(self) -> str:
        """YAML that lets kubectl and the client libraries in."""
        return kubeconfig(self.url, self.ca_pem, self.lab.token)

    async def stop(self) -> None:
        self.lab.close_streams()
        await self._hosted.stop()

    async def __aenter__(self) -> RunningLab:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, small answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"the lab cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"
        ) from None
    return listener


async def serve(lab: Lab, *, host: str = "127.0.0.1", port: int = 0) -> RunningLab:
    """Serves the lab at https://host:port (0: a free port) until `stop`. Raises OSError if it is taken."""
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    ca_pem, cert_pem, key_pem = self_signed(tuple(dict.fromkeys(("localhost", "127.0.0.1", host))))
    with tempfile.TemporaryDirectory() as folder:
        # uvicorn loads a certificate from files only; they are gone once it is loaded.
        cert, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        cert.write_bytes(cert_pem)
        key.touch(0o600)
        key.write_bytes(key_pem)
        config = uvicorn.Config(
            lab.app,
            ssl_certfile=str(cert),
            ssl_keyfile=str(key),
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
        config.load()
    return RunningLab(lab, await _hosted(config, listener, f"https://{_shown(host)}:{port}"), ca_pem)


async def host(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Hosted:
    """Serves an application at http://host:port until `stop`. Raises OSError if it is taken."""
    listener = _listen(host, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    config.load()
    return await _hosted(config, listener, f"http://{_shown(host)}:{listener.getsockname()[1]}")


async def _hosted(config: uvicorn.Config, listener: socket.socket, url: str) -> Hosted:
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        if task.done():
            await task
            raise OSError(f"the lab did not start at {url}")
        await asyncio.sleep(0.01)
    return Hosted(server, task, url)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
