"""The pipe in front of a real orchestrator with one agent, over loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest_asyncio

from opswarm.guard import keys
from opswarm.guard.principal import Role
from opswarm.settings import Orchestrator, Settings
from services.orchestrator.app import create_app
from tests.e2e.conftest import machine
from tests.integrations.openwebui.program import Program
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at, until


@dataclass
class Crew:
    """An orchestrator and its agent, which answers with the question and can be made to wait or to break."""

    settings: Settings
    url: str
    token: str
    echo: Echo
    program: Program


@asynccontextmanager
async def crew_at(home: Path, orchestrator: int = 0) -> AsyncIterator[Crew]:
    """Serves both; with a port for the orchestrator only the agent, for an orchestrator that is started apart."""
    port, agent = orchestrator or free_port(), free_port()
    urls = {"orchestrator": f"http://127.0.0.1:{port}", "gateway": f"http://127.0.0.1:{free_port()}"}
    agents = {"devops": f"http://127.0.0.1:{agent}"}
    options = Orchestrator(agents=agents, refresh_seconds=0.5)
    settings = settings_at(home, **urls).updated({"orchestrator": options})
    token = keys.mint_front(settings, "openwebui", roles=(Role.VIEWER,))
    echo = Echo("devops")
    crew = Crew(settings, urls["orchestrator"], token, echo, Program(urls["orchestrator"], token))
    async with serving(echo_service(settings, "devops", agents["devops"], echo).app(), agent):
        if orchestrator:
            yield crew
            return
        async with serving(create_app(settings).app(), port):
            yield crew


@pytest_asyncio.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    async with crew_at(tmp_path) as found:
        yield found


class Apart:
    """A crew whose orchestrator is a process of its own, and can be killed."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        settings = crew.settings
        extra = {
            "OPSWARM_HOME": str(settings.home),
            "OPSWARM_ADDRESSES": json.dumps(settings.addresses),
            "OPSWARM_ORCHESTRATOR__AGENTS": json.dumps(settings.orchestrator.agents),
        }
        port = str(httpx.URL(crew.url).port)
        self._process = machine(settings.home.parent / "apart", **extra).start("serve", "orchestrator", "--port", port)

    async def ready(self) -> bool:
        assert self._process.poll() is None, self._process.communicate(timeout=5)[1]
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                return (await http.get(f"{self.crew.url}/healthz")).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


@pytest_asyncio.fixture
async def apart(tmp_path: Path) -> AsyncIterator[Apart]:
    async with crew_at(tmp_path / "home", free_port()) as crew:
        found = Apart(crew)
        try:
            await until(found.ready, 30)
            yield found
        finally:
            found.kill()
