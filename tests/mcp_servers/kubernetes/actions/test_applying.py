"""Applying one manifest."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage, deployment

NOTES = "/api/v1/namespaces/default/configmaps/notes"
WEB = "/apis/apps/v1/namespaces/default/deployments/web"


def config(namespace: str = "default", **data: str) -> dict[str, Any]:
    metadata = {"name": "notes", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def applied(stage: Stage, key: str, body: dict[str, Any]) -> None:
    act = await stage.plan("apply_manifest", key, manifest=yaml.safe_dump(body))
    await act.perform()


async def test_a_new_object_is_shown_whole_and_created(stage: Stage) -> None:
    act = await stage.plan("apply_manifest", manifest=yaml.safe_dump(config(a="1")))
    assert act.plan.summary == "Create ConfigMap default/notes."
    assert act.plan.preview.splitlines() == [
        "--- live", "+++ applied", "@@ -0,0 +1,7 @@", "+apiVersion: v1", "+kind: ConfigMap", "+metadata:",
        "+  name: notes", "+  namespace: default", "+data:", "+  a: '1'",
    ]  # fmt: skip
    assert await stage.gone(NOTES)
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES
    assert (await act.verify()).ok is True
    assert (await stage.get(NOTES))["data"] == {"a": "1"}


async def test_a_change_is_shown_as_a_diff_of_what_it_touches(stage: Stage) -> None:
    await applied(stage, "one", config(a="1", b="2"))
    act = await stage.plan("apply_manifest", "two", manifest=json.dumps(config(a="1", b="3")))
    assert act.plan.summary == "Change ConfigMap default/notes."
    changed = [line for line in act.plan.preview.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ["-  b: '2'", "+  b: '3'"]
    await act.perform()
    assert (await stage.get(NOTES))["data"] == {"a": "1", "b": "3"}
    again = await stage.refused("apply_manifest", manifest=yaml.safe_dump(config(a="1", b="3")))
    assert "is already as the manifest says" in str(again)


async def test_the_namespace_may_come_from_the_call_alone(stage: Stage) -> None:
    body = config(a="1")
    del body["metadata"]["namespace"]
    act = await stage.plan("apply_manifest", manifest=yaml.safe_dump(body), namespace="media")
    await act.perform()
    assert not await stage.gone("/api/v1/namespaces/media/configmaps/notes")
    assert "names a namespace" in str(await stage.refused("apply_manifest", manifest=yaml.safe_dump(body)))


async def test_what_others_manage_is_not_taken_from_them(stage: Stage) -> None:
    await applied(stage, "one", config(a="1"))
    await stage.merge(NOTES, {"data": {"a": "2"}}, "somebody")
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(config(a="3")))
    assert str(refused).startswith("Others manage what this would change: somebody owns .data.a.")


async def test_actions_of_ours_do_not_get_in_each_others_way(stage: Stage) -> None:
    await applied(stage, "one", config(a="1"))
    where = {"kind": "ConfigMap", "name": "notes", "namespace": "default"}
    await (await stage.plan("annotate", "two", **where, key="note", value="x")).perform()
    await applied(stage, "three", config(a="2"))
    found = await stage.get(NOTES)
    assert found["data"] == {"a": "2"} and found["metadata"]["annotations"]["note"] == "x"


async def test_a_workload_is_waited_for(stage: Stage) -> None:
    act = await stage.plan("apply_manifest", manifest=yaml.safe_dump(deployment(replicas=2)))
    await act.perform()
    seen = await act.verify()
    assert (seen.ok, seen.text) == (True, "Deployment default/web: 2 of 2 updated replicas are available.")


async def test_an_object_that_came_or_was_replaced_since_the_plan_is_left_alone(stage: Stage) -> None:
    created = await stage.plan("apply_manifest", manifest=yaml.safe_dump(config(a="1")))
    await stage.create("/api/v1/namespaces/default/configmaps", config(z="9"))
    with pytest.raises(InvalidInput, match="exists by now"):
        await created.perform()
    assert await created.probe() is Happened.UNKNOWN
    changed = await stage.plan("apply_manifest", manifest=yaml.safe_dump(config(a="1")))
    await stage.http.delete(NOTES)
    with pytest.raises(InvalidInput, match="replaced or changed"):
        await changed.perform()
    await stage.create("/api/v1/namespaces/default/configmaps", config(z="9"))
    with pytest.raises(InvalidInput, match="replaced or changed"):
        await changed.perform()


async def test_what_flux_keeps_is_refused_with_its_place_in_git(stage: Stage) -> None:
    body = await stage.get("/apis/apps/v1/namespaces/database/statefulsets/postgres")
    spec = {"replicas": 3}
    metadata = {"name": "postgres", "namespace": "database"}
    manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": spec}
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(manifest))
    assert isinstance(refused, PermissionDenied)
    assert refused.message == (
        "StatefulSet database/postgres is applied by Flux (Kustomization flux-system/postgres): change it in Git."
    )
    place = "Its files are at ./kubernetes/apps/database/postgres/app of GitRepository flux-system/flux-system."
    assert refused.hint == place


async def test_what_a_helm_release_keeps_names_the_release_and_its_kustomization(stage: Stage) -> None:
    metadata = {"name": "sonarr", "namespace": "media"}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 0}}
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(manifest))
    assert "is applied by Flux (HelmRelease media/sonarr)" in str(refused)
    assert "The HelmRelease is in Kustomization flux-system/sonarr. Its files are at ./kubernetes/apps/" in str(refused)


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:default/notes"}},
        {"labels": {"app.kubernetes.io/instance": "shop"}},
    ],
)
async def test_what_argo_cd_keeps_is_refused_with_its_application(stage: Stage, metadata: Any) -> None:
    body = config(a="1")
    await stage.create(
        "/api/v1/namespaces/default/configmaps?fieldManager=argocd-controller",
        {**body, "metadata": {**body["metadata"], **metadata}},
    )
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(config(a="2")))
    assert "is applied by Argo CD (Application shop): change it in Git." in str(refused)


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"hostNetwork": True}, "share the node's Network"),
        ({"hostPID": True}, "share the node's PID"),
        ({"hostIPC": True}, "share the node's IPC"),
        ({"volumes": [{"name": "root", "hostPath": {"path": "/etc"}}]}, "files at /etc (hostPath)"),
        ({"serviceAccountName": "admin"}, "rights of the ServiceAccount admin"),
        ({"volumes": [{"name": "keys", "secret": {"secretName": "db"}}]}, "reads Secrets: db"),
        (
            {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "reads Secrets: a token",
        ),
    ],
)
async def test_a_template_that_reaches_for_the_node_is_risky_and_says_so(stage: Stage, pod: Any, said: str) -> None:
    act = await stage.plan("apply_manifest", manifest=yaml.safe_dump(deployment(**pod)))
    assert act.plan.risk is Risk.RISKY and [getattr(t, "privileged", None) for t in act.plan.touches] == [True]
    assert act.plan.preview.startswith("WARNING: ") and said in act.plan.preview.splitlines()[0]


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"privileged": True}, "is privileged"),
        ({"capabilities": {"add": ["SYS_ADMIN"]}}, "adds capabilities: SYS_ADMIN"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
async def test_a_privileged_container_is_told_wherever_it_is(stage: Stage, context: Any, said: str, kind: str) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0]["securityContext"] = context
    if kind == "CronJob":
        template = body["spec"]["template"]
        spec = {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}
        body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": body["metadata"], "spec": spec}
    act = await stage.plan("apply_manifest", manifest=yaml.safe_dump(body))
    assert f"WARNING: Container web {said}" in act.plan.preview


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ("v1", "Secret"), ("v1", "ServiceAccount"), ("rbac.authorization.k8s.io/v1", "Role"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"), ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("v1", "Node"),
        ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"), ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
    ],
)  # fmt: skip
async def test_kinds_that_hold_rights_or_apply_others_are_refused(stage: Stage, api: str, kind: str) -> None:
    scoped = {} if kind in ("ClusterRole", "Namespace", "CustomResourceDefinition", "Node") else {"namespace": "media"}
    body = {"apiVersion": api, "kind": kind, "metadata": {"name": "x", **scoped}}
    assert isinstance(await stage.refused("apply_manifest", manifest=yaml.safe_dump(body)), PermissionDenied)


async def test_protected_namespaces_are_left_alone(stage: Stage) -> None:
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(config("kube-system", a="1")))
    assert isinstance(refused, PermissionDenied)


async def test_a_secret_value_is_masked_and_its_change_is_not_hidden(stage: Stage) -> None:
    body = deployment()
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "API_TOKEN", "value": "hunter2"}, {"name": "PLAIN", "value": "seen"}]
    await applied(stage, "one", body)
    container["env"][0]["value"] = "hunter3"
    act = await stage.plan("apply_manifest", "two", manifest=yaml.safe_dump(body))
    assert "hunter" not in act.plan.preview
    assert "+          value: (masked, changes)" in act.plan.preview


async def test_a_change_too_large_to_be_shown_is_refused(stage: Stage) -> None:
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(config(a="x" * 20_000)))
    assert "too large to be shown" in str(refused)


async def test_an_unknown_version_or_kind_is_refused(stage: Stage) -> None:
    body = {**config(a="1"), "apiVersion": "v2"}
    assert "prefers ConfigMap in version v1" in str(
        await stage.refused("apply_manifest", manifest=yaml.safe_dump(body))
    )
    body = {**config(a="1"), "apiVersion": "apps/v1"}
    assert "no kind" in str(await stage.refused("apply_manifest", manifest=yaml.safe_dump(body)))


async def test_the_api_servers_own_refusal_is_told(stage: Stage) -> None:
    body = deployment()
    body["spec"]["selector"] = {"matchLabels": {"other": "x"}}
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(body))
    assert "The API server refused the request" in str(refused) and "selector" in str(refused)


async def test_a_field_that_the_kind_lacks_is_named(stage: Stage) -> None:
    body = deployment()
    body["spec"]["replica"] = 2
    refused = await stage.refused("apply_manifest", manifest=yaml.safe_dump(body))
    assert isinstance(refused, InvalidInput)
    assert str(refused).startswith("The API server can't apply this: ")
    assert ".spec.replica: field not declared in schema" in str(refused)
