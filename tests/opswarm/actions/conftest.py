from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from opswarm.actions import grants
from opswarm.actions.proposals import Proposal
from opswarm.actions.routes import ORCHESTRATOR
from opswarm.agent.turn import ToolResult
from opswarm.guard.exchange import Exchange
from opswarm.guard.keys import signing_key, verifier
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_PERSON, actions_audience
from opswarm.mcp.client import ToolServerClient, bearer
from opswarm.mcp.serving import http_service
from opswarm.settings import Settings
from tests.support.hosting import serving, settings_at
from tests.support.lamps import Lamps

ANN = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.OPERATOR}))
BOB = Principal(kind=Kind.PERSON, subject="person:bob", roles=frozenset({Role.ADMIN}))
EVE = Principal(kind=Kind.PERSON, subject="person:eve", roles=frozenset({Role.VIEWER}))


@dataclass
class House:
    """A tool server of lamps at `url`, and everybody who comes to its door."""

    url: str
    settings: Settings
    lamps: Lamps
    client: ToolServerClient
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False))

    def token(self, who: Principal, agent: str = "", task: str = "") -> str:
        key = signing_key(self.settings)
        if not agent:
            return key.mint(who, [AUDIENCE_PERSON], seconds=300)
        return Exchange(key, verifier(self.settings), tuple).for_work(who, agent, task)

    async def switch(
        self, name: str, on: bool = True, *, who: Principal = ANN, agent: str = "devops", task: str = "t1", **how: Any
    ) -> ToolResult:
        return await self.call({"name": name, "on": on}, who=who, agent=agent, task=task, **how)

    async def call(
        self, arguments: dict[str, Any], *, who: Principal = ANN, agent: str = "devops", task: str = "t1", **how: Any
    ) -> ToolResult:
        token = self.token(who, agent, task)
        bearer.set(lambda: token)
        return await self.client.call("lamp_switch", arguments, read_only=False, **how)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        who: Principal = ORCHESTRATOR,
        audience: str = actions_audience("lamps"),
        **how: Any,
    ) -> httpx.Response:
        token = signing_key(self.settings).mint(who, [audience], seconds=60)
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, f"{self.url}/actions{path}", headers=headers, **how)

    async def proposal(self, id: str) -> Proposal:
        return Proposal.model_validate((await self.ask("GET", f"/proposals/{id}")).raise_for_status().json())

    async def answer(
        self, id: str, *, approve: bool = True, who: Principal = BOB, reason: str = "", shown: Proposal | None = None
    ) -> httpx.Response:
        proposal = shown or await self.proposal(id)
        grant = grants.sign(signing_key(self.settings), proposal, who, approve=approve, reason=reason)
        return await self.deliver(id, grant)

    async def deliver(self, id: str, grant: str) -> httpx.Response:
        return await self.ask("POST", f"/proposals/{id}/answer", json={"grant": grant})

    async def audit(self) -> list[dict[str, Any]]:
        body = (await self.ask("GET", "/audit")).raise_for_status().json()
        return [e["event"] for e in body["entries"]]

    async def told(self) -> list[str]:
        return [e["event"] for e in await self.audit()]


@asynccontextmanager
async def house(home: Path, lamps: Lamps | None = None, policy: str = "") -> AsyncIterator[House]:
    """The tool server in its own folder; started again in the same folder it is the same server."""
    settings = settings_at(home)
    if policy:
        (home / "policy.yaml").write_text(policy)
    world = lamps or Lamps()
    async with http_service(world.opener(), settings) as service, serving(service.app()) as url:
        client = ToolServerClient("lamps", url)
        made = House(url, settings, world, client)
        try:
            yield made
        finally:
            await client.aclose()
            await made.http.aclose()


@contextmanager
def replaced(target: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield
