"""A desktop app's MCP client, connected over HTTP to a tool server that is there for the length of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from opswarm.guard.keys import make_person_token
from opswarm.mcp.serving import Opener, http_service
from tests.support.hosting import serving, settings_at


@asynccontextmanager
async def connected(opener: Opener, folder: Path, mode: Any, query: str = "", **headers: str) -> AsyncIterator[Client]:
    """As a person, in the way of an era: `auto` or `legacy`. `query` is put behind the address."""
    settings = settings_at(folder)
    headers["Authorization"] = f"Bearer {make_person_token(settings)}"
    async with (
        http_service(opener, settings) as service,
        serving(service.app()) as url,
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp{query}", http_client=http), mode=mode) as client,
    ):
        yield client
