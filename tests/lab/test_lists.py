"""Lists: shape, selectors, paging and the answers in other forms."""

from __future__ import annotations

import pytest

from lab.events import Source
from tests.lab.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_built_in_items_carry_no_type_and_custom_ones_do(healthy: Served) -> None:
    pods = await healthy.get("/api/v1/namespaces/media/pods")
    assert (pods["kind"], pods["apiVersion"]) == ("PodList", "v1")
    assert int(pods["metadata"]["resourceVersion"]) > 0
    assert all("kind" not in item for item in pods["items"])
    releases = await healthy.get("/apis/helm.toolkit.fluxcd.io/v2/helmreleases")
    assert {item["kind"] for item in releases["items"]} == {"HelmRelease"}


async def test_items_come_in_the_order_of_their_keys(healthy: Served) -> None:
    items = (await healthy.get("/api/v1/pods"))["items"]
    keys = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("selector", "apps"),
    [
        ("app.kubernetes.io/name=sonarr", {"sonarr"}),
        ("app.kubernetes.io/name==sonarr", {"sonarr"}),
        ("app.kubernetes.io/name in (sonarr, radarr)", {"sonarr", "radarr"}),
        ("app.kubernetes.io/name notin (sonarr,radarr),app.kubernetes.io/name=bazarr", {"bazarr"}),
        ("app.kubernetes.io/name!=sonarr,app.kubernetes.io/name in (sonarr,radarr)", {"radarr"}),
        ("batch.kubernetes.io/job-name", {"recyclarr"}),
        ("!app.kubernetes.io/name", set()),
        ("nothing/here", set()),
    ],
)
async def test_label_selectors_choose_by_the_whole_grammar(healthy: Served, selector: str, apps: set[str]) -> None:
    found = await healthy.get("/api/v1/namespaces/media/pods", labelSelector=selector)
    assert {item["metadata"]["labels"]["app.kubernetes.io/name"] for item in found["items"]} == apps


@pytest.mark.parametrize("selector", ["a in (b", "=x", "a ! b", "a in b", "-a=b"])
async def test_a_bad_label_selector_is_a_bad_request(healthy: Served, selector: str) -> None:
    response = await healthy.http.get("/api/v1/pods", params={"labelSelector": selector})
    assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")
    assert "unable to parse requirement" in response.json()["message"]


async def test_field_selectors_choose_pods_and_events(healthy: Served) -> None:
    pods = await healthy.get("/api/v1/pods", fieldSelector="spec.nodeName=cp-1,status.phase=Running")
    assert pods["items"] and {pod["spec"]["nodeName"] for pod in pods["items"]} == {"cp-1"}
    finished = await healthy.get("/api/v1/pods", fieldSelector="status.phase!=Running")
    assert {pod["status"]["phase"] for pod in finished["items"]} == {"Succeeded", "Failed"}
    assert await healthy.names("/api/v1/nodes", fieldSelector="metadata.name=worker-1") == ["worker-1"]
    opaque = await healthy.names("/api/v1/secrets", fieldSelector="type=Opaque")
    assert "sonarr" in opaque


@pytest.mark.parametrize("path", ["/api/v1/pods", "/api/v1/configmaps"])
async def test_a_field_that_cannot_be_selected_is_a_bad_request(healthy: Served, path: str) -> None:
    response = await healthy.http.get(path, params={"fieldSelector": "spec.color=red"})
    assert response.status_code == 400
    wording = "field label not supported: spec.color" if "pods" in path else "is not a known field selector"
    assert wording in response.json()["message"]


async def test_pages_add_up_to_the_whole_list(healthy: Served) -> None:
    whole = await healthy.names("/api/v1/pods")
    found: list[str] = []
    token, left = "", len(whole)
    while True:
        page = await healthy.get("/api/v1/pods", limit=20, **({"continue": token} if token else {}))
        found += [item["metadata"]["name"] for item in page["items"]]
        left -= len(page["items"])
        token = page["metadata"].get("continue", "")
        if not token:
            assert "remainingItemCount" not in page["metadata"]
            break
        assert page["metadata"]["remainingItemCount"] == left
    assert found == whole


async def test_the_remaining_count_is_left_out_when_a_selector_is_used(healthy: Served) -> None:
    page = await healthy.get("/api/v1/pods", limit=2, labelSelector="app.kubernetes.io/name")
    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


@pytest.mark.parametrize(
    ("params", "code", "reason"),
    [
        ({"limit": "many"}, 400, "BadRequest"),
        ({"continue": "garbage"}, 400, "BadRequest"),
        ({"resourceVersion": "99999999999"}, 504, "Timeout"),
    ],
)
async def test_bad_list_options_are_refused(healthy: Served, params: dict[str, str], code: int, reason: str) -> None:
    response = await healthy.http.get("/api/v1/pods", params=params)
    assert (response.status_code, response.json()["reason"]) == (code, reason)


async def test_resource_version_zero_is_accepted(healthy: Served) -> None:
    assert (await healthy.get("/api/v1/pods", resourceVersion="0"))["items"]


async def test_partial_metadata_has_only_metadata(healthy: Served) -> None:
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    body = (await healthy.http.get("/api/v1/namespaces/media/pods", headers={"Accept": accept})).json()
    assert body["kind"] == "PartialObjectMetadataList"
    assert all(set(item) == {"kind", "apiVersion", "metadata"} for item in body["items"])


async def test_the_same_events_are_served_in_both_groups(healthy: Served) -> None:
    healthy.lab.cluster.recorder.record(
        healthy.lab.store.all("pods", "media")[0],
        Source("kubelet", "worker-1"),
        "Warning", "Unhealthy", "Readiness probe failed", healthy.clock(), times=3,
    )  # fmt: skip
    old = (await healthy.get("/api/v1/namespaces/media/events", fieldSelector="reason=Unhealthy"))["items"][0]
    new = (await healthy.get("/apis/events.k8s.io/v1/events", fieldSelector="reason=Unhealthy"))["items"][0]
    assert (new["note"], new["regarding"]) == (old["message"], old["involvedObject"])
    assert new["deprecatedCount"] == old["count"] == 3
    by_name = f"regarding.name={old['involvedObject']['name']}"
    assert len((await healthy.get("/apis/events.k8s.io/v1/events", fieldSelector=by_name))["items"]) == 1
