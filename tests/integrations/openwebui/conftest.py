"""The pipe in front of a real orchestrator with one agent, over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from opswarm.guard import keys
from opswarm.guard.principal import Role
from opswarm.settings import Orchestrator, Settings
from services.orchestrator.app import create_app
from tests.integrations.openwebui.program import Program
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at


@dataclass
class Crew:
    """An orchestrator and its agent, which answers with the question and can be made to wait or to break."""

    settings: Settings
    url: str
    token: str
    echo: Echo
    program: Program
    stack: AsyncExitStack

    async def stop(self) -> None:
        """Stops the orchestrator, with whatever it is at."""
        await self.stack.aclose()


@asynccontextmanager
async def crew_at(home: Path, port: int = 0) -> AsyncIterator[Crew]:
    orchestrator, agent = port or free_port(), free_port()
    urls = {"orchestrator": f"http://127.0.0.1:{orchestrator}", "gateway": f"http://127.0.0.1:{free_port()}"}
    settings = settings_at(home, **urls)
    agents = {"devops": f"http://127.0.0.1:{agent}"}
    settings = settings.updated({"orchestrator": Orchestrator(agents=agents, refresh_seconds=0.5)})
    token = keys.mint_front(settings, "openwebui", roles=(Role.VIEWER,))
    echo = Echo("devops")
    service = echo_service(settings, "devops", agents["devops"], echo)
    async with serving(service.app(), agent), AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(create_app(settings).app(), orchestrator))
        yield Crew(settings, url, token, echo, Program(url, token), stack)


@pytest_asyncio.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    async with crew_at(tmp_path) as found:
        yield found
