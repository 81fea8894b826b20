"""A lab on a clock that the test moves, served over real TLS on loopback."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest_asyncio

from lab.access import RbacUser, Rule
from lab.app import Lab, LabClock, build_cluster
from lab.scenarios import choose
from lab.serve import RunningLab, serve

START = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
ADMIN_TOKEN = "test-admin-token"
READER = RbacUser(
    "system:serviceaccount:opswarm:reader",
    (
        Rule(("get", "list", "watch"), ("pods", "pods/log", "events"), namespaces=("media",)),
        Rule(("get", "list"), ("deployments",), ("apps",), ("media",), names=("sonarr",)),
    ),
)
"""The user of the token `reader` in the healthy lab."""


@dataclass
class Clock:
    """Stands still until told to move."""

    at: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.at

    def move(self, **span: float) -> None:
        self.at += timedelta(**span)


@dataclass
class Served:
    """A served lab, its clock, and an HTTP client with the administrator's token."""

    lab: Lab
    running: RunningLab
    clock: Clock
    http: httpx.AsyncClient

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET that must succeed."""
        response = await self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def names(self, path: str, **params: Any) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.get(path, **params))["items"]]

    async def pod(self, namespace: str, app: str) -> Any:
        """The one living pod of an app."""
        selector = f"app.kubernetes.io/name={app}"
        found = await self.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        alive = [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
        assert len(alive) == 1, [pod["metadata"]["name"] for pod in alive]
        return alive[0]

    def run(self, seconds: float, step: float = 2.0) -> None:
        """Lets the cluster live on."""
        for _ in range(int(seconds / step)):
            self.clock.move(seconds=step)
            self.lab.tick()


def client_for(running: RunningLab, token: str = ADMIN_TOKEN) -> httpx.AsyncClient:
    trust = ssl.create_default_context(cadata=running.ca_pem.decode())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=running.url, verify=trust, headers=headers, timeout=10)


Start = Callable[..., Awaitable[Served]]


@cache
def _built(scenarios: tuple[str, ...]) -> bytes:
    """A cluster as it is at START, made once: half a second that most tests would spend."""
    clock = Clock()
    lab_clock = LabClock(clock)
    return pickle.dumps((clock, lab_clock, build_cluster(choose(scenarios), lab_clock)))


def new_lab(*scenarios: str, rbac: dict[str, RbacUser] | None = None) -> tuple[Lab, Clock]:
    """A lab of one's own that stands at START, and its clock."""
    clock, lab_clock, cluster = pickle.loads(_built(scenarios))
    lab = Lab(cluster, lab_clock, choose(scenarios), token=ADMIN_TOKEN, rbac=rbac, tick_seconds=0)
    return lab, clock


async def _open(scenarios: tuple[str, ...], rbac: dict[str, RbacUser] | None = None) -> Served:
    lab, clock = new_lab(*scenarios, rbac=rbac)
    running = await serve(lab)
    return Served(lab, running, clock, client_for(running))


async def _close(served: Served) -> None:
    await served.http.aclose()
    await served.running.stop()


@pytest_asyncio.fixture(loop_scope="function")
async def start() -> AsyncIterator[Start]:
    """Serves a new lab with the given scenarios; stopped at the end of the test."""
    opened: list[Served] = []

    async def _start(*scenarios: str) -> Served:
        opened.append(await _open(scenarios))
        return opened[-1]

    yield _start
    for served in opened:
        await _close(served)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Start]:
    """Serves one lab for each set of scenarios, shared by a module's tests, which only read."""
    opened: dict[tuple[str, ...], Served] = {}

    async def _start(*scenarios: str) -> Served:
        if scenarios not in opened:
            opened[scenarios] = await _open(scenarios, {"reader": READER})
        return opened[scenarios]

    yield _start
    for served in opened.values():
        await _close(served)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def healthy(shared: Start) -> Served:
    """The healthy cluster, shared by a module's tests."""
    return await shared()
