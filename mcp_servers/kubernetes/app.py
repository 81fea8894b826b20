"""The Kubernetes tool server's factories: HTTP for agents, stdio for a desktop app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_servers.cluster.settings import chosen
from mcp_servers.kubernetes.tools import ACTING, INSTRUCTIONS, declared, kubernetes_tools
from opswarm.mcp.serving import ToolProvider
from opswarm.settings import Settings

__all__ = ["NAME", "create_server", "declared"]

NAME = "kubernetes"


@asynccontextmanager
async def create_server(settings: Settings) -> AsyncIterator[ToolProvider]:
    """The tool server while its cluster connection is open. Raises `SettingsInvalid` for a bad kubeconfig."""
    acts = NAME in settings.actions.servers
    async with kubernetes_tools(chosen(settings), actions=acts) as (cluster, specs):
        instructions = INSTRUCTIONS + ACTING if acts else INSTRUCTIONS
        yield ToolProvider(NAME, specs, instructions, checks={"Kubernetes API": cluster.answers})
