"""The Flux tools over a lab that stands still, on loopback."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lab.access import RbacUser
from lab.github.git import Person, Repository
from lab.kubeconfig import kubeconfig
from lab.seed.repository import plant_repository
from lab.serve import serve
from mcp_servers.cluster.connection import open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.cluster.waiting import Time
from mcp_servers.flux.actions.specs import action_specs
from mcp_servers.flux.changes import Changes
from mcp_servers.flux.diagnosis import FluxDiagnosis
from mcp_servers.flux.logs import FluxLogs
from mcp_servers.flux.reading import Reading
from mcp_servers.flux.snapshot import Flux
from opswarm.mcp.tools import ToolSpec
from tests.lab.conftest import Served, client_for, new_lab
from tests.support.acting import Tools

KUSTOMIZE = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations/{}"
HELM = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/{}/helmreleases/{}"
SOURCE = "/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/gitrepositories/{}"


MARIA = Person("maria", "maria@home.example")


class Stage(Served, Tools):
    """A served lab and the tools on it. `git` is the repository that the cluster follows, where it has one."""

    git: Repository
    waits: list[float]

    def state(self) -> object:
        return self.lab.store.revision

    def commit(self, message: str, files: dict[str, str | bytes | None]) -> str:
        return self.git.commit_files("main", files, message, MARIA, at=self.clock())

    async def merge(self, path: str, body: Any) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = await self.http.patch(path, content=json.dumps(body), headers=headers)
        assert answer.status_code == 200, answer.text

    async def condition(self, path: str, status: str, reason: str, message: str, **more: Any) -> None:
        """Sets the Ready condition of an object, as its controller would have five minutes before the lab's now."""
        ready = {
            "type": "Ready", "status": status, "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2026-03-02T11:50:00Z",
        }  # fmt: skip
        await self.merge(f"{path}/status", {"status": {"conditions": [ready], **more}})


@asynccontextmanager
async def staged(
    folder: Path, *, rbac: dict[str, RbacUser] | None = None, token: str = "", git: bool = False
) -> AsyncIterator[Stage]:
    """A healthy lab, read as an administrator or as whom `token` is; with `git` it follows a repository. Its time
    passes only while an action waits."""
    lab, clock = new_lab(rbac=rbac)
    async with await serve(lab) as running:
        http = client_for(running)
        stage = Stage(lab, running, clock, http)
        stage.waits = []
        if git:
            stage.git = Repository(folder / "home-ops.git")
            plant_repository(lab.cluster, stage.git, MARIA, clock())

        async def pause(seconds: float) -> None:
            stage.waits.append(seconds)
            stage.run(seconds, seconds / math.ceil(seconds))

        file = folder / "kubeconfig.yaml"
        file.write_text(kubeconfig(running.url, running.ca_pem, token or lab.token))
        async with http, open_cluster(ClusterSettings(file)) as cluster:
            flux = Flux(Resources(cluster))
            reading = Reading(flux, clock)
            tools = (
                FluxDiagnosis(flux, clock).flux_diagnose,
                FluxLogs(flux).flux_logs,
                Changes(flux, clock).flux_changes,
                reading.flux_report,
                reading.flux_list,
                reading.flux_get,
                reading.flux_tree,
                reading.flux_owner,
            )
            by = Time(lambda: clock().timestamp(), pause)
            stage.tools = {tool.__name__: ToolSpec(tool) for tool in tools}
            stage.tools |= {spec.name: spec for spec in action_specs(flux, by)}
            yield stage
