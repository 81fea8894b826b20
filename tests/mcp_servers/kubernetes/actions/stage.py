"""The actions against a lab whose time passes only while they wait."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.access import RbacUser
from lab.kubeconfig import kubeconfig
from lab.serve import serve
from mcp_servers.cluster.connection import open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.specs import action_specs
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import OpswarmError
from opswarm.guard.limits import Limits
from opswarm.mcp.tools import ToolSpec
from tests.lab.conftest import Served, client_for, new_lab

MERGE = "application/merge-patch+json"


@dataclass
class Act:
    """One action under way: its plan, and what is written down of it."""

    spec: ToolSpec
    plan: Plan
    intent: Intent

    @property
    def action(self) -> Action:
        assert self.spec.action is not None
        return self.spec.action

    async def perform(self) -> Done:
        return await self.action.perform(self.intent)

    async def probe(self) -> Happened:
        return await self.action.probe(self.intent)

    async def verify(self) -> Verification:
        return await self.action.verify(self.intent)


class Stage(Served):
    """A served lab and the actions on it."""

    tools: dict[str, ToolSpec]
    waits: list[float]

    async def plan(self, tool: str, key: str = "key-1", /, **arguments: Any) -> Act:
        """The plan of a call, which must be the same when it is asked again and within the hard limits."""
        spec = self.tools[tool]
        plan = await self._ask(spec, arguments)
        again = await self._ask(spec, arguments)
        assert (plan.summary, plan.preview, plan.touches) == (again.summary, again.preview, again.touches)
        for touch in plan.touches:
            Limits().check(touch)
        state = json.loads(json.dumps(plan.state))
        return Act(spec, plan, Intent(key, tool, arguments, state))

    async def _ask(self, spec: ToolSpec, arguments: dict[str, Any]) -> Plan:
        plan: Any = await spec.function(**arguments)
        assert isinstance(plan, Plan)
        return plan

    async def refused(self, tool: str, /, **arguments: Any) -> OpswarmError:
        """The error of a call that must not be planned, in one or two sentences on one line."""
        before = self.lab.store.revision
        with pytest.raises(OpswarmError) as caught:
            await self._ask(self.tools[tool], arguments)
        assert self.lab.store.revision == before
        assert "\n" not in str(caught.value)
        return caught.value

    async def merge(self, path: str, body: Any, manager: str = "editor") -> Any:
        answer = await self.http.patch(
            path, content=json.dumps(body), headers={"Content-Type": MERGE}, params={"fieldManager": manager}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, path: str, body: Any) -> Any:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def gone(self, path: str) -> bool:
        return (await self.http.get(path)).status_code == 404


@asynccontextmanager
async def staged(
    folder: Path, *scenarios: str, rbac: dict[str, RbacUser] | None = None, token: str = ""
) -> AsyncIterator[Stage]:
    """A lab as it stands, with the actions of an administrator or of whom `token` is."""
    lab, clock = new_lab(*scenarios, rbac=rbac)
    async with await serve(lab) as running:
        http: httpx.AsyncClient = client_for(running)
        stage = Stage(lab, running, clock, http)
        stage.waits = []

        async def pause(seconds: float) -> None:
            stage.waits.append(seconds)
            stage.run(seconds, seconds / math.ceil(seconds))  # In whole steps, or the clock falls behind the waits.

        file = folder / "kubeconfig.yaml"
        file.write_text(kubeconfig(running.url, running.ca_pem, token or lab.token))
        async with http, open_cluster(ClusterSettings(file)) as cluster:
            by = Time(lambda: clock().timestamp(), pause)
            stage.tools = {spec.name: spec for spec in action_specs(Resources(cluster), by)}
            yield stage


def deployment(name: str = "web", namespace: str = "default", replicas: int = 1, **pod: Any) -> dict[str, Any]:
    """A small Deployment that nothing in Git knows."""
    labels = {"app.kubernetes.io/name": name}
    container = {"name": "web", "image": "docker.io/library/nginx:1.29"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {**labels}}, "spec": {"containers": [container], **pod}},
        },
    }
