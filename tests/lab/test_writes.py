"""Creating, patching, replacing and deleting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.conftest import Served, Start

MERGE, JSON_PATCH, STRATEGIC = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
)
SONARR = "/apis/apps/v1/namespaces/media/deployments/sonarr"
CONFIGS = "/api/v1/namespaces/media/configmaps"


async def patch(served: Served, path: str, kind: str, body: Any, **params: Any) -> Any:
    return await served.http.patch(path, content=json.dumps(body), headers={"Content-Type": kind}, params=params)


async def test_a_merge_patch_changes_the_object_and_its_generation(start: Start) -> None:
    served = await start()
    before = await served.get(SONARR)
    after = (await patch(served, SONARR, MERGE, {"metadata": {"annotations": {"note": "x"}}})).json()
    assert after["metadata"]["annotations"]["note"] == "x"
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    scaled = (await patch(served, SONARR, MERGE, {"spec": {"replicas": 0}})).json()
    assert scaled["metadata"]["generation"] == before["metadata"]["generation"] + 1
    served.run(4)
    assert (await served.get(SONARR))["status"].get("replicas", 0) == 0


async def test_a_json_patch_is_applied_whole_or_not_at_all(start: Start) -> None:
    served = await start()
    good = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "ghcr.io/x/y:1"}]
    after = (await patch(served, SONARR, JSON_PATCH, good)).json()
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "ghcr.io/x/y:1"
    bad = [
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "test", "path": "/kind", "value": "Pod"},
    ]
    refused = await patch(served, SONARR, JSON_PATCH, bad)
    assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")
    assert (await served.get(SONARR))["spec"]["replicas"] == 1


async def test_a_strategic_patch_merges_containers_by_name(start: Start) -> None:
    served = await start()
    body = {"spec": {"template": {"spec": {"containers": [{"name": "app", "env": [{"name": "NEW", "value": "1"}]}]}}}}
    container = (await patch(served, SONARR, STRATEGIC, body)).json()["spec"]["template"]["spec"]["containers"][0]
    assert container["image"].startswith("ghcr.io/home-operations/sonarr")
    assert {"name": "NEW", "value": "1"} in container["env"] and len(container["env"]) > 3


async def test_a_custom_resource_takes_no_strategic_patch(start: Start) -> None:
    served = await start()
    path = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/media/helmreleases/sonarr"
    refused = await patch(served, path, STRATEGIC, {"spec": {"suspend": True}})
    assert (refused.status_code, refused.json()["reason"]) == (415, "UnsupportedMediaType")
    assert (await patch(served, path, MERGE, {"spec": {"suspend": True}})).json()["spec"]["suspend"] is True


async def test_a_dry_run_shows_the_result_and_stores_nothing(start: Start) -> None:
    served = await start()
    shown = (await patch(served, SONARR, MERGE, {"spec": {"replicas": 5}}, dryRun="All")).json()
    assert shown["spec"]["replicas"] == 5
    assert (await served.get(SONARR))["spec"]["replicas"] == 1
    pod = await served.pod("media", "sonarr")
    gone = await served.http.delete(
        f"/api/v1/namespaces/media/pods/{pod['metadata']['name']}", params={"dryRun": "All"}
    )
    assert gone.status_code == 200
    assert await served.pod("media", "sonarr") == pod


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"spec": {"replicas": -1}}, "spec.replicas"),
        ({"spec": {"selector": {"matchLabels": {"a": "b"}}}}, "spec."),
    ],
)
async def test_an_invalid_change_is_refused_with_its_field(start: Start, body: Any, field: str) -> None:
    served = await start()
    refused = (await patch(served, SONARR, MERGE, body)).json()
    assert (refused["code"], refused["reason"]) == (422, "Invalid")
    assert refused["message"].startswith('Deployment.apps "sonarr" is invalid: spec.')
    assert refused["details"]["causes"][0]["field"].startswith(field)


async def test_objects_are_created_once_and_replaced_only_from_their_last_version(start: Start) -> None:
    served = await start()
    new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fresh"}, "data": {"a": "1"}}
    created = await served.http.post(CONFIGS, json=new)
    assert created.status_code == 201 and created.json()["metadata"]["uid"]
    again = (await served.http.post(CONFIGS, json=new)).json()
    assert (again["code"], again["reason"]) == (409, "AlreadyExists")
    first = created.json()
    second = await served.http.put(f"{CONFIGS}/fresh", json={**first, "data": {"a": "2"}})
    assert second.json()["data"] == {"a": "2"}
    stale = (await served.http.put(f"{CONFIGS}/fresh", json={**first, "data": {"a": "3"}})).json()
    assert (stale["code"], stale["reason"]) == (409, "Conflict")
    assert "please apply your changes to the latest version" in stale["message"]
    deleted = (await served.http.delete(f"{CONFIGS}/fresh")).json()
    assert (deleted["kind"], deleted["status"]) == ("Status", "Success")


@pytest.mark.parametrize(
    ("path", "change", "code"),
    [
        (CONFIGS, {"kind": "Secret"}, 400),
        (CONFIGS, {"metadata": {"name": "Bad_Name"}}, 422),
        (CONFIGS, {"metadata": {"name": "x", "namespace": "network"}}, 400),
        ("/api/v1/namespaces/nowhere/configmaps", {}, 404),
    ],
)
async def test_a_create_that_does_not_fit_is_refused(start: Start, path: str, change: Any, code: int) -> None:
    served = await start()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, **change}
    assert (await served.http.post(path, json=body)).status_code == code


async def test_a_pod_is_deleted_only_if_its_uid_is_the_expected_one(start: Start) -> None:
    served = await start()
    pod = await served.pod("media", "sonarr")
    path = f"/api/v1/namespaces/media/pods/{pod['metadata']['name']}"
    refused = await served.http.request("DELETE", path, json={"preconditions": {"uid": "other"}})
    assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    deleted = await served.http.request("DELETE", path, json={"preconditions": {"uid": pod["metadata"]["uid"]}})
    assert deleted.json()["kind"] == "Pod" and deleted.json()["metadata"]["deletionTimestamp"]


async def test_a_scale_changes_only_the_replicas(start: Start) -> None:
    served = await start()
    path = "/apis/apps/v1/namespaces/network/deployments/cloudflared/scale"
    scale = await served.get(path)
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["replicas"]) == ("Scale", 2, 2)
    changed = (await patch(served, path, MERGE, {"spec": {"replicas": 3}})).json()
    assert changed["spec"]["replicas"] == 3
    served.run(20)
    assert (await served.get(path))["status"]["replicas"] == 3


async def test_an_eviction_that_breaks_a_budget_is_refused(start: Start) -> None:
    served = await start()
    found = await served.names("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=ingress-nginx")
    answers = []
    for name in found:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": "network"},
        }
        answers.append(await served.http.post(f"/api/v1/namespaces/network/pods/{name}/eviction", json=body))
    assert [answer.status_code for answer in answers] == [201, 429]
    refused = answers[1].json()
    assert refused["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused["details"]["causes"][0]["reason"] == "DisruptionBudget"


async def test_deleting_a_deployment_takes_its_replica_sets_and_pods(start: Start) -> None:
    served = await start()
    assert (await served.http.delete(SONARR)).json()["status"] == "Success"
    served.run(2)
    selector = "app.kubernetes.io/name=sonarr"
    assert await served.names("/apis/apps/v1/namespaces/media/replicasets", labelSelector=selector) == []
    assert await served.names("/api/v1/namespaces/media/pods", labelSelector=selector) == []


async def test_a_misspelt_field_is_refused_where_validation_is_strict(start: Start) -> None:
    served = await start()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dat": {}}
    refused = await served.http.post(CONFIGS, json=body, params={"fieldValidation": "Strict"})
    assert refused.status_code == 400 and 'strict decoding error: unknown field "dat"' in refused.json()["message"]
    assert (await served.http.post(CONFIGS, json=body)).status_code == 201
