"""What the cluster does by itself: replacement, back-off, roll-outs, heartbeats."""

from __future__ import annotations

import json
from typing import Any

from lab.app import create_lab
from lab.objects import name_of
from lab.times import parse_instant
from tests.lab.conftest import Clock, Served, Start

STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}


async def set_container(served: Served, namespace: str, name: str, **fields: Any) -> None:
    """Changes the container `app` of a deployment."""
    body = {"spec": {"template": {"spec": {"containers": [{"name": "app", **fields}]}}}}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    response = await served.http.patch(path, content=json.dumps(body), headers=STRATEGIC)
    assert response.status_code == 200, response.text


async def test_a_deleted_pod_is_replaced_by_its_owner(start: Start) -> None:
    served = await start()
    before = await served.pod("media", "prowlarr")
    await served.http.delete(f"/api/v1/namespaces/media/pods/{before['metadata']['name']}")
    served.lab.tick()
    after = await served.pod("media", "prowlarr")
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    served.run(20)
    assert (await served.pod("media", "prowlarr"))["status"]["containerStatuses"][0]["ready"] is True
    events = await served.get("/api/v1/namespaces/media/events")
    reasons = {event["reason"] for event in events["items"]}
    assert {"Killing", "SuccessfulCreate", "Scheduled", "Pulled", "Created", "Started"} <= reasons


async def test_the_replacement_of_a_failing_pod_fails_in_the_same_way(start: Start) -> None:
    served = await start("oom")
    before = await served.pod("media", "sonarr")
    await served.http.delete(f"/api/v1/namespaces/media/pods/{before['metadata']['name']}")
    served.run(150)
    status = (await served.pod("media", "sonarr"))["status"]["containerStatuses"][0]
    assert 1 <= status["restartCount"] < 5
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"


async def test_a_stateful_pod_comes_back_under_its_own_name(start: Start) -> None:
    served = await start()
    path = "/api/v1/namespaces/database/pods/postgres-0"
    before = await served.get(path)
    await served.http.delete(path)
    served.run(20)
    after = await served.get(path)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["nodeName"] == before["spec"]["nodeName"]
    assert after["status"]["phase"] == "Running"


async def test_a_crash_loop_counts_on_and_its_states_agree(start: Start) -> None:
    served = await start("oom")
    first = (await served.pod("media", "sonarr"))["status"]["containerStatuses"][0]
    assert first["restartCount"] > 5
    before = first["restartCount"]
    for _ in range(80):
        served.run(10, step=10)
        status = (await served.pod("media", "sonarr"))["status"]["containerStatuses"][0]
        (state,) = status["state"]
        ended = status["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
        if state == "running":
            assert parse_instant(status["state"]["running"]["startedAt"]) >= parse_instant(ended["finishedAt"])
        elif state == "waiting":
            assert status["state"]["waiting"]["message"].startswith("back-off 5m0s restarting failed container=app")
        assert status["restartCount"] in (before, before + 1)
        before = status["restartCount"]
    # 800 seconds hold two rounds of five minutes' back-off and a short run.
    assert before - first["restartCount"] in (2, 3)


async def test_the_back_off_event_counts_on(start: Start) -> None:
    served = await start("app-crash")
    path = "/api/v1/namespaces/media/events"

    async def count() -> int:
        found = (await served.get(path, fieldSelector="reason=BackOff,involvedObject.kind=Pod"))["items"]
        assert len(found) == 1 and found[0]["message"].startswith("Back-off restarting failed container app in pod")
        return int(found[0]["count"])

    first = await count()
    served.run(60)
    assert await count() > first


async def test_raising_the_memory_limit_ends_the_oom_kills(start: Start) -> None:
    served = await start("oom")
    await set_container(served, "media", "sonarr", resources={"limits": {"memory": "1Gi"}})
    served.run(200, step=5)
    pod = await served.pod("media", "sonarr")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    deployment = await served.get("/apis/apps/v1/namespaces/media/deployments/sonarr")
    assert deployment["status"]["availableReplicas"] == 1


async def test_going_back_to_the_old_image_heals_the_typo(start: Start) -> None:
    served = await start("image-typo")
    await set_container(served, "media", "radarr", image="ghcr.io/home-operations/radarr:5.27.5.10198")
    served.run(30)
    assert (await served.pod("media", "radarr"))["status"]["containerStatuses"][0]["ready"] is True
    conditions = {
        item["type"]: item["reason"]
        for item in (await served.get("/apis/apps/v1/namespaces/media/deployments/radarr"))["status"]["conditions"]
    }
    assert conditions == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}


async def test_living_nodes_renew_their_leases_and_a_dead_one_does_not(start: Start) -> None:
    served = await start("node-not-ready")
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

    async def renewed() -> dict[str, str]:
        leases = (await served.get(path))["items"]
        return {item["metadata"]["name"]: item["spec"]["renewTime"] for item in leases}

    before = await renewed()
    assert before["worker-1"] >= "2026-03-02T11:59:30" > before["worker-2"]
    served.run(30)
    after = await renewed()
    assert after["worker-1"] > before["worker-1"]
    assert after["worker-2"] == before["worker-2"]


async def test_services_list_only_the_pods_that_are_ready(start: Start) -> None:
    served = await start("probe-failing")
    endpoints = await served.get("/api/v1/namespaces/media/endpoints/jellyfin")
    assert "addresses" not in endpoints["subsets"][0] and endpoints["subsets"][0]["notReadyAddresses"]
    selector = "kubernetes.io/service-name=jellyfin"
    slices = await served.get("/apis/discovery.k8s.io/v1/namespaces/media/endpointslices", labelSelector=selector)
    assert [item["conditions"]["ready"] for item in slices["items"][0]["endpoints"]] == [False]


async def test_metrics_are_those_of_running_containers(start: Start) -> None:
    served = await start("image-typo")
    pods = await served.names("/apis/metrics.k8s.io/v1beta1/namespaces/media/pods")
    assert any(name.startswith("sonarr") for name in pods)
    assert not any(name.startswith("radarr") for name in pods)
    nodes = await served.get("/apis/metrics.k8s.io/v1beta1/nodes")
    assert [item["metadata"]["name"] for item in nodes["items"]] == ["cp-1", "worker-1", "worker-2"]
    assert nodes["items"][0]["usage"]["memory"].endswith("Ki")


async def test_without_metrics_server_the_metrics_api_is_unavailable(start: Start) -> None:
    served = await start("hpa-no-metrics")
    refused = await served.http.get("/apis/metrics.k8s.io/v1beta1/nodes")
    assert (refused.status_code, refused.json()["reason"]) == (503, "ServiceUnavailable")


async def test_the_same_clock_and_seed_give_the_same_cluster(start: Start) -> None:
    served = await start("oom")
    again = create_lab(["oom"], now=Clock(), tick_seconds=0)
    assert await served.names("/api/v1/pods") == [name_of(pod) for pod in again.store.all("pods")]
