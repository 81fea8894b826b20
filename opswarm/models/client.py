"""The client of the model gateway: OpenAI chat completions over HTTP, streamed."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress

import httpx

from opswarm.errors import (
    BudgetExceeded,
    ModelBusy,
    ModelFailed,
    ModelReplyInvalid,
    ModelUnreachable,
    OpswarmError,
    Unauthenticated,
    by_code,
)
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.models.chat import ChatRequest, Piece
from opswarm.models.chunks import Reply, read_chunk
from opswarm.telemetry import traceparent

_SLACK_SECONDS = 15.0
"""How much longer than the gateway the client waits, so that it is the gateway that says what is silent."""

_END_SECONDS = 0.25
_MAX_LINE = 4 * 1024 * 1024


class GatewayClient:
    """Speaks to one gateway. `token` gives the bearer token of the turn at hand, asked for on every call.

    `silence_seconds` is how long the gateway lets a model be silent.
    """

    def __init__(
        self, url: str, http: httpx.AsyncClient, token: Callable[[], str], *, silence_seconds: float = 120.0
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._http = http
        self._token = token
        self._timeout = httpx.Timeout(10.0, read=silence_seconds + _SLACK_SECONDS)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        headers = {"Authorization": f"Bearer {self._token()}"}
        if parent := traceparent():
            headers["traceparent"] = parent
        body = {**request.wire(), "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._http.stream(
                "POST", self._url, json=body, headers=headers, timeout=self._timeout
            ) as response:
                if response.status_code != 200:
                    raise _failure(response.status_code, _error_in(await response.aread()), response.headers)
                async with aclosing(_pieces(response)) as pieces:
                    async for piece in pieces:
                        yield piece
        except httpx.TimeoutException as error:
            raise ModelUnreachable(
                "The model gateway did not answer in time.", hint="Look at its log, or raise models.timeout_seconds."
            ) from error
        except httpx.DecodingError as error:
            raise ModelReplyInvalid("The model gateway's answer can't be unpacked.") from error
        except httpx.TransportError as error:
            raise ModelUnreachable(
                f"The model gateway at {self._url} can't be reached.", hint="Start it, or set addresses.gateway."
            ) from error


def _error_in(raw: bytes) -> object:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body.get("error") if isinstance(body, dict) else None


def _failure(status: int, detail: object, headers: Mapping[str, str]) -> OpswarmError:
    """The error that the gateway's `detail` tells of, whatever it is made of."""
    fields = detail if isinstance(detail, Mapping) else {}
    told, code = fields.get("message"), fields.get("code")
    if not isinstance(told, str) or not told:
        told = f"The model gateway answered HTTP {status}."
    message = cap_bytes(clean(told), 600)
    kind = by_code(code) if isinstance(code, str) else ModelFailed
    if kind is BudgetExceeded:
        return BudgetExceeded(message)
    if kind is ModelBusy or status == 429:
        return ModelBusy(message, retry_after=_seconds(headers.get("retry-after")))
    if status == 401 or kind is Unauthenticated:
        return ModelUnreachable(f"The model gateway refused this agent: {message}")
    return kind(message) if issubclass(kind, ModelFailed) else ModelFailed(message)


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "nan")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


async def _pieces(response: httpx.Response) -> AsyncGenerator[Piece, None]:
    reply = Reply()
    async with aclosing(_lines(response)) as lines:
        async for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            chunk = read_chunk(data)
            if chunk.error is not None:
                raise _failure(502, chunk.error, {})
            for piece in reply.add(chunk):
                yield piece
        for piece in reply.end():
            yield piece
        # Read to its end the connection can be used again; a gateway that does not end is not waited for.
        with suppress(TimeoutError, httpx.TransportError):
            async with asyncio.timeout(_END_SECONDS):
                async for _ in lines:
                    pass


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The lines of the body. httpx's own also end at U+2028 and its like, which JSON text may hold."""
    rest = b""
    async for data in response.aiter_bytes():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > _MAX_LINE:
            raise ModelReplyInvalid("The model gateway sent a line without an end.")
    yield rest
