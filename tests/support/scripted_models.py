"""Model providers on loopback that speak the real wires: Anthropic Messages, Ollama `/api/chat`, OpenAI completions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass
class Reply:
    """One scripted reply: text in pieces, tool calls, or an error status with its headers.

    A reply with a `hold` waits, when its first piece has been sent, until that is set.
    """

    text: tuple[str, ...] = ()
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: int = 200
    error: str = "it went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    hold: asyncio.Event | None = None

    async def pieces(self) -> AsyncIterator[str]:
        for index, piece in enumerate(self.text):
            if index == 1 and self.hold is not None:
                await self.hold.wait()
            yield piece


@dataclass
class Script:
    """Replies in order (the last one repeats), and the requests that came."""

    replies: list[Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: Request) -> Reply:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        return self.replies[min(len(self.requests), len(self.replies)) - 1]


def anthropic(script: Script) -> Starlette:
    """`POST /v1/messages`, streamed as the Messages API does."""

    async def messages(request: Request) -> Response:
        reply = await script.take(request)
        if reply.status != 200:
            kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(
                reply.status, "api_error"
            )
            body = {"type": "error", "error": {"type": kind, "message": reply.error}}
            return JSONResponse(body, status_code=reply.status, headers=reply.headers)
        return StreamingResponse(_anthropic_events(reply), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/messages", messages, methods=["POST"])])


async def _anthropic_events(reply: Reply) -> AsyncIterator[bytes]:
    def event(kind: str, **body: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n".encode()

    usage = {"input_tokens": 21, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 8, "output_tokens": 1}
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    yield event("message_start", message=message)
    index = 0
    if reply.text:
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        async for piece in reply.pieces():
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield event("content_block_stop", index=0)
        index = 1
    for name, arguments in reply.calls:
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        yield event("content_block_start", index=index, content_block=block)
        raw = json.dumps(arguments)
        for part in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
            yield event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": part})
        yield event("content_block_stop", index=index)
        index += 1
    stop = "tool_use" if reply.calls else "end_turn"
    yield event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 9})
    yield event("message_stop")


def ollama(script: Script) -> Starlette:
    """`POST /api/chat`, streamed as lines of JSON, and `POST /api/show`."""

    async def chat(request: Request) -> Response:
        reply = await script.take(request)
        if reply.status != 200:
            return JSONResponse({"error": reply.error}, status_code=reply.status)
        return StreamingResponse(_ollama_lines(reply), media_type="application/x-ndjson")

    async def show(request: Request) -> Response:
        return JSONResponse({"template": "{{ .Tools }}", "capabilities": ["completion", "tools"], "model_info": {}})

    return Starlette(routes=[Route("/api/chat", chat, methods=["POST"]), Route("/api/show", show, methods=["POST"])])


async def _ollama_lines(reply: Reply) -> AsyncIterator[bytes]:
    def line(message: dict[str, Any], **more: Any) -> bytes:
        body = {"model": "qwen3", "created_at": "2026-01-01T00:00:00Z", "message": message, **more}
        return json.dumps(body).encode() + b"\n"

    async for piece in reply.pieces():
        yield line({"role": "assistant", "content": piece}, done=False)
    calls = [{"function": {"name": n, "arguments": a}} for n, a in reply.calls]
    if calls:
        yield line({"role": "assistant", "content": "", "tool_calls": calls}, done=False)
    yield line({"role": "assistant", "content": ""}, done=True, done_reason="stop", prompt_eval_count=17, eval_count=5)


def openai(script: Script) -> Starlette:
    """`POST …/chat/completions`, streamed as OpenAI does."""

    async def completions(request: Request) -> Response:
        reply = await script.take(request)
        if reply.status != 200:
            error = {"message": reply.error, "type": "invalid_request_error", "code": None, "param": None}
            return JSONResponse({"error": error}, status_code=reply.status, headers=reply.headers)
        return StreamingResponse(_openai_chunks(reply), media_type="text/event-stream")

    paths = ("/chat/completions", "/v1/chat/completions")
    return Starlette(routes=[Route(p, completions, methods=["POST"]) for p in paths])


async def _openai_chunks(reply: Reply) -> AsyncIterator[bytes]:
    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def delta(finish: str | None = None, **fields: Any) -> bytes:
        return chunk([{"index": 0, "delta": fields, "finish_reason": finish}])

    yield delta(role="assistant", content="")
    async for piece in reply.pieces():
        yield delta(content=piece)
    for index, (name, arguments) in enumerate(reply.calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        yield delta(tool_calls=[{"index": index, "id": f"call_{index}", "type": "function", "function": function}])
    yield delta("tool_calls" if reply.calls else "stop")
    yield chunk([], usage={"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34})
    yield b"data: [DONE]\n\n"


Maker = Callable[[Script], Starlette]
