"""JSON-RPC bodies, checked before the SDK reads them, and its errors, cleared of what exceptions say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Any, cast

from sse_starlette.sse import EventSourceResponse
from starlette.responses import JSONResponse, Response

BROKE = "The agent broke on this request; its log has the details."

SAFE = "opswarmCode"
"""In the data of an internal error whose message is written for people: the error's code."""

_MAX_DEPTH = 40
"""Deeper than any message people send, and well within protobuf's own limit of 100."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}
"""Beyond those that JSON escapes anyway: httpx, and what is built on it, ends a line there."""

_FIELD = re.compile(r"Failed to parse ([A-Za-z_]{1,40}) field")
_LOCATION = re.compile(r"^((?:[A-Za-z]\w*\.)+[A-Za-z]\w*)$", re.MULTILINE)
_PARSE, _REQUEST, _PARAMS, _INTERNAL = -32700, -32600, -32602, -32603
_TEXTS = {
    _PARSE: "The request is not valid JSON.",
    _REQUEST: "The request is not a JSON-RPC 2.0 request of this protocol.",
    _PARAMS: "The params do not fit the method.",
    _INTERNAL: BROKE,
}


class Refused(Exception):
    """A body that no method gets to see: `code` is the JSON-RPC code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def parse(raw: bytes) -> dict[str, Any]:
    """The request object in `raw`. Raises `Refused` for what is not one, or holds what JSON does not have."""
    try:
        found = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        _check(found, 0)
    except UnicodeDecodeError:
        raise Refused(_PARSE, "The request is not valid UTF-8.") from None
    except (ValueError, RecursionError):
        raise Refused(_PARSE, _TEXTS[_PARSE]) from None
    if not isinstance(found, dict):
        raise Refused(_REQUEST, "The request must be one JSON-RPC object; batches are not supported.")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise Refused(_PARSE, f"The request is nested deeper than {_MAX_DEPTH} levels.")
    match value:
        case str():
            if _SURROGATE.search(value):
                raise Refused(_PARSE, "The request holds half of a surrogate pair, which is no character.")
        case dict():
            for name, item in value.items():
                _check(name, depth)
                _check(item, depth + 1)
        case list():
            for item in value:
                _check(item, depth + 1)
        case float() if not math.isfinite(value):
            raise Refused(_PARSE, "The request holds a number that is too large.")
        case int() if abs(value) > 2**1000:
            raise Refused(_PARSE, "The request holds a number that is too large.")


def error(code: int, message: str, *, status: int = 200, request_id: Any = None) -> Response:
    """A JSON-RPC error as a response."""
    body = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
    return JSONResponse(body, status_code=status)


def plain(response: Response) -> Response:
    """The SDK's response with the text of exceptions taken out of its error: they are for the log.

    Where the exception names the field it was about, that is kept. In a stream, what some clients take for the end
    of a line is escaped.
    """
    if isinstance(response, EventSourceResponse):
        response.body_iterator = _on_one_line(response.body_iterator)
    if not isinstance(response, JSONResponse):
        return response
    body = json.loads(bytes(response.body))
    found = body.get("error") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        return response
    code, data = found.get("code"), found.get("data")
    carried = json.dumps(data) if data else ""
    if code == _INTERNAL and SAFE not in carried:
        found["message"] = BROKE
        found.pop("data", None)
    elif code in _TEXTS and ("parseError" in carried or isinstance(data, str)):
        where = _field(data if isinstance(data, str) else carried)
        found["message"] = _TEXTS[code] + (f" Look at {where}." if where else "")
        found.pop("data", None)
    return JSONResponse(body, status_code=response.status_code)


async def _on_one_line(events: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    async with aclosing(cast("AsyncGenerator[Any, None]", events)) as source:
        async for event in source:
            yield {**event, "data": event["data"].translate(_LINE_ENDS)}


def _field(said: str) -> str:
    if path := _FIELD.findall(said):
        return ".".join(["params", *path])
    located = _LOCATION.search(said)
    return located.group(1) if located else ""
