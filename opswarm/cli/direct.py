"""`opswarm call`: a person calls a tool themselves, with no agent and no model in between."""

from __future__ import annotations

import asyncio
import difflib
import sys
import uuid
from contextlib import AsyncExitStack
from typing import Any

import typer

from opswarm.agent.toolbox import ToolResult
from opswarm.cli import registry, running
from opswarm.cli.arguments import arguments
from opswarm.cli.calling import call as ask
from opswarm.errors import InvalidInput, OpswarmError
from opswarm.guard.keys import find_token
from opswarm.guard.untrusted import clean
from opswarm.mcp.client import ToolServerClient, bearer
from opswarm.models.chat import ToolSchema
from opswarm.settings import Settings


async def called(settings: Settings, tool: str, words: list[str], dry_run: bool) -> ToolResult:
    """The result of the tool, which is asked about at the terminal first where it needs an approval.

    Raises `InvalidInput` for a tool or an argument that is none, and what went wrong.
    """
    token = find_token(settings)
    bearer.set(lambda: token)
    async with AsyncExitStack() as stack:
        client, schema = await _found(settings, tool, stack)
        taken = schema.parameters.get("properties", {})
        given = arguments(words, {name: one for name, one in taken.items() if name != "dry_run"})
        if dry_run:
            if schema.read_only:
                raise InvalidInput(f"{tool} only reads; there is nothing to say about it first.")
            given["dry_run"] = True
        result = await client.call(tool, given, read_only=schema.read_only, key=uuid.uuid4().hex)
        if result.approval is None or not sys.stdin.isatty():
            return result
        shown = "\n".join(t for t in (result.approval.summary, result.approval.preview) if t)
        yes = await asyncio.to_thread(typer.confirm, f"{clean(shown)}\nDo it?", default=False, err=True)
        body = {"answer": "approve" if yes else "reject"}
        url = running.base_url(settings)
        await asyncio.to_thread(
            ask, settings, "orchestrator", url, "POST", f"/approvals/{result.approval.id}", body=body
        )
        return await client.call(tool, given, read_only=False, proposal=result.approval.id)


async def _found(settings: Settings, tool: str, stack: AsyncExitStack) -> tuple[ToolServerClient, ToolSchema]:
    """The server that has the tool. Raises `InvalidInput` when none has it, and what went wrong when one is down."""
    at = running.find(settings)
    urls = {row.service: row.url for row in at.rows} if at else {}
    known: list[str] = []
    down: OpswarmError | None = None
    used = registry.tool_servers(settings)
    for name in registry.names(registry.TOOL_SERVERS):
        if name not in used and name not in urls and not settings.addresses.get(name):
            continue
        client = ToolServerClient(name, urls.get(name) or settings.address(name))
        stack.push_async_callback(client.aclose)
        try:
            schemas: Any = await client.schemas()
        except OpswarmError as error:
            down = error
            continue
        known += [s.name for s in schemas]
        if found := next((s for s in schemas if s.name == tool), None):
            return client, found
    if down is not None:
        raise down
    close = difflib.get_close_matches(tool, known, n=1)
    guess = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."
    raise InvalidInput(f"There is no tool {tool!a} here.", hint=guess)
