"""The client of the model gateway: OpenAI chat completions over HTTP, streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from opswarm.errors import (
    ModelBusy,
    ModelFailed,
    ModelReplyInvalid,
    ModelUnreachable,
    Unauthenticated,
    by_code,
)
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.models.chat import CallPiece, ChatRequest, Piece, StopPiece, TextPiece, ToolCall, UsagePiece
from opswarm.telemetry import traceparent

_MAX_CALLS = 32


class GatewayClient:
    """Speaks to one gateway. `token` gives the bearer token of the turn at hand, asked for on every call."""

    def __init__(
        self, url: str, http: httpx.AsyncClient, token: Callable[[], str], *, silence_seconds: float = 120.0
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._http = http
        self._token = token
        self._timeout = httpx.Timeout(10.0, read=silence_seconds)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        headers = {"Authorization": f"Bearer {self._token()}"}
        if parent := traceparent():
            headers["traceparent"] = parent
        try:
            async with self._http.stream(
                "POST", self._url, json=_body(request), headers=headers, timeout=self._timeout
            ) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await response.aread(), response.headers)
                async with aclosing(_pieces(response)) as pieces:
                    async for piece in pieces:
                        yield piece
        except httpx.TimeoutException as error:
            raise ModelUnreachable(
                "The model gateway did not answer in time.", hint="Look at its log, or raise models.timeout_seconds."
            ) from error
        except httpx.TransportError as error:
            raise ModelUnreachable(
                f"The model gateway at {self._url} can't be reached.", hint="Start it, or set addresses.gateway."
            ) from error


def _body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [m.wire() for m in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [t.wire() for t in request.tools]
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": dict(request.schema), "strict": True},
        }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    return body


def _refusal(status: int, raw: bytes, headers: Mapping[str, str]) -> ModelFailed:
    try:
        detail = json.loads(raw).get("error") or {}
    except (ValueError, AttributeError):
        detail = {}
    message = cap_bytes(clean(str(detail.get("message") or f"The model gateway answered HTTP {status}.")), 600)
    kind = by_code(str(detail.get("code") or ""))
    if kind is ModelBusy or status == 429:
        return ModelBusy(message, retry_after=_seconds(headers.get("retry-after")))
    if status == 401 or kind is Unauthenticated:
        return ModelUnreachable(f"The model gateway refused this agent: {message}")
    if issubclass(kind, ModelFailed):
        return kind(message)
    return ModelFailed(message)


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


class _Calls:
    """Puts the fragments of tool calls together, by their index."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def add(self, fragments: Any) -> None:
        for fragment in fragments or ():
            index = int(fragment.get("index") or 0)
            if index not in self._parts and len(self._parts) >= _MAX_CALLS:
                raise ModelReplyInvalid(f"The model asked for more than {_MAX_CALLS} tool calls in one step.")
            parts = self._parts.setdefault(index, ["", "", ""])
            function = fragment.get("function") or {}
            parts[0] = parts[0] or str(fragment.get("id") or "")
            parts[1] = parts[1] or str(function.get("name") or "")
            parts[2] += str(function.get("arguments") or "")

    def drain(self) -> list[CallPiece]:
        done = [CallPiece(ToolCall(p[0] or f"call_{i}", p[1], p[2] or "{}")) for i, p in sorted(self._parts.items())]
        self._parts = {}
        return done


async def _pieces(response: httpx.Response) -> AsyncGenerator[Piece, None]:
    calls = _Calls()
    stopped = ""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            break
        try:
            chunk = json.loads(data)
            choices = chunk.get("choices") or ()
        except (ValueError, AttributeError) as error:
            raise ModelReplyInvalid("The model gateway sent a chunk that is not JSON.") from error
        if "error" in chunk:
            raise _refusal(502, data.encode(), {})
        for choice in choices:
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                yield TextPiece(str(text))
            calls.add(delta.get("tool_calls"))
            stopped = choice.get("finish_reason") or stopped
        if usage := chunk.get("usage"):
            yield _usage(str(chunk.get("model") or ""), usage)
    for call in calls.drain():
        yield call
    if not stopped:
        raise ModelReplyInvalid("The model's reply broke off in the middle.")
    yield StopPiece(stopped)


def _usage(model: str, usage: Mapping[str, Any]) -> UsagePiece:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return UsagePiece(
        model, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0), int(cached)
    )
