"""The gateway's client against a gateway that answers anything at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import ModelBusy, ModelFailed, ModelReplyInvalid, ModelUnknown, ModelUnreachable
from opswarm.fetch import Fetcher
from opswarm.models.chat import (
    CallPiece,
    ChatRequest,
    Message,
    Options,
    Piece,
    StopPiece,
    TextPiece,
    ToolCall,
    UsagePiece,
)
from opswarm.models.client import GatewayClient
from tests.support.hosting import serving

ASK = ChatRequest((Message("user", "x"),))
STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


class Gateway:
    """Answers with the given bytes, in the given pieces, and keeps what it was sent."""

    def __init__(self, *body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._body, self._status, self._headers = body, status, headers
        self.requests: list[dict[str, Any]] = []

    async def _chat(self, request: Request) -> Response:
        self.requests.append(await request.json())

        async def body() -> AsyncIterator[bytes]:
            for part in self._body:
                yield part

        return StreamingResponse(body(), self._status, self._headers, "text/event-stream")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[GatewayClient]:
        app = Starlette(routes=[Route("/v1/chat/completions", self._chat, methods=["POST"])])
        async with serving(app) as url, Fetcher() as http:
            yield GatewayClient(url, http, lambda: "t")

    async def ask(self, request: ChatRequest = ASK) -> list[Piece]:
        async with self.client() as client:
            return [p async for p in client.stream(request)]


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
        b"data: " + b"[" * 5000 + b"\n\n",
        event({"choices": 5}),
        event({"choices": "x"}),
        event({"choices": [3]}),
        event({"choices": [{"delta": "x"}]}),
        event({"choices": [{"delta": {}, "finish_reason": 7}]}),
        delta(content=["x"]),
        delta(tool_calls=5),
        delta(tool_calls=[5]),
        delta(tool_calls=[{"index": "first"}]),
        delta(tool_calls=[{"index": 0, "function": "x"}]),
        event({**STOP, "usage": "many"}),
        event({**STOP, "usage": {"prompt_tokens": "many"}}),
        event({**STOP, "usage": {"prompt_tokens_details": 5}}),
        event({**STOP, "model": 5}),
        b"x" * (5 * 1024 * 1024),
    ],
)
async def test_a_malformed_chunk_is_a_reply_that_can_not_be_read(odd: bytes) -> None:
    with pytest.raises(ModelReplyInvalid):
        await Gateway(delta(content="well"), odd, event(STOP), b"data: [DONE]\n\n").ask()


async def test_an_answer_that_does_not_unpack_is_a_reply_that_can_not_be_read() -> None:
    with pytest.raises(ModelReplyInvalid):
        await Gateway(b"not gzip", headers={"Content-Encoding": "gzip"}).ask()


async def test_a_reply_that_breaks_off_gives_no_half_of_a_tool_call() -> None:
    half = delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "scale", "arguments": '{"to":1'}}])
    pieces: list[Piece] = []
    async with Gateway(half).client() as client:
        with pytest.raises(ModelReplyInvalid, match="broke off"):
            async for piece in client.stream(ASK):
                pieces.append(piece)
    assert pieces == []


async def test_a_reply_is_read_from_bytes_cut_anywhere_with_comments_between() -> None:
    said = "caf\u00e9 \u2028 next\u0085line"
    fragments = [
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "look", "arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
    ]
    usage = event({"model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    whole = b": keep-alive\n\n".join([delta(content=said), *fragments, event(STOP), usage, b"data: [DONE]\n\n"])
    pieces = await Gateway(*(whole[i : i + 1] for i in range(len(whole)))).ask()
    assert pieces == [
        TextPiece(said),
        UsagePiece("m", 3, 2),
        CallPiece(ToolCall("c", "look", '{"a":1}')),
        StopPiece("tool_calls", "m"),
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "no such model", "code": "model_unknown"}, ModelUnknown),
        ({"message": 5, "code": 7}, ModelFailed),
        ("it broke", ModelFailed),
        ([1], ModelFailed),
    ],
)
async def test_an_error_of_any_shape_is_one_of_ours_before_and_within_the_stream(
    error: Any, kind: type[ModelFailed]
) -> None:
    with pytest.raises(ModelFailed) as within:
        await Gateway(delta(content="x"), event({"error": error})).ask()
    with pytest.raises(ModelFailed) as before:
        await Gateway(json.dumps({"error": error}).encode(), status=500).ask()
    assert type(within.value) is type(before.value) is kind


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("inf", None), ("nan", None), ("-1", None), ("soon", None)]
)
async def test_a_wait_that_makes_no_sense_is_no_wait(header: str, seconds: float | None) -> None:
    with pytest.raises(ModelBusy) as caught:
        await Gateway(b"[]", status=429, headers={"Retry-After": header}).ask()
    assert caught.value.retry_after == seconds


async def test_the_options_are_sent() -> None:
    gateway = Gateway(event(STOP))
    await gateway.ask(
        ChatRequest((Message("user", "x"),), options=Options(temperature=0.0, seed=1, tool_choice="auto"))
    )
    sent = gateway.requests[0]
    assert sent["temperature"] == 0.0 and sent["seed"] == 1
    assert "top_p" not in sent and "tool_choice" not in sent


async def test_the_client_waits_longer_than_the_gateway_does() -> None:
    async with Gateway(event(STOP)).client() as client:
        assert client._silence == 135.0


async def test_a_gateway_that_falls_silent_is_not_waited_for_for_ever() -> None:
    async def forever(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield delta(content="well")
            await asyncio.Event().wait()

        return StreamingResponse(body(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", forever, methods=["POST"])])
    async with serving(app) as url, Fetcher() as http:
        client = GatewayClient(url, http, lambda: "t", silence_seconds=-14.8)
        with pytest.raises(ModelUnreachable, match="in time"):
            _ = [p async for p in client.stream(ASK)]


@pytest.mark.parametrize("arguments", ["[" * 100_000, "{", "[1]", "7"])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(ModelReplyInvalid):
        ToolCall("c", "look", arguments).parsed()
