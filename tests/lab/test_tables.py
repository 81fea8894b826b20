"""The Table form: what `kubectl get` prints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.conftest import Served, Start

pytestmark = pytest.mark.asyncio(loop_scope="module")
ACCEPT = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def rows(served: Served, path: str, **params: Any) -> dict[str, dict[str, Any]]:
    """The rows by name, each by column."""
    body = (await served.http.get(path, params=params, headers={"Accept": ACCEPT})).json()
    assert body["kind"] == "Table", body
    names = [column["name"] for column in body["columnDefinitions"]]
    return {row["cells"][0]: dict(zip(names, row["cells"], strict=True)) for row in body["rows"]}


async def test_healthy_rows_read_as_kubectl_prints_them(shared: Start) -> None:
    served = await shared()
    pods = await rows(served, "/api/v1/namespaces/media/pods")
    overseerr = next(row for name, row in pods.items() if name.startswith("overseerr"))
    assert (overseerr["Ready"], overseerr["Status"], overseerr["Restarts"]) == (
        "1/1",
        "Running",
        "1 (6d ago)",
    )
    assert next(row for name, row in pods.items() if name.startswith("recyclarr"))["Status"] == "Completed"
    deployments = await rows(served, "/apis/apps/v1/namespaces/media/deployments")
    assert deployments["sonarr"]["Ready"] == "1/1" and deployments["sonarr"]["Age"] == "280d"
    assert deployments["plex-trakt-sync"]["Ready"] == "0/0"
    nodes = await rows(served, "/api/v1/nodes")
    assert nodes["cp-1"]["Roles"] == "control-plane" and nodes["worker-2"]["Status"] == "Ready"
    services = await rows(served, "/api/v1/services")
    assert services["nas"]["External-IP"] == "nas.home.example" and services["nas"]["Cluster-IP"] == "<none>"
    assert services["ingress-nginx"]["External-IP"] == "192.168.10.50"
    jobs = await rows(served, "/apis/batch/v1/namespaces/database/jobs")
    assert (jobs["schema-migrate"]["Status"], jobs["schema-migrate"]["Completions"]) == ("Complete", "1/1")
    crons = await rows(served, "/apis/batch/v1/namespaces/database/cronjobs")
    assert crons["postgres-verify"]["Suspend"] == "True"
    scalers = await rows(served, "/apis/autoscaling/v2/horizontalpodautoscalers")
    assert scalers["ingress-nginx"]["Targets"] == "cpu: 31%/80%"
    releases = await rows(served, "/apis/helm.toolkit.fluxcd.io/v2/helmreleases")
    assert releases["sonarr"]["Ready"] == "True" and "Helm upgrade succeeded" in releases["sonarr"]["Status"]
    claims = await rows(served, "/api/v1/namespaces/media/persistentvolumeclaims")
    assert (claims["sonarr"]["Status"], claims["sonarr"]["Access Modes"]) == ("Bound", "RWO")


@pytest.mark.parametrize(
    ("scenario", "namespace", "app", "status"),
    [
        ("oom", "media", "sonarr", "CrashLoopBackOff"),
        ("image-typo", "media", "radarr", "ImagePullBackOff"),
        ("init-failing", "media", "bazarr", "Init:CrashLoopBackOff"),
        ("pvc-pending", "media", "audiobookshelf", "Pending"),
    ],
)
async def test_the_status_column_says_what_is_wrong(
    shared: Start, scenario: str, namespace: str, app: str, status: str
) -> None:
    served = await shared(scenario)
    found = await rows(served, f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/name={app}")
    assert [row["Status"] for row in found.values()] == [status]


async def test_include_object_decides_what_each_row_carries(shared: Start) -> None:
    served = await shared()
    for include, kind in (("", "PartialObjectMetadata"), ("Object", "Node"), ("None", None)):
        body = (
            await served.http.get("/api/v1/nodes", params={"includeObject": include}, headers={"Accept": ACCEPT})
        ).json()
        assert body["rows"][0].get("object", {}).get("kind") == kind


async def test_the_status_of_a_crashing_pod_passes_through_its_states(shared: Start) -> None:
    served = await shared("oom")
    seen = set()
    for _ in range(60):
        served.run(10, step=10)
        found = await rows(served, "/api/v1/namespaces/media/pods", labelSelector="app.kubernetes.io/name=sonarr")
        seen |= {row["Status"] for row in found.values()}
        if {"Running", "CrashLoopBackOff"} <= seen:
            break
    assert {"Running", "CrashLoopBackOff"} <= seen <= {"Running", "CrashLoopBackOff", "OOMKilled"}
