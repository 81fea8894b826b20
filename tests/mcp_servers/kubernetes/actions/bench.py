"""The actions on a lab whose time passes only while an action waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from lab.access import RbacUser
from lab.app import Lab, create_lab
from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.specs import action_specs
from opswarm.actions.action import Action, Happened, Intent, Plan
from opswarm.guard.limits import Limits
from opswarm.mcp.tools import ToolSpec
from tests.mcp_servers.kubernetes.tools.bench import Bench, benched


class Hands:
    """The actions of one caller."""

    def __init__(self, cluster: Cluster, by: Time) -> None:
        self.cluster = cluster
        self.specs: dict[str, ToolSpec] = {s.name: s for s in action_specs(Resources(cluster), by)}

    def action(self, tool: str) -> Action:
        action = self.specs[tool].action
        assert action is not None
        return action

    async def plan(self, tool: str, **arguments: Any) -> Plan:
        plan = cast(Plan, await self.specs[tool].function(**arguments))
        for touch in plan.touches:
            Limits().check(touch)
        return plan

    async def intent(self, tool: str, once: str = "k-1", **arguments: Any) -> Intent:
        return Intent(once, tool, arguments, (await self.plan(tool, **arguments)).state)

    async def probe(self, intent: Intent) -> Happened:
        return await self.action(intent.tool).probe(intent)

    async def do(self, intent: Intent) -> str:
        """Done and verified, with what is said; the world says that it had not been before, and has after."""
        assert await self.probe(intent) is Happened.NO
        done = await self.action(intent.tool).perform(intent)
        assert await self.probe(intent) is Happened.YES
        seen = await self.action(intent.tool).verify(intent)
        assert seen.ok, seen.text
        return f"{done.text} {seen.text}"


@dataclass
class Place:
    """A lab, its administrator's hands, and its objects."""

    bench: Bench
    lab: Lab
    hands: Hands
    by: Time

    def get(self, kind: str, namespace: str, name: str) -> Any:
        return self.lab.store.get(kind, namespace, name)

    def pods(self, namespace: str, prefix: str) -> dict[str, Any]:
        found = [p for p in self.lab.store.all("pods", namespace) if p["metadata"]["name"].startswith(prefix)]
        return {p["metadata"]["name"]: p for p in found if "deletionTimestamp" not in p["metadata"]}

    @asynccontextmanager
    async def using(self, token: str) -> AsyncIterator[Hands]:
        async with self.bench.using(token) as tools:
            yield Hands(tools.cluster, self.by)


@asynccontextmanager
async def placed(
    folder: Path, scenarios: Iterable[str] = (), rbac: dict[str, RbacUser] | None = None
) -> AsyncIterator[Place]:
    passed = [0.0]
    start = datetime.now(UTC)
    lab = create_lab(list(scenarios), rbac=rbac, tick_seconds=0, now=lambda: start + timedelta(seconds=passed[0]))

    async def sleep(seconds: float) -> None:
        passed[0] += seconds
        lab.tick()

    by = Time(lambda: passed[0], sleep)
    async with benched(folder, lab=lab) as bench:
        yield Place(bench, lab, Hands(bench.cluster, by), by)
