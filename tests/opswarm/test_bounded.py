"""Answers of servers that nobody vouches for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from opswarm.bounded import Bounded
from tests.support.hosting import serving


async def _endless(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0)  # Sending to who has gone waits for nothing: others must get their turn.

    return StreamingResponse(parts())


async def _packed(request: Request) -> Response:
    return Response(gzip.compress(b"0" * 10_000_000), headers={"Content-Encoding": "gzip"})


async def _plain(request: Request) -> Response:
    return Response(request.headers["accept-encoding"])


APP = Starlette(routes=[Route("/endless", _endless), Route("/packed", _packed), Route("/plain", _plain)])


async def test_an_answer_without_an_end_is_broken_off() -> None:
    async with serving(APP) as url, httpx.AsyncClient(transport=Bounded(most=100_000)) as http:
        with pytest.raises(httpx.ReadError):
            await http.get(f"{url}/endless")


async def test_a_packed_answer_is_refused() -> None:
    async with serving(APP) as url, httpx.AsyncClient(transport=Bounded()) as http:
        with pytest.raises(httpx.DecodingError):
            await http.get(f"{url}/packed")


async def test_any_other_answer_comes_through() -> None:
    async with serving(APP) as url, httpx.AsyncClient(transport=Bounded()) as http:
        assert (await http.get(f"{url}/plain")).text == "identity"
