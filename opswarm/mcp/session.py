"""The client side of MCP over streamable HTTP, both eras of it, for what an agent needs: a server's tools.

2026-07-28 has no sessions: each request says who asks and in which version. Up to 2025-11-25 a handshake comes
first. Which era a server is of is asked for once (`server/discover`), and whatever does not answer that is greeted
in the old way. The SDK's client does all of MCP, for 23 MB and a millisecond of CPU a call; the tests hold this one
to the SDK's server, which is what our tool servers are.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from opswarm import __version__
from opswarm.fetch import Answer, Broken, Fetcher, FetchFailed
from opswarm.sse import Events

MODERN = "2026-07-28"
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions that begin with a handshake, the newest first."""

_CLIENT = {"name": "opswarm", "version": __version__}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_NOT_FOUND, _UNSUPPORTED_VERSION, _INTERNAL = -32601, -32022, -32603
_MOST_BYTES = 16 * 1024 * 1024
_RESUMED_AT_MOST = 2
_COURTESY_SECONDS = 2.0


class RpcError(Exception):
    """The server's JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


class Refused(Exception):
    """The server does not accept the caller's token."""


class SessionEnded(Exception):
    """The server does not know the session any more; the request was not looked at."""


class Session:
    """One server at `url`. `identity` gives the headers that say on whose behalf a request is made.

    Every method raises `FetchFailed`, `RpcError`, `Refused` or `SessionEnded`.
    """

    def __init__(self, url: str, fetch: Fetcher, identity: Callable[[], Mapping[str, str]], *, silence: float) -> None:
        self._url = url
        self._fetch = fetch
        self._identity = identity
        self._silence = silence
        self._ids = itertools.count(1)
        self._version = ""
        self._session_id = ""
        self._courtesies: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Finds the version that both sides speak."""
        self._version, self._session_id = MODERN, ""
        try:
            found = await self.request("server/discover", {})
            supported = found.get("supportedVersions")
        except RpcError as error:
            data = error.data if isinstance(error.data, dict) else {}
            supported = data.get("supported") if error.code == _UNSUPPORTED_VERSION else None
            if isinstance(supported, list) and not set(HANDSHAKE) & {s for s in supported if isinstance(s, str)}:
                raise
            supported = None
        if isinstance(supported, list) and MODERN in supported:
            return
        await self._shake_hands()

    async def request(
        self, method: str, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The result of a method. `headers` go along where the era has them."""
        number = next(self._ids)
        given = {**params, "_meta": {**params.get("_meta", {}), **_META}} if self._version == MODERN else params
        try:
            return await self._asked({"jsonrpc": "2.0", "id": number, "method": method, "params": given}, headers or {})
        except asyncio.CancelledError:
            if self._version not in ("", MODERN) and method != "initialize":
                # Of the modern era a connection that ends says the same.
                why = {"requestId": number, "reason": "The caller left."}
                self._courtesy("notifications/cancelled", why)
            raise

    async def close(self) -> None:
        """Says farewell to a server that keeps a session."""
        if self._session_id:
            with suppress(FetchFailed, TimeoutError):
                async with (
                    asyncio.timeout(_COURTESY_SECONDS),
                    self._fetch.post(self._url, b"", self._headers(), silence=self._silence, method="DELETE"),
                ):
                    pass
        self._version = self._session_id = ""

    async def _shake_hands(self) -> None:
        self._version = ""
        params = {"protocolVersion": HANDSHAKE[0], "capabilities": {}, "clientInfo": _CLIENT}
        result = await self.request("initialize", params)
        if result.get("protocolVersion") not in HANDSHAKE:
            raise RpcError(_UNSUPPORTED_VERSION, "The server speaks no version of MCP that is known here.")
        self._version = str(result["protocolVersion"])
        await self._told({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def _asked(self, message: Mapping[str, Any], more: Mapping[str, str]) -> dict[str, Any]:
        headers = self._headers()
        if self._version == MODERN:
            headers |= {"Mcp-Method": message["method"], **more}
        async with self._fetch.post(self._url, _json(message), headers, silence=self._silence) as answer:
            if answer.status in (401, 403):
                raise Refused
            if answer.status == 404 and self._session_id:
                raise SessionEnded
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if answer.status == 200 and kind == "text/event-stream":
                reply = await self._streamed(answer, message["id"])
            elif kind == "application/json" and answer.status != 202:
                reply = _object(await answer.read(_MOST_BYTES))
            else:
                code = _NOT_FOUND if answer.status in (404, 405) else _INTERNAL
                raise RpcError(code, f"The server answered HTTP {answer.status}.")
            if message["method"] == "initialize" and answer.status == 200:
                self._session_id = answer.headers.get("mcp-session-id", "")
        return _result(reply, message["id"])

    async def _streamed(self, answer: Answer, number: int) -> dict[str, Any]:
        """The reply among the events of a stream. One that ends early is taken up again where it may be."""
        reading = Events(_MOST_BYTES)
        reply = await self._reply(answer, reading, number)
        for _ in range(_RESUMED_AT_MOST):
            if reply is not None or not reading.last_id:
                break
            await asyncio.sleep(reading.retry_seconds)
            headers = {**self._headers(), "Last-Event-ID": reading.last_id}
            async with self._fetch.post(self._url, b"", headers, silence=self._silence, method="GET") as again:
                if again.status != 200:
                    break
                reply = await self._reply(again, reading, number)
        if reply is None:
            raise Broken("the stream ended without a reply")
        return reply

    async def _reply(self, answer: Answer, reading: Events, number: int) -> dict[str, Any] | None:
        with suppress(Broken):
            async for chunk in answer.chunks():
                for data in reading.add(chunk):
                    message = _object(data)
                    if "method" not in message and message.get("id") == number:
                        return message
                    if "method" in message and "id" in message:
                        self._decline(message)
        return None

    def _decline(self, message: Mapping[str, Any]) -> None:
        """Answers what the server asks on the way: nothing was offered that it could ask for, but a ping."""
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": _NOT_FOUND, "message": "This client does not answer that."}
        self._start(self._told(answer))

    def _courtesy(self, method: str, params: Mapping[str, Any]) -> None:
        self._start(self._told({"jsonrpc": "2.0", "method": method, "params": params}))

    def _start(self, work: Any) -> None:
        async def bounded() -> None:
            with suppress(FetchFailed, TimeoutError):
                async with asyncio.timeout(_COURTESY_SECONDS):
                    await work

        task = asyncio.create_task(bounded())
        self._courtesies.add(task)
        task.add_done_callback(self._courtesies.discard)

    async def _told(self, message: Mapping[str, Any]) -> None:
        async with self._fetch.post(self._url, _json(message), self._headers(), silence=self._silence) as answer:
            await answer.read(_MOST_BYTES)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            **self._identity(),
        }
        if self._version:
            headers["MCP-Protocol-Version"] = self._version
        if self._session_id:
            headers["Mcp-Session-Id"] = self._session_id
        return headers


def name_headers(name: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers by which a call of a tool can be routed (2026-07-28): its name, and arguments that its schema
    marks with `x-mcp-header`."""
    headers = {"Mcp-Name": _header(name)}
    for mark, value in _marked(schema, arguments):
        if isinstance(value, bool):
            headers[f"Mcp-Param-{mark}"] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            headers[f"Mcp-Param-{mark}"] = _header(str(value))
    return headers


def _marked(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        if name not in arguments or not isinstance(part, dict):
            continue
        mark = part.get("x-mcp-header")
        if isinstance(mark, str) and mark.isascii() and mark.replace("-", "").replace("_", "").isalnum():
            yield mark, arguments[name]
        if isinstance(arguments[name], dict):
            yield from _marked(part, arguments[name])


def _header(value: str) -> str:
    """As it is where a header holds it, else in base64 as the protocol wraps it."""
    if value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode(errors='replace')).decode('ascii')}?="


def _json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise Broken("what came is not JSON") from None
    if not isinstance(found, dict):
        raise Broken("what came is no JSON-RPC message")
    return found


def _result(reply: Mapping[str, Any], number: int) -> dict[str, Any]:
    result, error = reply.get("result"), reply.get("error")
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        raise RpcError(code if isinstance(code, int) else _INTERNAL, str(message), error.get("data"))
    if not isinstance(result, dict) or reply.get("id") != number:
        raise Broken("what came is not the answer")
    return result
