"""The actions against a lab whose time passes only while they wait."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from lab.access import RbacUser
from lab.kubeconfig import kubeconfig
from lab.serve import serve
from mcp_servers.cluster.connection import open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.specs import action_specs
from tests.lab.conftest import Served, client_for, new_lab
from tests.support.acting import Tools

MERGE = "application/merge-patch+json"


class Stage(Served, Tools):
    """A served lab and the actions on it."""

    waits: list[float]

    def state(self) -> object:
        return self.lab.store.revision

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
