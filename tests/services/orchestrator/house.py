"""A swarm about lamps: the orchestrator, an agent that switches them, and their tool server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from a2a.types import Task, TaskState

from opswarm.a2a.cards import Skill, agent_card
from opswarm.a2a.client import RemoteAgent
from opswarm.a2a.server import TurnInput
from opswarm.agent.events import ApprovalNeeded, Event, TextDelta
from opswarm.agent.service import FirstLook, agent_service
from opswarm.agent.toolbox import Toolbox
from opswarm.guard.keys import signing_key
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_PERSON
from opswarm.mcp.serving import http_service
from opswarm.models.chat import ToolCall
from opswarm.service import Service
from opswarm.settings import Settings, load
from services.orchestrator.app import create_app
from tests.support.hosting import free_port, serving, until
from tests.support.lamps import Lamps

ROOT = Path(__file__).parents[3]

ANN = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.OPERATOR}))
BOB = Principal(kind=Kind.PERSON, subject="person:bob", roles=frozenset({Role.ADMIN}))
EVE = Principal(kind=Kind.PERSON, subject="person:eve", roles=frozenset({Role.VIEWER}))


async def switches(request: TurnInput, tools: Toolbox) -> FirstLook:
    """Wants every lamp switched that the question names; `off` lets it be dark."""
    on = "off" not in request.text
    names = [n for n in ("hall", "desk", "kube-system") if n in request.text]
    calls = [ToolCall(f"c{i}", "lamp_switch", json.dumps({"name": name, "on": on})) for i, name in enumerate(names)]
    return FirstLook(calls=tuple(calls))


def made(settings: Settings, name: str) -> Service:
    """The orchestrator, or an agent that switches lamps."""
    if name == "orchestrator":
        return create_app(settings)
    skill = Skill("lamps", "Lamps", "switches lamps", ("lamp",), ("switch the lamp in the hall",))
    card = agent_card(name, name, "Switches lamps.", settings.address(name), (skill,))
    return agent_service(settings, name, card, tool_servers=("lamps",), system="You switch lamps.", rules=switches)


@dataclass
class Swarm:
    """The services that run, and whoever talks to them. `given` is what their settings are loaded from."""

    given: dict[str, Any]
    lamps: Lamps
    pods: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    stacks: dict[str, AsyncExitStack] = field(default_factory=dict)
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False, timeout=20))

    def __post_init__(self) -> None:
        self.settings: Settings = load(**self.given)

    async def start(self, *names: str) -> None:
        for name in names:
            stack = self.stacks[name] = AsyncExitStack()
            port = int(self.settings.address(name).rpartition(":")[2])
            if name == "lamps":
                service = await stack.enter_async_context(http_service(self.lamps.opener(), self.settings))
            else:
                service = made(self.settings, name)
            await stack.enter_async_context(serving(service.app(), port))

    async def start_apart(self, name: str, **changed: Any) -> str:
        """Starts a service in a process of its own, with other settings where they are given. Gives its URL."""
        given = {**self.given, **changed, "home": str(self.settings.home)}
        url: str = given["addresses"][name]
        self.pods[url] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.services.orchestrator.pod", name, json.dumps(given), cwd=ROOT
        )

        async def up() -> bool:
            try:
                return (await self.http.get(f"{url}/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(up)
        return url

    async def kill(self, name_or_url: str) -> None:
        """Ends a process as a power cut does."""
        process = self.pods.pop(self.given["addresses"].get(name_or_url, name_or_url))
        process.kill()
        await process.wait()

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.stacks.pop(name).aclose()

    def token(self, who: Principal) -> str:
        return signing_key(self.settings).mint(who, [AUDIENCE_PERSON], seconds=600)

    async def ask(
        self, text: str, *, who: Principal = ANN, at: str = "orchestrator", **how: Any
    ) -> tuple[list[Event], str]:
        """The events of one request, and its task id."""
        agent = await RemoteAgent.connect(at, self.settings.address(at), self.http)
        ids: list[str] = []
        asking = agent.ask(
            text, token=self.token(who), deadline=60, started=lambda task, context: ids.append(task), **how
        )
        return [e async for e in asking], ids[0]

    async def waiting(
        self, text: str, *, who: Principal = ANN, at: str = "orchestrator", **how: Any
    ) -> tuple[list[str], str]:
        """Asks for something that has to wait: the ids of its approvals, and its task."""
        events, task = await self.ask(text, who=who, at=at, **how)
        needed = next(e for e in events if isinstance(e, ApprovalNeeded))
        return [r.id for r in needed.approvals], task

    async def call(self, method: str, path: str, *, who: Principal = ANN, at: str = "", **how: Any) -> httpx.Response:
        """Asks the orchestrator, or the one `at` another URL."""
        headers = {"Authorization": f"Bearer {self.token(who)}"}
        url = at or self.settings.address("orchestrator")
        return await self.http.request(method, f"{url}{path}", headers=headers, **how)

    async def answer(
        self, id: str, said: str = "approve", *, who: Principal = BOB, at: str = "", **more: str
    ) -> httpx.Response:
        return await self.call("POST", f"/approvals/{id}", who=who, at=at, json={"answer": said, **more})

    async def task(self, id: str, *, who: Principal = ANN, at: str = "orchestrator") -> Task:
        agent = await RemoteAgent.connect(at, self.settings.address(at), self.http)
        return next(t for t in await agent.tasks(self.token(who)) if t.id == id)


async def ended(at: Swarm, task: str, where: str = "orchestrator", seconds: float = 60) -> None:
    async def is_so() -> bool:
        return (await at.task(task, at=where)).status.state == TaskState.TASK_STATE_COMPLETED

    await until(is_so, seconds)


def rows(at: Swarm, service: str, statement: str, *given: object) -> list[Any]:
    path = at.settings.database(service).split("///", 1)[1]
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, given).fetchall()


async def children(at: Swarm, name: str = "devops") -> list[Task]:
    agent = await RemoteAgent.connect(name, at.settings.address(name), at.http)
    return await agent.tasks(at.token(ANN))


async def waits(at: Swarm, task: str) -> None:
    """Between two tries it is at work for a moment."""

    async def is_so() -> bool:
        return (await at.task(task)).status.state == TaskState.TASK_STATE_INPUT_REQUIRED

    await until(is_so)


def text_of(events: Sequence[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


@asynccontextmanager
async def swarm(
    home: Path,
    *,
    policy: str = "",
    lamps: Lamps | None = None,
    database_url: str = "",
    chat_minutes: float = 30,
    agents: Sequence[str] = ("devops",),
    apart: Sequence[str] = (),
) -> AsyncIterator[Swarm]:
    """All of it, started; those `apart` in processes of their own. Started again in the same folder with the same
    lamps it is the same swarm."""
    names = ("gateway", "lamps", *agents, "orchestrator")
    addresses = {n: f"http://127.0.0.1:{free_port()}" for n in names}
    actions = {"servers": ["lamps"], "chat_minutes": chat_minutes}
    desk = {"agents": dict.fromkeys(agents, ""), "refresh_seconds": 0.5}
    given = dict(home=home, addresses=addresses, actions=actions, database_url=database_url, orchestrator=desk)
    home.mkdir(parents=True, exist_ok=True)
    if policy:
        (home / "policy.yaml").write_text(policy)
    at = Swarm(given, lamps or Lamps())
    try:
        for name in ("lamps", *agents, "orchestrator"):
            await (at.start_apart(name) if name in apart else at.start(name))
        yield at
    finally:
        async with AsyncExitStack() as left:  # All of them are stopped, the last of these first, whatever one says.
            left.push_async_callback(at.http.aclose)
            for name in ("lamps", *agents, "orchestrator"):
                if name in at.stacks:
                    left.push_async_callback(at.stop, name)
            for url in at.pods:
                left.push_async_callback(at.kill, url)
