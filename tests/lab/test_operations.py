"""What kubectl's everyday commands set off: restarts, rollbacks, pauses, cordons, evictions, manual Jobs."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.conftest import Served, Start

MERGE = "application/merge-patch+json"
CLOUDFLARED = "/apis/apps/v1/namespaces/network/deployments/cloudflared"
POSTGRES = "/apis/apps/v1/namespaces/database/statefulsets/postgres"
JOBS = "/apis/batch/v1/namespaces/media/jobs"


async def merge(served: Served, path: str, body: Any) -> Any:
    answer = await served.http.patch(path, content=json.dumps(body), headers={"Content-Type": MERGE})
    assert answer.status_code == 200, answer.text
    return answer.json()


def restarted(at: str) -> Any:
    annotations = {"kubectl.kubernetes.io/restartedAt": at}
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}


async def pods(served: Served, namespace: str, app: str) -> dict[str, str]:
    found = await served.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/name={app}")
    return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in found["items"]}


async def test_a_restart_replaces_every_pod(start: Start) -> None:
    served = await start()
    before = await pods(served, "network", "cloudflared")
    await merge(served, CLOUDFLARED, restarted("2026-03-02T12:00:00Z"))
    served.run(60)
    after = await pods(served, "network", "cloudflared")
    assert len(after) == 2 and not before.keys() & after.keys()


async def test_a_stateful_set_is_restarted_from_its_last_pod_and_stops_at_one_that_fails(start: Start) -> None:
    served = await start()
    before = {name: uid for uid, name in (await pods(served, "database", "postgres")).items()}
    broken = {"name": "postgres", "image": "ghcr.io/cloudnative-pg/postgresql:17.6", "command": ["false"]}
    missing = {"configMapRef": {"name": "not-there"}}
    containers = [{**broken, "envFrom": [missing]}]
    await merge(served, POSTGRES, {"spec": {"template": {"spec": {"containers": containers}}}})
    served.run(60)
    after = {name: uid for uid, name in (await pods(served, "database", "postgres")).items()}
    assert after["postgres-0"] == before["postgres-0"] and after["postgres-1"] != before["postgres-1"]
    status = (await served.get(POSTGRES))["status"]
    assert (status["readyReplicas"], status["updatedReplicas"]) == (1, 1)
    assert status["currentRevision"] != status["updateRevision"]


async def test_a_rollback_makes_the_old_revision_the_newest(start: Start) -> None:
    served = await start()
    revisions = "/apis/apps/v1/namespaces/database/controllerrevisions"
    first = (await served.get(POSTGRES))["spec"]["template"]
    await merge(served, POSTGRES, restarted("2026-03-02T12:00:00Z"))
    served.run(60)
    gone = {"kubectl.kubernetes.io/restartedAt": None}
    await merge(served, POSTGRES, {"spec": {"template": {"metadata": {"annotations": gone}}}})
    served.run(60)
    kept = [r for r in (await served.get(revisions))["items"] if r["metadata"]["name"].startswith("postgres-")]
    newest = max(kept, key=lambda r: r["revision"])
    assert (len(kept), newest["revision"]) == (2, 3)
    assert newest["data"]["spec"]["template"]["spec"] == first["spec"]


async def test_a_paused_deployment_is_scaled_but_rolls_out_nothing(start: Start) -> None:
    served = await start()
    before = await pods(served, "network", "cloudflared")
    await merge(served, CLOUDFLARED, {"spec": {"paused": True}})
    await merge(served, CLOUDFLARED, {"spec": {"replicas": 3, **restarted("2026-03-02T12:00:00Z")["spec"]}})
    served.run(60)
    assert before.keys() < (await pods(served, "network", "cloudflared")).keys()
    found = await served.get(CLOUDFLARED)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert {"DeploymentPaused"} <= {c["reason"] for c in found["status"]["conditions"]}
    await merge(served, CLOUDFLARED, {"spec": {"paused": False}})
    served.run(60)
    after = await pods(served, "network", "cloudflared")
    assert len(after) == 3 and not before.keys() & after.keys()


async def test_a_cordoned_node_gets_a_taint_and_no_new_pods(start: Start) -> None:
    served = await start()
    found = await served.get("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=cloudflared")
    pod = found["items"][0]
    node = f"/api/v1/nodes/{pod['spec']['nodeName']}"
    await merge(served, node, {"spec": {"unschedulable": True}})
    await served.http.delete(f"/api/v1/namespaces/network/pods/{pod['metadata']['name']}")
    served.run(30)
    assert [t["key"] for t in (await served.get(node))["spec"]["taints"]] == ["node.kubernetes.io/unschedulable"]
    now = await served.get("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=cloudflared")
    old = {one["metadata"]["uid"] for one in found["items"]}
    new = [one["spec"]["nodeName"] for one in now["items"] if one["metadata"]["uid"] not in old]
    assert len(new) == 1 and pod["spec"]["nodeName"] not in new
    await merge(served, node, {"spec": {"unschedulable": None}})
    served.run(4)
    assert "taints" not in (await served.get(node))["spec"]


async def test_a_budget_counts_what_should_be_there(start: Start) -> None:
    served = await start()
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "tunnel"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "cloudflared"}}},
    }
    await served.http.post("/apis/policy/v1/namespaces/network/poddisruptionbudgets", json=budget)
    served.run(2)
    answers = []
    for name in (await pods(served, "network", "cloudflared")).values():
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "network"}}
        answers.append(await served.http.post(f"/api/v1/namespaces/network/pods/{name}/eviction", json=body))
    assert [a.status_code for a in answers] == [201, 429]
    assert "disruption budget tunnel needs 1 healthy pods" in answers[1].json()["details"]["causes"][0]["message"]


async def test_an_eviction_is_only_of_the_pod_with_the_expected_uid(start: Start) -> None:
    served = await start()
    pod = await served.pod("media", "sonarr")
    name = pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "media"},
        "deleteOptions": {"preconditions": {"uid": "other"}},
    }
    refused = await served.http.post(f"/api/v1/namespaces/media/pods/{name}/eviction", json=body)
    assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    assert await served.pod("media", "sonarr") == pod


async def test_a_job_made_from_a_cron_job_by_hand_runs_and_knows_its_pods(start: Start) -> None:
    served = await start()
    cron = await served.get("/apis/batch/v1/namespaces/media/cronjobs/recyclarr")
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "recyclarr", "uid": cron["metadata"]["uid"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "by-hand", "ownerReferences": [{**owner, "controller": True}]},
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    made = (await served.http.post(JOBS, json=job)).json()
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
    served.run(60)
    assert [c["type"] for c in (await served.get(f"{JOBS}/by-hand"))["status"]["conditions"]][-1] == "Complete"
    found = await served.get("/api/v1/namespaces/media/pods", labelSelector="job-name=by-hand")
    assert [p["status"]["phase"] for p in found["items"]] == ["Succeeded"]


async def test_a_deleted_job_leaves_its_pods_unless_told_otherwise(start: Start) -> None:
    served = await start()
    of_job = "/api/v1/namespaces/media/pods"
    before = await served.names(of_job, labelSelector="job-name=recyclarr-29401680")
    await served.http.delete(f"{JOBS}/recyclarr-29401680")
    pod = await served.get(f"{of_job}/{before[0]}")
    assert "ownerReferences" not in pod["metadata"]
    other = "/apis/batch/v1/namespaces/database/jobs/postgres-backup-29401620"
    await served.http.delete(other, params={"propagationPolicy": "Background"})
    served.run(4)
    left = await served.names("/api/v1/namespaces/database/pods", labelSelector="job-name=postgres-backup-29401620")
    assert left == []
    refused = await served.http.delete(of_job + f"/{before[0]}", params={"propagationPolicy": "Never"})
    assert refused.status_code == 422
