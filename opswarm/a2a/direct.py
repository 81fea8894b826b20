"""The short way of a streamed message: from its JSON to the engine, and from the engine's frames to the socket.

What every turn takes is here; what is rare goes through the SDK's dispatcher, and comes to the same engine. Both
ways put the same on the wire.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from a2a.types import SendMessageConfiguration
from a2a.utils.errors import A2AError, InvalidParamsError
from a2a.utils.task import apply_history_length
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.a2a.frames import Frame, TaskFrame
from opswarm.a2a.handler import PATH_KEY, sealed
from opswarm.a2a.messages import check, plain_message
from opswarm.a2a.sdk import build_error_response

PING_SECONDS = 15.0
"""A stream that has nothing to say sends a comment this often, so that nobody on the way takes it for dead."""

_METHOD = "SendStreamingMessage"
_PARAMS = {"message", "configuration", "metadata"}
_CONFIGURATION = {"historyLength", "acceptedOutputModes", "returnImmediately"}
_PING = b": ping\r\n\r\n"
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
]


def read(body: Mapping[str, Any], version: str, owner: str, agent: str | None) -> tuple[Call, int | None] | None:
    """The call in a JSON-RPC request, and the history length it asks for; None for what goes the long way.

    `version` is the request's `A2A-Version`, `agent` the one named in its URL.
    """
    params, request_id = body.get("params"), body.get("id")
    if (
        body.get("method") != _METHOD
        or body.get("jsonrpc") != "2.0"
        or version != "1.0"
        or not isinstance(request_id, str | int)
        or isinstance(request_id, bool)
        or not isinstance(params, dict)
        or not params.keys() <= _PARAMS
        or (message := plain_message(params.get("message"))) is None
    ):
        return None
    configuration, metadata = params.get("configuration", {}), params.get("metadata", {})
    if not isinstance(configuration, dict) or not isinstance(metadata, dict):
        return None
    kept = configuration.get("historyLength")
    if not configuration.keys() <= _CONFIGURATION or type(kept) not in (int, type(None)):
        return None
    if agent:
        metadata = {**metadata, PATH_KEY: agent}
    return Call(message, owner, metadata), kept


async def answer(engine: Engine, call: Call, request_id: str | int, history_length: int | None) -> Response:
    """The stream of a call's frames; or the JSON-RPC error that refuses it."""
    try:
        with sealed():
            check(call.message)
            if history_length is not None and history_length < 0:
                raise InvalidParamsError("history length must be non-negative")
            taken = await engine.take(call)
    except A2AError as error:
        return JSONResponse(build_error_response(request_id, error))
    return _Stream(taken, request_id, history_length)


class _Stream(Response):
    """Server-sent events, as the SDK spells them."""

    def __init__(self, taken: Taken, request_id: str | int, history_length: int | None) -> None:
        self.status_code = 200
        self.background = None
        self._taken = taken
        self._history_length = history_length
        self._end = f', "id": {json.dumps(request_id)}, "jsonrpc": "2.0"}}\r\n\r\n'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nobody listens for the client's leaving: the work goes on without it, and what is sent then is dropped.
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        taken = self._taken
        if taken.work is None or taken.listener is None:
            yield self._spelt(self._shown(TaskFrame(taken.task)).json())
            return
        try:
            while (frames := await taken.listener.next(PING_SECONDS)) is not None:
                if not frames:
                    yield _PING
                    continue
                yield b"".join(self._spelt(self._shown(f).json()) for f in frames)
        finally:
            taken.work.leave(taken.listener)

    def _shown(self, frame: Frame) -> Frame:
        """The frame with no more of the task's history than was asked for."""
        if self._history_length is None or not isinstance(frame, TaskFrame):
            return frame
        configuration = SendMessageConfiguration(history_length=self._history_length)
        return TaskFrame(apply_history_length(frame.proto(), configuration))

    def _spelt(self, frame: str) -> bytes:
        return f'data: {{"result": {frame}{self._end}'.encode("ascii")
