from __future__ import annotations

import json

from mcp_servers.github.tools import ACTING, INSTRUCTIONS, declared
from opswarm.guard.principal import Principal
from opswarm.mcp.factory import ToolServer, local_person

MOST_TOKENS = 2_500
"""What a model pays before it has asked anything, at four characters a token."""


def _listed(*, reads: bool) -> list[dict[str, object]]:
    who: Principal = local_person()
    chosen = [spec for spec in declared() if spec.read_only]
    server = ToolServer("github", chosen, instructions=INSTRUCTIONS, stdio_caller=who)
    tools = server._mcp._tool_manager.list_tools()
    return [
        {"name": t.name, "description": t.description, "inputSchema": t.parameters} for t in tools
    ]  # fmt: skip


def test_the_tools_that_read_cost_little() -> None:
    size = len(json.dumps(_listed(reads=True), separators=(",", ":"))) // 4
    assert size <= MOST_TOKENS, size
    assert len(INSTRUCTIONS + ACTING) // 4 < 200


def test_every_tool_says_what_it_does_in_a_sentence() -> None:
    for spec in declared():
        text = (spec.function.__doc__ or "").strip()
        assert text.endswith(".") and len(text) < 200, spec.name
