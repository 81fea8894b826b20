"""Serving an app from a thread, for what is called without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette

from tests.support.hosting import serving

_SECONDS = 10


@contextmanager
def threaded(app: Starlette) -> Iterator[str]:
    """The base URL of `app`, served over real HTTP for the length of the block."""
    ready: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(app) as url:
            ready.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(_SECONDS)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_SECONDS)
        loop.close()
