"""An orchestrator with echo agents behind it, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from opswarm.a2a.client import RemoteAgent
from opswarm.a2a.wire import AGENT_KEY
from opswarm.agent.events import Event, TextDelta
from opswarm.guard.keys import make_person_token
from opswarm.settings import Orchestrator, Settings
from services.orchestrator.app import create_app
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at, until


@dataclass
class Front:
    agent: RemoteAgent
    http: httpx.AsyncClient
    token: str
    echoes: dict[str, Echo]
    url: str
    settings: Settings
    agents: dict[str, AsyncExitStack]

    async def stop(self, name: str) -> None:
        """Takes an agent away."""
        await self.agents[name].aclose()

    async def ask(self, text: str, agent: str = "", context: str = "", deadline: float = 20) -> list[Event]:
        metadata = {AGENT_KEY: agent} if agent else None
        source = self.agent.ask(text, token=self.token, context_id=context, metadata=metadata, deadline=deadline)
        return [e async for e in source]


TAGS = {"devops": ("kubernetes", "pods", "broken", "crash"), "cook": ("recipe", "soup", "kitchen")}


@asynccontextmanager
async def front(
    home: Path, *names: str, dead: str = "", addresses: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Front]:
    ports = {n: free_port() for n in (*names, "orchestrator")}
    urls = {n: f"http://127.0.0.1:{p}" for n, p in ports.items()}
    agents = {n: urls[n] for n in names} | (
        {dead: f"http://127.0.0.1:{free_port()}"} if dead and dead not in options.get("outside", {}) else {}
    )
    given = {"gateway": f"http://127.0.0.1:{free_port()}", **(addresses or {})}
    settings = settings_at(home, orchestrator=urls["orchestrator"], **given)
    settings = settings.updated({"orchestrator": Orchestrator(agents=agents, refresh_seconds=0.5, **options)})
    token = make_person_token(settings)
    echoes = {n: Echo(n) for n in names}
    alone: dict[str, AsyncExitStack] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            service = echo_service(settings, name, urls[name], echoes[name], tags=TAGS.get(name, (name,)))
            alone[name] = await stack.enter_async_context(AsyncExitStack())
            await alone[name].enter_async_context(serving(service.app(), ports[name]))
        await stack.enter_async_context(serving(create_app(settings).app(), ports["orchestrator"]))
        headers = {"Authorization": f"Bearer {token}"}
        http = await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=20))
        agent = await RemoteAgent.connect("orchestrator", urls["orchestrator"], http)

        async def seen() -> bool:
            listed = (await http.get(f"{urls['orchestrator']}/agents")).json()["agents"]
            return all(a["state"] == "alive" for a in listed if a["name"] != dead)

        await until(seen)
        yield Front(agent, http, token, echoes, urls["orchestrator"], settings, alone)


def said(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))
