"""A model server with no latency: the OpenAI, Ollama and Anthropic wires, as plain ASGI so that it costs little itself.

A request with no tool result in it is answered with one tool call, any other with 32 tokens. The first token is the
clock (`time.monotonic_ns`) at which it was sent, so that whoever sees it can say how long it took. OpenAI's model
`slow` takes its time, so that many streams can be looked at while they are open.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

TOKENS = 32
TOOL = "look"
SLOW = "slow"
_SLOW_SECONDS = 0.06
ARGUMENTS = {"name": "sonarr"}


def tokens() -> list[str]:
    """The answer's tokens: the clock, then words of 5 to 6 characters."""
    return [f"@{time.monotonic_ns()} ", *(f"tok{n:02d} " for n in range(1, TOKENS))]


async def body_of(receive: Any) -> bytes:
    """The whole body of a request."""
    raw = bytearray()
    more = True
    while more:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(raw)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    raw = await body_of(receive)
    path = scope["path"]
    if scope["method"] == "GET":
        await _whole(send, {"status": "ok", "version": "0.0.0", "data": []})
    elif path == "/v1/chat/completions":
        await _openai(send, json.loads(raw))
    elif path == "/api/chat":
        await _ollama(send, json.loads(raw))
    elif path == "/v1/messages":
        await _anthropic(send, json.loads(raw))
    elif path == "/api/show":
        await _whole(send, {"capabilities": ["completion", "tools"], "template": "{{ .Tools }}", "model_info": {}})
    else:
        await _whole(send, {"error": "not here"}, 404)


async def _whole(send: Any, body: dict[str, Any], status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _begin(send: Any, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def _piece(send: Any, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def _answers_a_tool(body: dict[str, Any]) -> bool:
    """Whether the newest message carries a tool's result."""
    newest = body["messages"][-1]
    content = newest.get("content")
    return newest.get("role") == "tool" or (
        isinstance(content, list) and any(isinstance(p, dict) and p.get("type") == "tool_result" for p in content)
    )


async def _openai(send: Any, body: dict[str, Any]) -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [choice]}
        return b"data: " + json.dumps(frame).encode() + b"\n\n"

    usage = {"prompt_tokens": 100, "completion_tokens": TOKENS, "total_tokens": 100 + TOKENS}
    await _begin(send, b"text/event-stream")
    if _answers_a_tool(body) or not body.get("tools"):
        for token in tokens():
            await _piece(send, chunk({"content": token}))
            if body.get("model") == SLOW:
                await asyncio.sleep(_SLOW_SECONDS)
        await _piece(send, chunk({}, "stop"))
    else:
        function = {"name": TOOL, "arguments": json.dumps(ARGUMENTS)}
        await _piece(send, chunk({"tool_calls": [{"index": 0, "id": "k1", "type": "function", "function": function}]}))
        await _piece(send, chunk({}, "tool_calls"))
    final = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": []}
    await _piece(send, b"data: " + json.dumps({**final, "usage": usage}).encode() + b"\n\n")
    await _piece(send, b"data: [DONE]\n\n", last=True)


async def _ollama(send: Any, body: dict[str, Any]) -> None:
    def line(message: dict[str, Any], **more: Any) -> bytes:
        frame = {"model": "scripted", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False, **more}
        return json.dumps(frame).encode() + b"\n"

    await _begin(send, b"application/x-ndjson")
    if _answers_a_tool(body) or not body.get("tools"):
        for token in tokens():
            await _piece(send, line({"role": "assistant", "content": token}))
    else:
        call = {"function": {"name": TOOL, "arguments": ARGUMENTS}}
        await _piece(send, line({"role": "assistant", "content": "", "tool_calls": [call]}))
    ended = {"done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": TOKENS}
    await _piece(send, line({"role": "assistant", "content": ""}, **ended), last=True)


async def _anthropic(send: Any, body: dict[str, Any]) -> None:
    def event(kind: str, **more: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()

    await _begin(send, b"text/event-stream")
    message = {"id": "m", "type": "message", "role": "assistant", "model": "scripted", "content": []}
    begun = {**message, "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 100, "output_tokens": 1}}
    await _piece(send, event("message_start", message=begun))
    if _answers_a_tool(body) or not body.get("tools"):
        await _piece(send, event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        for token in tokens():
            await _piece(send, event("content_block_delta", index=0, delta={"type": "text_delta", "text": token}))
        reason = "end_turn"
    else:
        block = {"type": "tool_use", "id": "k1", "name": TOOL, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(ARGUMENTS)}
        await _piece(send, event("content_block_start", index=0, content_block=block))
        await _piece(send, event("content_block_delta", index=0, delta=delta))
        reason = "tool_use"
    await _piece(send, event("content_block_stop", index=0))
    ended = {"stop_reason": reason, "stop_sequence": None}
    await _piece(send, event("message_delta", delta=ended, usage={"output_tokens": TOKENS}))
    await _piece(send, event("message_stop"), last=True)
