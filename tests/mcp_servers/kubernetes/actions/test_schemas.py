"""What the actions' arguments look like to a model."""

from __future__ import annotations

from typing import cast

import mcp

from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes.actions.rights import RIGHTS
from mcp_servers.kubernetes.tools import INSTRUCTIONS, specs
from opswarm.actions.gate import Gate
from opswarm.mcp.factory import ToolServer


async def test_every_argument_is_flat_and_described() -> None:
    offered = specs(Resources(cast(Cluster, None)), actions=True)
    gate = cast(Gate, object())  # It is only asked when a tool is called.
    server = ToolServer("kubernetes", offered, instructions=INSTRUCTIONS, gate=gate)
    async with mcp.Client(server._mcp) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    for name in RIGHTS:
        schema = tools[name].input_schema
        assert "$defs" not in schema
        for argument in schema["properties"].values():
            assert argument["type"] in ("string", "integer", "boolean", "array")
            assert argument["description"]
