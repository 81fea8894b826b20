"""What a model pays for a tool server before it has asked anything."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points
from typing import Any

import pytest

from opswarm.cli.registry import TOOL_SERVERS
from opswarm.mcp.factory import ToolServer, local_person

MOST_TOKENS = 2_500
"""For the tools that read, all of `tools/list`, at four characters a token."""

SERVERS = sorted(e.value.partition(":")[0] for e in entry_points(group=TOOL_SERVERS) if e.value.startswith("mcp_"))


def declared(server: str) -> list[Any]:
    return list(importlib.import_module(server).declared())


@pytest.mark.parametrize("server", SERVERS)
async def test_the_tools_that_read_cost_little(server: str) -> None:
    chosen = [spec for spec in declared(server) if spec.read_only]
    offered = ToolServer("one", chosen, instructions="", stdio_caller=local_person())
    listed = await offered._mcp.list_tools()
    wire = [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in listed]
    assert len(wire) == len(chosen) >= 5
    assert len(json.dumps(wire, separators=(",", ":"))) / 4 <= MOST_TOKENS


@pytest.mark.parametrize("server", SERVERS)
def test_every_tool_says_what_it_does_in_a_sentence(server: str) -> None:
    for spec in declared(server):
        text = (spec.function.__doc__ or "").strip()
        assert text.endswith(".") and len(text) < 600, spec.name


@pytest.mark.parametrize("server", SERVERS)
def test_instructions_are_short(server: str) -> None:
    tools = importlib.import_module(server.removesuffix("app") + "tools")
    assert len(tools.INSTRUCTIONS + tools.ACTING) // 4 < 200
