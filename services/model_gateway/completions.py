"""OpenAI chat completions: the request read and checked, the reply written, streamed or whole."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from opswarm.errors import InvalidInput, ModelReplyInvalid, OpswarmError, wire_code
from opswarm.guard.redaction import redact
from opswarm.models.chat import (
    CallPiece,
    ChatRequest,
    Message,
    Piece,
    StopPiece,
    TextPiece,
    ToolSchema,
    UsagePiece,
)

_MAX_MESSAGES = 2_000
_MAX_TOOLS = 256


def read_request(raw: bytes) -> tuple[ChatRequest, bool, bool]:
    """The request, whether it is to be streamed, and whether usage is asked for. Raises `InvalidInput`."""
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The request is not valid JSON.") from error
    if not isinstance(body, dict):
        raise InvalidInput("The request must be a JSON object.")
    messages, tools = body.get("messages"), body.get("tools") or []
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise InvalidInput("messages must be a list of at least one message.")
    if not isinstance(tools, list) or len(messages) > _MAX_MESSAGES or len(tools) > _MAX_TOOLS:
        raise InvalidInput(f"At most {_MAX_MESSAGES} messages and {_MAX_TOOLS} tools are taken.")
    model = body.get("model") or "standard"
    if not isinstance(model, str):
        raise InvalidInput("model must be a string.")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise InvalidInput("max_tokens must be a positive integer.")
    try:
        read = tuple(Message.from_wire(m) for m in messages)
    except ModelReplyInvalid as error:
        raise InvalidInput(error.message) from error
    options = body.get("stream_options")
    request = ChatRequest(read, model, tuple(_tool(t) for t in tools), _schema(body), limit)
    return request, bool(body.get("stream")), isinstance(options, dict) and bool(options.get("include_usage"))


def _tool(body: Any) -> ToolSchema:
    function = body.get("function") if isinstance(body, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidInput("Each tool must be a function with a name.")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise InvalidInput(f"The parameters of tool {function['name'][:64]} must be a JSON schema.")
    return ToolSchema(function["name"], str(function.get("description") or ""), parameters)


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = (wanted.get("json_schema") or {}).get("schema")
    if not isinstance(schema, dict):
        raise InvalidInput("response_format needs a JSON schema.")
    return schema


class Writer:
    """Writes one reply."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())

    def _envelope(self, kind: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": list(choices),
        }

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
        return _event(self._envelope("chat.completion.chunk", [choice]))

    async def stream(self, pieces: AsyncGenerator[Piece, None], *, usage: bool) -> AsyncIterator[bytes]:
        """The reply as server-sent events. A failure in the middle ends it with an error event."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = 0
        last: dict[str, int] | None = None
        try:
            async for piece in pieces:
                match piece:
                    case TextPiece(text):
                        yield self._chunk({"content": text})
                    case CallPiece(call):
                        fragment = {"index": calls, **Message("assistant", "", (call,)).wire()["tool_calls"][0]}
                        calls += 1
                        yield self._chunk({"tool_calls": [fragment]})
                    case UsagePiece():
                        last = _usage(piece)
                    case StopPiece(reason):
                        yield self._chunk({}, reason)
        except OpswarmError as error:
            yield _event({"error": error_body(error)})
            return
        if usage and last is not None:
            yield _event({**self._envelope("chat.completion.chunk", []), "usage": last})
        yield b"data: [DONE]\n\n"

    async def whole(self, pieces: AsyncGenerator[Piece, None]) -> dict[str, Any]:
        """The reply as one object."""
        text: list[str] = []
        calls: list[CallPiece] = []
        usage = _usage(UsagePiece(self._model))
        reason = "stop"
        async for piece in pieces:
            match piece:
                case TextPiece(said):
                    text.append(said)
                case CallPiece():
                    calls.append(piece)
                case UsagePiece():
                    usage = _usage(piece)
                case StopPiece(why):
                    reason = why
        message = Message("assistant", "".join(text), tuple(c.call for c in calls)).wire()
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {**self._envelope("chat.completion", [choice]), "usage": usage}


def error_body(error: OpswarmError) -> dict[str, Any]:
    return {"message": redact(str(error)), "type": wire_code(error).openai, "code": error.code}


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _usage(piece: UsagePiece) -> dict[str, Any]:
    return {
        "prompt_tokens": piece.input_tokens,
        "completion_tokens": piece.output_tokens,
        "total_tokens": piece.input_tokens + piece.output_tokens,
        "prompt_tokens_details": {"cached_tokens": piece.cached_tokens},
    }
