"""The GitHub tool server's factories: HTTP for agents, stdio for a desktop app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_servers.github.tools import ACTING, INSTRUCTIONS, declared, github_tools
from opswarm.errors import SettingsInvalid
from opswarm.mcp.serving import ToolProvider
from opswarm.settings import Settings

__all__ = ["NAME", "create_server", "declared"]

NAME = "github"


@asynccontextmanager
async def create_server(settings: Settings) -> AsyncIterator[ToolProvider]:
    """The tool server while its connections are open. Raises `SettingsInvalid` where there is nobody to ask as."""
    if not settings.github.configured:
        raise SettingsInvalid(
            "There is no token for GitHub.",
            hint="Set github.token_file (or GITHUB_TOKEN), or github.app_id with private_key_file.",
        )
    acts = NAME in settings.actions.servers
    async with github_tools(settings.github, actions=acts) as (client, specs):
        instructions = INSTRUCTIONS + ACTING if acts else INSTRUCTIONS
        yield ToolProvider(NAME, specs, instructions, checks={"GitHub API": client.check})
