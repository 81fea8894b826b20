"""Telling a waiting client that its reply is still being worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def paced(source: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T | None, None]:
    """What `source` gives, and None whenever `seconds` went by without one. Closes `source` at its end."""
    async with aclosing(source):
        while True:
            awaited = asyncio.ensure_future(anext(source))
            try:
                while not (await asyncio.wait((awaited,), timeout=seconds))[0]:
                    yield None
            finally:
                if not awaited.done():
                    awaited.cancel()
                    await asyncio.wait((awaited,))
            try:
                piece = awaited.result()
            except StopAsyncIteration:
                return
            yield piece
