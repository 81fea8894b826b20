"""The Loki tool server's factories: HTTP for agents, stdio for a desktop app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_servers.loki.api import LokiApi
from mcp_servers.loki.asking import Store
from mcp_servers.loki.guarding import Budget
from mcp_servers.loki.tools import INSTRUCTIONS, declared, specs
from mcp_servers.observing.connection import connection
from opswarm.errors import SettingsInvalid
from opswarm.mcp.serving import ToolProvider
from opswarm.settings import Loki, Settings

__all__ = ["NAME", "create_server", "declared", "open_store"]

NAME = "loki"


@asynccontextmanager
async def open_store(chosen: Loki) -> AsyncIterator[Store]:
    """The Loki that the settings name. Raises `SettingsInvalid` when they name none, or certificates are no good."""
    if not chosen.configured:
        raise SettingsInvalid("Say where Loki is: loki.url, or OPSWARM_LOKI__URL.")
    async with connection("Loki", chosen, chosen.timeout_seconds) as opened:
        yield Store(LokiApi(opened), Budget(chosen.most_hours * 3_600, chosen.most_bytes))


@asynccontextmanager
async def create_server(settings: Settings) -> AsyncIterator[ToolProvider]:
    """The tool server while its connections are open. Raises as `open_store` does."""
    async with open_store(settings.loki) as store:
        yield ToolProvider(NAME, specs(store), INSTRUCTIONS, checks={"Loki": store.api.check})
