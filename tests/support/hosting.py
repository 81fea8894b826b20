"""Serving apps on free loopback ports for the length of a test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from opswarm.cli import hosting
from opswarm.errors import SettingsInvalid
from opswarm.settings import Server, Settings, load

FAST = Server(stop_seconds=1.0)


@asynccontextmanager
async def serving(app: Starlette, port: int = 0) -> AsyncIterator[str]:
    """The base URL of `app`, served over real HTTP."""
    listener = hosting.listen("127.0.0.1", port)
    async with hosting.hosted(app, listener, FAST):
        yield hosting.url_of(listener)


def settings_at(home: Path, **addresses: str) -> Settings:
    """Settings that live in a test's own folder."""
    return load(home=home, addresses=addresses)


_PORTS = range(15_000, 32_000)
"""Below what Linux gives to whoever does not choose (32768 and up): no connection takes one of these in between."""

_next = random.randrange(len(_PORTS))  # Test processes that run at the same time begin far from each other.


def free_port() -> int:
    """A port for a server that starts later: another one at each call of this process."""
    global _next
    while True:
        port, _next = _PORTS[_next], (_next + 1) % len(_PORTS)
        try:
            hosting.listen("127.0.0.1", port).close()
        except SettingsInvalid:
            continue
        return port


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Waits, bounded, for a condition."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.02)
