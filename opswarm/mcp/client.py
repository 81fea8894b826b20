"""The pooled MCP client: the tools of some servers, listed once a minute and called over kept connections.

A server that is down, comes back, or forgets its session is found again at the next call. The bearer token and the
run id of each call are those of the turn that makes it: they travel by context variable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opswarm.agent.events import ApprovalRequest
from opswarm.agent.toolbox import ToolResult
from opswarm.errors import DeadlineExceeded, InvalidInput, OpswarmError, ToolServerDown, Unauthenticated
from opswarm.fetch import ConnectFailed, Fetcher, FetchFailed
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.mcp.meta import APPROVAL, KEY, LATER, PROPOSAL
from opswarm.mcp.session import Refused, RpcError, Session, SessionEnded, name_headers
from opswarm.models.chat import ToolSchema
from opswarm.telemetry import traceparent

bearer: ContextVar[Callable[[], str] | None] = ContextVar("bearer", default=None)
"""Gives the token with which the current turn calls tools: asked at each call, as a long turn renews it."""

_CONNECT_SECONDS = 5.0
_LIST_SECONDS = 10.0
_LIST_LIFETIME = 60.0
_CALL_SECONDS = 90.0
_ACTION_SECONDS = 280.0
"""An action is waited for until its effect is seen; a turn has no more than 300 s by default."""
_BACK_SECONDS = 20.0
"""How long a server that is being restarted is waited for, before a call is sent again that may have been done."""
_BACK_EVERY_SECONDS = 0.5
_MOST_PAGES = 20

_ASK_AGAIN = "Ask for exactly the same again to learn: under the same key it is not done twice."
_LOOK_FIRST = "Look before you ask for it again."


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Hints(_Wire):
    readOnlyHint: bool | None = None


class _Tool(_Wire):
    name: str = Field(max_length=128)
    description: str | None = None
    inputSchema: dict[str, Any]
    annotations: _Hints | None = None


class _Page(_Wire):
    tools: tuple[_Tool, ...]
    nextCursor: str | None = None


class _Content(_Wire):
    type: str
    text: str | None = None


class _Meta(_Wire):
    approval: ApprovalRequest | None = Field(None, alias=APPROVAL)
    later: bool = Field(False, alias=LATER)


class _Called(_Wire):
    resultType: str = "complete"
    content: tuple[_Content, ...] = ()
    structuredContent: dict[str, Any] | None = None
    isError: bool | None = None
    meta: _Meta | None = Field(None, alias="_meta")


_W = TypeVar("_W", bound=_Wire)


def _identity() -> dict[str, str]:
    """The headers that say for whom a request is made, and in which run."""
    headers: dict[str, str] = {}
    if (token := bearer.get()) is not None and (value := token()):
        headers["Authorization"] = f"Bearer {value}"
    if parent := traceparent():
        headers["traceparent"] = parent
    return headers


class ToolServerClient:
    """One tool server at `url` (its base; the endpoint is `/mcp` below it), with these of its toolsets, or all."""

    def __init__(self, name: str, url: str, toolsets: Sequence[str] = ()) -> None:
        self.name = name
        self.url = f"{url.rstrip('/')}/mcp" + (f"?toolsets={','.join(toolsets)}" if toolsets else "")
        self._fetch = Fetcher(connect_seconds=_CONNECT_SECONDS)
        self._session = Session(self.url, self._fetch, _identity, silence=_ACTION_SECONDS)
        self._open = False
        self._lock = asyncio.Lock()
        self._schemas: tuple[ToolSchema, ...] = ()
        self._listed = 0.0

    async def schemas(self) -> tuple[ToolSchema, ...]:
        """The server's tools, asked for at most once a minute. Raises `ToolServerDown`."""
        if not self._schemas or time.monotonic() - self._listed > _LIST_LIFETIME:
            found: list[_Tool] = []
            cursor: str | None = None
            for _ in range(_MOST_PAGES):
                params = {"cursor": cursor} if cursor else {}
                page = self._read(_Page, await self._ask("tools/list", params, {}, _LIST_SECONDS))
                found += page.tools
                if not (cursor := page.nextCursor):
                    break
            self._schemas = tuple(
                ToolSchema(
                    t.name,
                    t.description or "",
                    t.inputSchema,
                    bool(t.annotations and t.annotations.readOnlyHint),
                )
                for t in found
            )
            self._listed = time.monotonic()
        return self._schemas

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, read_only: bool, key: str = "", proposal: str = ""
    ) -> ToolResult:
        """Calls a tool. A call that can't have changed anything is tried again once on a broken connection; one that is
        done once for its `key` or `proposal` too, when the server is back, which is waited for.

        Raises `ToolServerDown`, `Unauthenticated` or `DeadlineExceeded`, which say so where it is not known whether
        something was done.
        """
        if read_only:
            try:
                return await self._call(name, arguments, {}, _CALL_SECONDS)
            except ToolServerDown:
                return await self._call(name, arguments, {}, _CALL_SECONDS)
        meta = {k: v for k, v in ((KEY, key), (PROPOSAL, proposal)) if v}
        try:
            return await self._call(name, arguments, meta, _ACTION_SECONDS)
        except (ToolServerDown, DeadlineExceeded) as error:
            sent = _was_sent(error)
            if not meta and not sent:
                raise
            if not meta:
                raise _unknown(error, _LOOK_FIRST) from error
        await self._back()
        try:
            return await self._call(name, arguments, meta, _ACTION_SECONDS)
        except (ToolServerDown, DeadlineExceeded) as error:
            if not sent and not _was_sent(error):
                raise
            raise _unknown(error, _ASK_AGAIN) from error

    async def aclose(self) -> None:
        if self._open:
            await self._session.close()
        await self._fetch.aclose()

    async def _call(
        self, name: str, arguments: Mapping[str, Any], meta: Mapping[str, str], seconds: float
    ) -> ToolResult:
        schema = next((s.parameters for s in self._schemas if s.name == name), {})
        headers = name_headers(name, schema, arguments)
        params: dict[str, Any] = {"name": name, "arguments": dict(arguments)}
        if meta:
            params["_meta"] = dict(meta)
        called = self._read(_Called, await self._ask("tools/call", params, headers, seconds))
        if called.resultType == "input_required":
            raise InvalidInput(f"{name} asks for input that nobody can give here.")
        text = "\n".join(c.text for c in called.content if c.type == "text" and c.text is not None)
        approval = called.meta.approval if called.meta else None
        later = bool(called.isError and called.meta and called.meta.later)
        return ToolResult(text, not called.isError, called.structuredContent, approval, later=later)

    async def _ask(
        self, method: str, params: Mapping[str, Any], headers: Mapping[str, str], seconds: float
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                await self._opened()
                try:
                    return await self._session.request(method, params, headers)
                except SessionEnded:
                    # Nothing was looked at, so nothing was done: it can be asked again.
                    self._open = False
                    await self._opened()
                    return await self._session.request(method, params, headers)
        except TimeoutError as error:
            raise DeadlineExceeded(f"The {self.name} tool server did not answer within {seconds:.0f} s.") from error
        except Refused as error:
            raise Unauthenticated(f"The {self.name} tool server does not accept this caller's token.") from error
        except (FetchFailed, SessionEnded) as error:
            self._open = False
            raise self._down() from error
        except RpcError as error:
            raise self._translated(error) from error

    async def _back(self) -> None:
        """Waits, not for ever, until the server can be reached."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BACK_SECONDS):
                while True:
                    try:
                        return await self._opened()
                    except Refused:
                        return  # It is there, and the call hears the same.
                    except (FetchFailed, SessionEnded, RpcError):
                        await asyncio.sleep(_BACK_EVERY_SECONDS)

    async def _opened(self) -> None:
        async with self._lock:
            if not self._open:
                await self._session.open()
                self._open = True

    def _read(self, kind: type[_W], result: Mapping[str, Any]) -> _W:
        try:
            return kind.model_validate(result)
        except ValidationError as error:
            raise InvalidInput(f"The {self.name} tool server sent a result that can't be read.") from error

    def _translated(self, error: RpcError) -> OpswarmError:
        if error.code in (-32602, -32601):
            told = cap_bytes(clean(error.message), 400)
            return InvalidInput(f"The {self.name} tool server refused the call: {told}")
        return self._down()

    def _down(self) -> ToolServerDown:
        return ToolServerDown(
            f"The {self.name} tool server can't be reached.", hint=f"Check that it runs at {self.url}."
        )


def _was_sent(error: OpswarmError) -> bool:
    return not isinstance(error.__cause__, ConnectFailed)


def _unknown(error: OpswarmError, hint: str) -> OpswarmError:
    return type(error)(f"{error.message} It is not known whether this was done.", hint=hint)


@dataclass(frozen=True, slots=True)
class _Entry:
    server: ToolServerClient
    schema: ToolSchema


class PooledToolbox:
    """The tools of several servers as one box. A server that is down is named in `missing`, not hidden."""

    def __init__(self, entries: Mapping[str, _Entry], missing: Sequence[OpswarmError]) -> None:
        self._entries = entries
        self._missing = tuple(missing)
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

    @property
    def missing(self) -> Sequence[OpswarmError]:
        return self._missing

    async def call(self, name: str, arguments: dict[str, Any], *, key: str = "", proposal: str = "") -> ToolResult:
        entry = self._entries[name]
        read_only = entry.schema.read_only
        return await entry.server.call(name, arguments, read_only=read_only, key=key, proposal=proposal)
