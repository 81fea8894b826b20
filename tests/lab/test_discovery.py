"""Discovery, version, health and the OpenAPI documents."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_old_discovery_names_every_group_and_resource(healthy: Served) -> None:
    assert (await healthy.get("/api"))["versions"] == ["v1"]
    groups = {group["name"] for group in (await healthy.get("/apis"))["groups"]}
    assert {"apps", "batch", "metrics.k8s.io", "helm.toolkit.fluxcd.io", "events.k8s.io"} <= groups
    resources = {item["name"]: item for item in (await healthy.get("/api/v1"))["resources"]}
    assert resources["pods"]["shortNames"] == ["po"]
    assert resources["pods/log"]["verbs"] == ["get"]
    assert resources["pods/eviction"]["kind"] == "Eviction"
    apps = {item["name"]: item for item in (await healthy.get("/apis/apps/v1"))["resources"]}
    assert apps["deployments"]["categories"] == ["all"]
    assert apps["deployments/scale"]["group"] == "autoscaling"


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
async def test_aggregated_discovery_answers_in_the_version_asked_for(healthy: Served, version: str) -> None:
    accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
    for path in ("/api", "/apis"):
        response = await healthy.http.get(path, headers={"Accept": accept})
        body = response.json()
        assert response.headers["content-type"].startswith(accept.split(",")[0])
        assert (body["kind"], body["apiVersion"]) == (
            "APIGroupDiscoveryList",
            f"apidiscovery.k8s.io/{version}",
        )
    apps = next(item for item in body["items"] if item["metadata"]["name"] == "apps")
    deployments = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
    assert deployments["scope"] == "Namespaced"
    assert {sub["subresource"] for sub in deployments["subresources"]} == {"scale", "status"}


async def test_the_version_is_1_34_and_health_is_open_to_all(healthy: Served) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        response = await healthy.http.get(path, headers={"Authorization": ""})
        assert (response.status_code, response.text) == (200, "ok")
    version = await healthy.get("/version")
    assert (version["major"], version["minor"]) == ("1", "34")


async def test_openapi_documents_are_valid_and_name_the_paths(healthy: Served) -> None:
    index = await healthy.get("/openapi/v3")
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    assert "/apis/apps/v1/namespaces/{namespace}/deployments" in (await healthy.get(url))["paths"]
    assert (await healthy.get("/openapi/v2"))["swagger"] == "2.0"


async def test_every_listable_resource_of_the_discovery_can_be_listed(healthy: Served) -> None:
    roots = ["/api/v1"]
    roots += [f"/apis/{v['groupVersion']}" for g in (await healthy.get("/apis"))["groups"] for v in g["versions"]]
    listed = 0
    for root in roots:
        for item in (await healthy.get(root))["resources"]:
            if "list" in item["verbs"] and "/" not in item["name"]:
                body = await healthy.get(f"{root}/{item['name']}")
                assert body["kind"] == f"{item['kind']}List"
                if "metrics" in root:
                    continue
                table = "application/json;as=Table;v=v1;g=meta.k8s.io"
                shown = (await healthy.http.get(f"{root}/{item['name']}", headers={"Accept": table})).json()
                assert all(len(row["cells"]) == len(shown["columnDefinitions"]) for row in shown["rows"])
                listed += 1
    assert listed > 40
