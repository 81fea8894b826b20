"""The OpenAI chat completion: the reply written, streamed or whole."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from opswarm.errors import OpswarmError, wire_code
from opswarm.guard.redaction import redact
from opswarm.models.chat import (
    CallPiece,
    Message,
    NoticePiece,
    Piece,
    ReasoningPiece,
    StopPiece,
    TextPiece,
    UsagePiece,
)

P = TypeVar("P", Piece, Piece | None)


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

    async def stream(self, pieces: AsyncGenerator[Piece | None, None], *, usage: bool) -> AsyncIterator[bytes]:
        """The reply as server-sent events, with a comment where a piece is None. A failure ends it with an error."""
        yield self._chunk({"role": "assistant", "content": ""})
        calls = 0
        last: dict[str, int] | None = None
        try:
            async for piece in pieces:
                match piece:
                    case None:
                        yield b": keep-alive\n\n"
                    case TextPiece(text):
                        yield self._chunk({"content": text})
                    case ReasoningPiece(text):
                        yield self._chunk({"reasoning_content": text})
                    case CallPiece(call):
                        fragment = {"index": calls, **Message("assistant", "", (call,)).wire()["tool_calls"][0]}
                        calls += 1
                        yield self._chunk({"tool_calls": [fragment]})
                    case UsagePiece():
                        last = _usage(piece)
                    case NoticePiece():
                        self._model = piece.model or self._model
                        yield _event({**self._envelope("chat.completion.chunk", []), **_told(piece)})
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
        reasoning: list[str] = []
        calls: list[CallPiece] = []
        notices: list[dict[str, str]] = []
        usage = _usage(UsagePiece(self._model))
        reason = "stop"
        async for piece in pieces:
            match piece:
                case TextPiece(said):
                    text.append(said)
                case ReasoningPiece(said):
                    reasoning.append(said)
                case CallPiece():
                    calls.append(piece)
                case UsagePiece():
                    usage = _usage(piece)
                case NoticePiece():
                    self._model = piece.model or self._model
                    notices.append(_told(piece)["opswarm"]["notice"])
                case StopPiece(why):
                    reason = why
        message = Message("assistant", "".join(text), tuple(c.call for c in calls)).wire()
        if reasoning:
            message["reasoning_content"] = "".join(reasoning)
        choice = {"index": 0, "message": message, "finish_reason": reason}
        told = {"opswarm": {"notices": notices}} if notices else {}
        return {**self._envelope("chat.completion", [choice]), "usage": usage, **told}


async def whole(writer: Writer, source: AsyncGenerator[Piece, None]) -> dict[str, Any]:
    """The reply as one object; the source is closed at its end."""
    async with aclosing(source) as pieces:
        return await writer.whole(pieces)


async def after(first: Piece | None, rest: AsyncGenerator[P, None]) -> AsyncGenerator[Piece | None, None]:
    """`first`, which was waited for to know whether there is a reply at all, and the rest of it."""
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def error_body(error: OpswarmError) -> dict[str, Any]:
    return {"message": redact(str(error)), "type": wire_code(error).openai, "code": error.code}


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _usage(piece: UsagePiece) -> dict[str, Any]:
    return {
        "prompt_tokens": piece.input_tokens,
        "completion_tokens": piece.output_tokens,
        "total_tokens": piece.input_tokens + piece.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": piece.cached_tokens,
            "cache_creation_tokens": piece.cache_written_tokens,
        },
    }


def _told(piece: NoticePiece) -> dict[str, Any]:
    """A notice as a field of its own, which clients that don't know it pass over."""
    return {"opswarm": {"notice": {"code": piece.code, "text": redact(piece.text)}}}
