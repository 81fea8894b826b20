"""The tool servers' tools, passed through to a desktop app that asked for them, so that it needs one connection.

Which are offered is said with each request, as the protocol of 2026 keeps no session: `/mcp?toolsets=kubernetes`, or
the header `X-Opswarm-Toolsets`. A tool keeps its name and schema; its server decides, as ever, who may call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.types import CallToolResult, TextContent

from opswarm.errors import InvalidInput, OpswarmError, Unauthenticated
from opswarm.guard.exchange import Exchange
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.mcp import progress
from opswarm.mcp.client import PooledToolbox, ToolServerClient, bearer
from opswarm.mcp.factory import caller
from opswarm.mcp.toolsets import ALL, as_json, said_in
from opswarm.models.chat import ToolSchema

_ACTOR = "orchestrator"
_STATUS = "toolset_status"


class PassThrough:
    """A middleware of the MCP server."""

    def __init__(self, servers: Mapping[str, ToolServerClient], exchange: Exchange, own: Sequence[str]) -> None:
        self._servers = servers
        self._exchange = exchange
        self._own = frozenset(own)

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        if ctx.method == "tools/list":
            listed = await call_next(ctx)
            return await self._listed(ctx, listed) if self._chosen(ctx) else listed
        name = (ctx.params or {}).get("name") if ctx.method == "tools/call" else None
        if isinstance(name, str) and name not in self._own and (chosen := self._chosen(ctx)):
            arguments = (ctx.params or {}).get("arguments") or {}
            if not progress.wanted(ctx):
                return await self._called(name, arguments, chosen)
            async with progress.reported(cap_bytes(clean(name), 64), ctx.session.report_progress):
                return await self._called(name, arguments, chosen)
        return await call_next(ctx)

    def _chosen(self, ctx: Any) -> Sequence[ToolServerClient]:
        names = said_in(ctx.request)
        return [server for name, server in self._servers.items() if name in names or ALL in names]

    async def _listed(self, ctx: Any, listed: Any) -> Any:
        found = as_json(listed)
        box = await self._box(self._chosen(ctx))
        tools = [*found.get("tools", []), *(_wire(s) for s in box.schemas if s.name not in self._own)]
        if box.missing:
            # Tools that can't be listed must not look like tools that do not exist.
            told = f"Says which tools are missing now, and why: {_why(box)}"
            tools.append(_wire(ToolSchema(_STATUS, told, {"type": "object", "properties": {}})))
        return {**found, "tools": tools}

    async def _called(self, name: str, arguments: Mapping[str, Any], chosen: Sequence[ToolServerClient]) -> Any:
        try:
            box = await self._box(chosen)
            if name == _STATUS:
                return _said(_why(box) or "Every toolset that is on is there. List the tools again.")
            if name not in {s.name for s in box.schemas}:
                if box.missing:
                    raise box.missing[0]
                raise InvalidInput(f"There is no tool '{cap_bytes(clean(name), 64)}' in the toolsets that are on.")
            result = await box.call(name, dict(arguments))
        except OpswarmError as error:
            return _said(str(error), ok=False)
        return _said(result.text, result.data, ok=result.ok)

    async def _box(self, chosen: Sequence[ToolServerClient]) -> PooledToolbox:
        principal = caller()
        if principal is None:
            raise Unauthenticated("Nobody is known to be asking.")
        # The orchestrator is in the chain: what comes through it is never a person's own direct call.
        token = self._exchange.for_work(principal, _ACTOR, "")
        bearer.set(lambda: token)
        return await PooledToolbox.open(chosen)


def _said(text: str, data: dict[str, Any] | None = None, *, ok: bool = True) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data, is_error=not ok)


def _why(box: PooledToolbox) -> str:
    return " ".join(map(str, box.missing))


def _wire(schema: ToolSchema) -> dict[str, Any]:
    return {
        "name": schema.name,
        "description": schema.description,
        "inputSchema": dict(schema.parameters),
        "annotations": {"readOnlyHint": schema.read_only, "destructiveHint": not schema.read_only},
    }
