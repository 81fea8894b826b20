"""The pooled MCP client: one connection a tool server, held by one task, healed when the server comes back.

Any connect or read error would tear down the SDK's `Client` with every call in flight. So the transport below
turns them into JSON-RPC errors of the one call they belong to, and a client that breaks all the same is opened
anew by its owner task at the next call. The bearer token and the run id of each call are those of the turn that
makes it: they travel by context variable into the request that the pooled client sends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

from opswarm.agent.turn import ToolResult
from opswarm.errors import DeadlineExceeded, InvalidInput, OpswarmError, ToolServerDown, Unauthenticated
from opswarm.models.chat import ToolSchema
from opswarm.telemetry import traceparent

log = logging.getLogger(__name__)

bearer: ContextVar[Callable[[], str] | None] = ContextVar("bearer", default=None)
"""Gives the token with which the current turn calls tools: asked at each call, as a long turn renews it."""

_UNREACHABLE = -32098
_REFUSED = -32097
_CONNECT_SECONDS = 5.0
_LIST_SECONDS = 10.0
_LIST_LIFETIME = 60.0
_CALL_SECONDS = 90.0


class _EndsQuietly(httpx2.AsyncByteStream):
    """A body whose read error is its end: the SDK then fails the one request, not the whole client."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                yield chunk
        except httpx2.TransportError as error:
            log.info("tool server stream broke: %s", type(error).__name__)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Wire(httpx2.AsyncBaseTransport):
    """Adds the caller's identity to each request and turns transport errors into JSON-RPC errors."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if (token := bearer.get()) is not None and (value := token()):
            request.headers["Authorization"] = f"Bearer {value}"
        if parent := traceparent():
            request.headers["traceparent"] = parent
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            return _failure(request, 503, _UNREACHABLE, type(error).__name__)
        if response.status_code in (401, 403):
            await response.aclose()
            return _failure(request, response.status_code, _REFUSED, "refused")
        response.stream = _EndsQuietly(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _failure(request: httpx2.Request, status: int, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(status, json=body, request=request)


class ToolServerClient:
    """One tool server at `url` (its base; the endpoint is `/mcp` below it)."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = f"{url.rstrip('/')}/mcp"
        self._owner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Client] | None = None
        self._close = asyncio.Event()
        self._lock = asyncio.Lock()
        self._schemas: tuple[ToolSchema, ...] = ()
        self._listed = 0.0

    async def schemas(self) -> tuple[ToolSchema, ...]:
        """The server's tools, asked for at most once a minute. Raises `ToolServerDown`."""
        if not self._schemas or time.monotonic() - self._listed > _LIST_LIFETIME:
            client = await self._client()
            listed = await self._bounded(client.list_tools(cache_mode="bypass"), _LIST_SECONDS)
            self._schemas = tuple(
                ToolSchema(
                    t.name,
                    t.description or "",
                    t.input_schema,
                    bool(t.annotations and t.annotations.read_only_hint),
                )
                for t in listed.tools
            )
            self._listed = time.monotonic()
        return self._schemas

    async def call(self, name: str, arguments: Mapping[str, Any], *, read_only: bool) -> ToolResult:
        """Calls a tool. A call that can't have changed anything is tried again once on a broken connection.

        Raises `ToolServerDown`, `Unauthenticated` or `DeadlineExceeded`.
        """
        try:
            return await self._call(name, arguments)
        except ToolServerDown:
            if not read_only:
                raise
            return await self._call(name, arguments)

    async def aclose(self) -> None:
        self._close.set()
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
            self._owner = None

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        client = await self._client()
        result = await self._bounded(client.call_tool(name, dict(arguments)), _CALL_SECONDS)
        text = "\n".join(c.text for c in result.content if isinstance(c, TextContent))
        return ToolResult(text, not result.is_error, result.structured_content)

    async def _bounded(self, call: Any, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError as error:
            raise DeadlineExceeded(f"The {self.name} tool server did not answer within {seconds:.0f} s.") from error
        except MCPError as error:
            raise self._translated(error) from error

    def _translated(self, error: MCPError) -> OpswarmError:
        code = error.error.code
        if code == _REFUSED:
            return Unauthenticated(f"The {self.name} tool server does not accept this caller's token.")
        if code in (-32602, -32601):
            return InvalidInput(f"The {self.name} tool server refused the call: {error.error.message}")
        return self._down()

    def _down(self) -> ToolServerDown:
        return ToolServerDown(
            f"The {self.name} tool server can't be reached.", hint=f"Check that it runs at {self.url}."
        )

    async def _client(self) -> Client:
        async with self._lock:
            if self._owner is None or self._owner.done():
                self._opened = asyncio.get_running_loop().create_future()
                self._owner = asyncio.create_task(self._own(self._opened), name=f"mcp:{self.name}")
        opened = self._opened
        assert opened is not None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS * 2):
                return await asyncio.shield(opened)
        except TimeoutError as error:
            raise self._down() from error
        except OpswarmError as error:
            raise type(error)(error.message, hint=error.hint) from error

    async def _own(self, opened: asyncio.Future[Client]) -> None:
        """Holds the `Client` open. Every teardown, whatever its cause, ends here and nowhere else."""
        limits = httpx2.Limits(max_keepalive_connections=16, keepalive_expiry=60)
        timeout = httpx2.Timeout(_CONNECT_SECONDS, read=_CALL_SECONDS)
        transport = _Wire(httpx2.AsyncHTTPTransport(limits=limits))
        try:
            async with (
                httpx2.AsyncClient(transport=transport, timeout=timeout) as http,
                Client(streamable_http_client(self.url, http_client=http)) as client,
            ):
                opened.set_result(client)
                await self._close.wait()
        except Exception as error:  # The owner's boundary: whatever broke the client is told to its callers.
            log.info("connection to tool server %s ended: %s", self.name, type(error).__name__)
            if not opened.done():
                opened.set_exception(self._reason(error))
        finally:
            if not opened.done():
                opened.set_exception(self._down())
            with suppress(asyncio.CancelledError, OpswarmError):
                opened.exception()

    def _reason(self, error: BaseException) -> OpswarmError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return self._translated(error) if isinstance(error, MCPError) else self._down()


@dataclass(frozen=True, slots=True)
class _Entry:
    server: ToolServerClient
    schema: ToolSchema


class PooledToolbox:
    """The tools of several servers as one box. A server that is down is named in `missing`, not hidden."""

    def __init__(self, entries: Mapping[str, _Entry], missing: Sequence[OpswarmError]) -> None:
        self._entries = entries
        self.missing = tuple(missing)
        self._schemas = tuple(e.schema for e in entries.values())

    @classmethod
    async def open(cls, servers: Sequence[ToolServerClient]) -> PooledToolbox:
        """Lists every server's tools, in parallel."""
        listed = await asyncio.gather(*(s.schemas() for s in servers), return_exceptions=True)
        entries: dict[str, _Entry] = {}
        missing: list[OpswarmError] = []
        for server, result in zip(servers, listed, strict=True):
            if isinstance(result, OpswarmError):
                missing.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                for schema in result:
                    entries.setdefault(schema.name, _Entry(server, schema))
        return cls(entries, missing)

    @property
    def schemas(self) -> Sequence[ToolSchema]:
        return self._schemas

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        entry = self._entries[name]
        return await entry.server.call(name, arguments, read_only=entry.schema.read_only)
