"""Toolsets switched off and on while a server runs, so that a model carries only the tools that it needs.

Over HTTP each request says which it wants, as the protocol of 2026 keeps no session: `/mcp?toolsets=core,rollouts`, or
the header `X-Opswarm-Toolsets`; with neither, or `all`, there are all. Over stdio the one client switches them by the
tool `toolset_switch`, and is told that the list has changed. A tool that is switched off can't be called either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from mcp import MCPError
from mcp.server.subscriptions import SubscriptionBus
from mcp.shared.subscriptions import ToolsListChanged
from mcp.types import CallToolResult, TextContent
from pydantic import Field

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.mcp.tools import CORE, ToolOutput, ToolSpec

HEADER = "x-opswarm-toolsets"
QUERY = "toolsets"
ALL = "all"
SWITCH = "toolset_switch"
_INVALID_PARAMS = -32602
_MODERN = "2026-07-28"


def said_in(request: Any) -> list[str]:
    """The toolsets that an HTTP request names; none where it names none, or is none."""
    if request is None:
        return []
    said = request.query_params.get(QUERY, "") or request.headers.get(HEADER, "")
    return [name.strip() for name in said.split(",") if name.strip()]


def as_json(result: Any) -> dict[str, Any]:
    """A result on its way through a middleware, which the SDK hands on as a model or as what it becomes on the wire."""
    if isinstance(result, dict):
        return result
    found: dict[str, Any] = result.model_dump(by_alias=True, exclude_none=True, mode="json")
    return found


class Toolsets:
    """A middleware of one MCP server. `of` has the toolset of each tool; `events` is told of changes."""

    def __init__(self, of: Mapping[str, str], events: SubscriptionBus) -> None:
        self._of, self._events = dict(of), events
        self.names = sorted(set(of.values()), key=lambda name: (name != CORE, name))
        self._off: set[str] = set()

    def switch(self) -> ToolSpec:
        """The tool that switches, for a server with one client."""

        async def toolset_switch(
            toolset: Annotated[str, Field(description="Which.")],
            on: Annotated[bool, Field(description="Whether its tools are to be there.")] = True,
        ) -> ToolOutput:
            self._check([toolset])
            (self._off.discard if on else self._off.add)(toolset)
            there = [name for name in self.names if name not in self._off]
            tools = sorted(tool for tool, of in self._of.items() if of == toolset)
            done = f"{toolset} is {'on' if on else 'off'}: {', '.join(tools)}."
            return ToolOutput(f"{done} On are {', '.join(there) or 'none'}.", {"on": there})

        toolset_switch.__doc__ = f"Switch a set of this server's tools on or off: {', '.join(self.names)}."
        return ToolSpec(toolset_switch)

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        if ctx.method == "tools/list":
            on = self._on(ctx)
            found = as_json(await call_next(ctx))
            return {**found, "tools": [tool for tool in found.get("tools", []) if self._is_on(tool["name"], on)]}
        if ctx.method != "tools/call":
            return await call_next(ctx)
        name = str((ctx.params or {}).get("name"))
        if not self._is_on(name, self._on(ctx)):
            text = f"{name} is in the toolset {self._of[name]}, which is switched off. {self._how(ctx)}"
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
        before = set(self._off)
        result = await call_next(ctx)
        if name == SWITCH and self._off != before:
            await self._tell(ctx)
        return result

    def _on(self, ctx: Any) -> set[str]:
        """What is on for a request. Raises `MCPError` for a toolset that there is not."""
        named = said_in(ctx.request)
        try:
            self._check([name for name in named if name != ALL])
        except InvalidInput as error:
            raise MCPError(_INVALID_PARAMS, str(error)) from error
        chosen = set(self.names) if not named or ALL in named else set(named)
        return chosen - self._off

    def _is_on(self, tool: str, on: set[str]) -> bool:
        return tool not in self._of or self._of[tool] in on

    def _check(self, names: list[str]) -> None:
        for name in names:
            if name not in self.names:
                shown = cap_bytes(clean(name), 64)
                raise InvalidInput(f"There is no toolset '{shown}'.", hint=f"There are: {', '.join(self.names)}.")

    def _how(self, ctx: Any) -> str:
        if ctx.request is None:
            return f"{SWITCH} switches it on."
        return f"Name it in the address ({QUERY}=…) or in the header {HEADER.title()}."

    async def _tell(self, ctx: Any) -> None:
        await self._events.publish(ToolsListChanged())
        if str(ctx.protocol_version) < _MODERN:  # Since then only who listens is told.
            await ctx.session.send_tool_list_changed()
