"""Replies that no provider should send: each ends in one error of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import ModelReplyInvalid, ModelUnreachable
from opswarm.models.chat import TextPiece
from services.model_gateway.provider import _pieces
from tests.services.model_gateway.gate import LITELLM_WARNS, gateway_to

pytestmark = LITELLM_WARNS


def openai(*events: bytes, cut: bool = False) -> Starlette:
    """An OpenAI endpoint that streams `events` as they are."""

    async def body() -> AsyncIterator[bytes]:
        for event in events:
            yield b"data: " + event + b"\n\n"
        if cut:
            raise ConnectionResetError

    async def chat(request: Request) -> Response:
        return StreamingResponse(body(), media_type="text/event-stream")

    return Starlette(routes=[Route("/chat/completions", chat, methods=["POST"])])


def chunk(delta: Any, finish: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "choices": [choice], **more}).encode()


@pytest.mark.parametrize(
    "event",
    [b"{", b'{"a":"\xff"}', chunk("x"), chunk({"tool_calls": 5}), b'{"choices":5}', b'{"choices":"x"}'],
)
@pytest.mark.parametrize("first", [(), (chunk({"content": "well"}),)], ids=["at once", "midway"])
async def test_a_reply_that_litellm_stumbles_over_is_not_called_a_broken_network(
    tmp_path: Path, event: bytes, first: tuple[bytes, ...]
) -> None:
    async with gateway_to(tmp_path, openai(*first, event)) as gate:
        with pytest.raises(ModelReplyInvalid, match="can't be read"):
            await gate.ask("openai/m")


async def test_a_connection_that_breaks_midway_is_one(tmp_path: Path) -> None:
    async with gateway_to(tmp_path, openai(chunk({"content": "well"}), cut=True)) as gate:
        with pytest.raises(ModelUnreachable, match="can't be reached"):
            await gate.ask("openai/m")


def given(**fields: Any) -> SimpleNamespace:
    delta = SimpleNamespace(content=fields.pop("content", None), tool_calls=fields.pop("tool_calls", None))
    choice = SimpleNamespace(delta=fields.pop("delta", delta), finish_reason=fields.pop("finish", None))
    return SimpleNamespace(**{"choices": [choice], "usage": None, **fields})


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "text",
        given(choices=5),
        given(choices=["x"]),
        given(delta="x"),
        given(content=["x"]),
        given(tool_calls=[5]),
        given(tool_calls=[SimpleNamespace(index="z", id="a", function=None)]),
        given(tool_calls=[SimpleNamespace(index=0, id="a", function=7)]),
        given(finish=7),
        given(usage="many"),
        given(usage=SimpleNamespace(prompt_tokens="many")),
    ],
)
async def test_an_odd_chunk_of_litellm_is_a_reply_that_can_not_be_read(odd: Any) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield given(content="well")
        yield odd

    with pytest.raises(ModelReplyInvalid):
        _ = [p async for p in _pieces(chunks(), "a/b", 5, float("inf"), lambda n: None)]


async def test_a_chunk_with_no_function_and_no_counts_is_read() -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield given(content="well", tool_calls=[SimpleNamespace(index=None, id=None, function=None)])
        yield given(delta=None, finish="stop", usage=SimpleNamespace(prompt_tokens=None))

    pieces = [p async for p in _pieces(chunks(), "a/b", 5, float("inf"), lambda n: None)]
    assert pieces[0] == TextPiece("well") and len(pieces) == 4
