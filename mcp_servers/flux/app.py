"""The Flux tool server's factories: HTTP for agents, stdio for a desktop app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_servers.cluster.connection import open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import chosen
from mcp_servers.flux.tools import ACTING, INSTRUCTIONS, declared, specs
from opswarm.mcp.serving import ToolProvider
from opswarm.settings import Settings

__all__ = ["NAME", "create_server", "declared"]

NAME = "flux"


@asynccontextmanager
async def create_server(settings: Settings) -> AsyncIterator[ToolProvider]:
    """The tool server while its cluster connection is open. Raises `SettingsInvalid` for a bad kubeconfig."""
    async with open_cluster(chosen(settings)) as cluster:
        acts = NAME in settings.actions.servers
        instructions = INSTRUCTIONS + ACTING if acts else INSTRUCTIONS
        tools = specs(Resources(cluster), actions=acts)
        yield ToolProvider(NAME, tools, instructions, checks={"Kubernetes API": cluster.answers})
