"""The Prometheus tool server's factories: HTTP for agents, stdio for a desktop app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_servers.prometheus.settings import backends
from mcp_servers.prometheus.tools import ACTING, INSTRUCTIONS, declared, open_apis, specs
from opswarm.mcp.serving import ToolProvider
from opswarm.settings import Settings

__all__ = ["NAME", "create_server", "declared"]

NAME = "prometheus"


@asynccontextmanager
async def create_server(settings: Settings) -> AsyncIterator[ToolProvider]:
    """The tool server while its connections are open. Raises `SettingsInvalid` when nothing is there to be asked."""
    acts = NAME in settings.actions.servers and bool(settings.prometheus.alertmanager.url)
    async with open_apis(backends(settings.prometheus)) as apis:
        instructions = INSTRUCTIONS + ACTING if acts else INSTRUCTIONS
        yield ToolProvider(NAME, specs(apis, actions=acts), instructions, checks=apis.checks())
