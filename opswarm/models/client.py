"""The client of the model gateway: OpenAI chat completions over HTTP, streamed."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing

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
from opswarm.fetch import Answer, Fetcher, FetchFailed, Silent, Unreadable
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.models.chat import ChatRequest, Piece, TextPiece
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
        self, url: str, http: Fetcher, token: Callable[[], str], *, silence_seconds: float = 120.0
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._http = http
        self._token = token
        self._silence = silence_seconds + _SLACK_SECONDS

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        if parent := traceparent():
            headers["traceparent"] = parent
        body = json.dumps({**request.wire(), "stream": True, "stream_options": {"include_usage": True}}).encode()
        try:
            async with self._http.post(self._url, body, headers, silence=self._silence) as answer:
                if answer.status != 200:
                    raise _failure(answer.status, _error_in(await answer.read(_MAX_LINE)), answer.headers)
                async with aclosing(_pieces(answer)) as pieces:
                    async for piece in pieces:
                        yield piece
        except Silent as error:
            raise ModelUnreachable(
                "The model gateway did not answer in time.", hint="Look at its log, or raise models.timeout_seconds."
            ) from error
        except Unreadable as error:
            raise ModelReplyInvalid("The model gateway's answer can't be unpacked.") from error
        except FetchFailed as error:
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


async def _pieces(answer: Answer) -> AsyncGenerator[Piece, None]:
    reading = _Reading()
    async for data in answer.chunks():
        for piece in reading.add(data):
            yield piece
        if reading.done:
            break
    for piece in reading.end():
        yield piece
    # Read to its end the connection can be used again; a gateway that does not end is not waited for.
    await answer.drain(_END_SECONDS)


class _Reading:
    """The reply as its bytes come. Text that arrived together is one piece: nobody waited for it in between."""

    def __init__(self) -> None:
        self.done = False
        self._reply = Reply()
        self._rest = b""

    def add(self, data: bytes) -> Iterator[Piece]:
        """The pieces in the lines that `data` completes. Raises `ModelReplyInvalid` for one without an end."""
        # Only a line feed ends a line: JSON text may hold what else does, such as U+2028.
        *lines, self._rest = (self._rest + data).split(b"\n")
        said: list[str] = []
        for line in lines:
            for piece in self._line(line):
                if isinstance(piece, TextPiece):
                    said.append(piece.text)
                    continue
                if said:
                    yield TextPiece("".join(said))
                    said.clear()
                yield piece
        if said:
            yield TextPiece("".join(said))
        if len(self._rest) > _MAX_LINE:
            raise ModelReplyInvalid("The model gateway sent a line without an end.")

    def end(self) -> Iterator[Piece]:
        yield from self.add(b"\n")
        yield from self._reply.end()

    def _line(self, line: bytes) -> Iterator[Piece]:
        if self.done or not line.startswith(b"data:"):
            return
        written = line[5:].strip()
        if written == b"[DONE]":
            self.done = True
            return
        chunk = read_chunk(written)
        if chunk.error is not None:
            raise _failure(502, chunk.error, {})
        yield from self._reply.add(chunk)
