"""What the API refuses, and in which words."""

from __future__ import annotations

import pytest

from tests.lab.conftest import READER, Served, client_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_missing_or_wrong_token_is_unauthorized(healthy: Served, token: str) -> None:
    async with client_for(healthy.running, token) as http:
        response = await http.get("/api/v1/pods")
    assert response.status_code == 401
    assert response.json()["message"] == "Unauthorized"


async def test_what_rbac_does_not_allow_is_forbidden_in_its_words(healthy: Served) -> None:
    async with client_for(healthy.running, "reader") as http:
        assert (await http.get("/api/v1/namespaces/media/pods")).status_code == 200
        refused = await http.get("/api/v1/namespaces/network/pods")
        assert refused.status_code == 403
        assert refused.json()["message"] == (
            'pods is forbidden: User "system:serviceaccount:opswarm:reader" cannot list resource "pods" in '
            'API group "" in the namespace "network"'
        )
        everywhere = await http.get("/api/v1/pods")
        assert everywhere.json()["message"].endswith('cannot list resource "pods" in API group "" at the cluster scope')
        named = await http.get("/apis/apps/v1/namespaces/media/deployments/radarr")
        assert named.json()["message"].startswith('deployments.apps "radarr" is forbidden: User ')
        assert (await http.get("/apis/apps/v1/namespaces/media/deployments/sonarr")).status_code == 200
        pod = (await http.get("/api/v1/namespaces/media/pods")).json()["items"][0]["metadata"]["name"]
        deletion = await http.delete(f"/api/v1/namespaces/media/pods/{pod}")
        assert (deletion.status_code, deletion.json()["reason"]) == (403, "Forbidden")
        watch = await http.get("/api/v1/namespaces/media/secrets", params={"watch": "1"})
        assert 'cannot watch resource "secrets"' in watch.json()["message"]


async def test_a_caller_can_ask_what_it_may_do(healthy: Served) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with client_for(healthy.running, "reader") as http:
        for attributes, allowed in (
            ({"verb": "list", "resource": "pods", "namespace": "media"}, True),
            ({"verb": "get", "resource": "pods", "subresource": "log", "namespace": "media"}, True),
            ({"verb": "delete", "resource": "pods", "namespace": "media"}, False),
            ({"verb": "list", "resource": "pods"}, False),
        ):
            review = {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }  # fmt: skip
            response = await http.post(path, json=review)
            assert (response.status_code, response.json()["status"]["allowed"]) == (201, allowed), attributes
        rules = await http.post(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json={"spec": {"namespace": "media"}}
        )
        assert rules.json()["status"]["resourceRules"][0]["verbs"] == ["get", "list", "watch"]
        who = await http.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={})
        assert who.json()["status"]["userInfo"]["username"] == READER.username


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", "/api/v1/namespaces/media/pods/x", 404, 'pods "x" not found'),
        ("GET", "/apis/apps/v1/namespaces/media/deployments/x", 404, 'deployments.apps "x" not found'),
        ("GET", "/api/v1/widgets", 404, "the server could not find the requested resource"),
        ("GET", "/apis/nothing.example/v1", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/media/nodes", 404, "the server could not find the requested resource"),
        ("PUT", "/api/v1/pods", 405, "the server does not allow this method on the requested resource"),
        (
            "DELETE",
            "/api/v1/namespaces",
            405,
            "the server does not allow this method on the requested resource",
        ),
    ],
)
async def test_unknown_things_are_refused_with_a_status(
    healthy: Served, method: str, path: str, code: int, message: str
) -> None:
    response = await healthy.http.request(method, path)
    body = response.json()
    assert (response.status_code, body["kind"], body["status"], body["code"]) == (
        code,
        "Status",
        "Failure",
        code,
    )
    assert body["message"] == message


async def test_a_not_found_status_names_what_was_not_found(healthy: Served) -> None:
    body = (await healthy.http.get("/apis/apps/v1/namespaces/media/deployments/x")).json()
    assert body["reason"] == "NotFound"
    assert body["details"] == {"name": "x", "group": "apps", "kind": "deployments"}


async def test_only_json_can_be_had(healthy: Served) -> None:
    response = await healthy.http.get("/api/v1/pods", headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert (response.status_code, response.json()["reason"]) == (406, "NotAcceptable")


async def test_an_expired_continue_token_says_so_and_offers_another(healthy: Served) -> None:
    whole = await healthy.names("/api/v1/pods")
    token = (await healthy.get("/api/v1/pods", limit=10))["metadata"]["continue"]
    healthy.lab.store.compact()
    response = await healthy.http.get("/api/v1/pods", params={"limit": 10, "continue": token})
    body = response.json()
    assert (response.status_code, body["reason"]) == (410, "Expired")
    rest = await healthy.names("/api/v1/pods", **{"continue": body["metadata"]["continue"]})
    assert rest == whole[10:]
