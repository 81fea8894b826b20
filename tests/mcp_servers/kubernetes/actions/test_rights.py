"""Each action needs exactly the rights that the table says, and misses one with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from lab.access import RbacUser, Rule
from mcp_servers.cluster.access import Right
from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes.actions.rights import RIGHTS
from mcp_servers.kubernetes.tools import specs
from opswarm.errors import PermissionDenied
from tests.mcp_servers.kubernetes.actions.stage import Stage, deployment, staged

CALLS: dict[str, dict[str, Any]] = {
    "rollout_restart": {"kind": "Deployment", "name": "cloudflared", "namespace": "network"},
    "rollout_undo": {"kind": "Deployment", "name": "sonarr", "namespace": "media"},
    "rollout_pause": {"name": "cloudflared", "namespace": "network"},
    "rollout_resume": {"name": "paused", "namespace": "default"},
    "scale": {"kind": "StatefulSet", "name": "postgres", "namespace": "database", "replicas": 3},
    "delete_pod": {"name": "$pod", "namespace": "network"},
    "evict_pod": {"name": "$pod", "namespace": "network"},
    "cordon": {"name": "worker-1"},
    "uncordon": {"name": "worker-2"},
    "drain": {"name": "worker-1", "delete_emptydir_data": True},
    "delete_finished": {"kind": "Job", "namespace": "database", "names": ["schema-migrate"]},
    "trigger_cronjob": {"name": "recyclarr", "namespace": "media"},
    "apply_manifest": {"manifest": yaml.safe_dump(deployment())},
    "label": {"kind": "Deployment", "name": "sonarr", "namespace": "media", "key": "team", "value": "x"},
    "annotate": {"kind": "Node", "name": "worker-1", "key": "team", "value": "x"},
}
EVERY = sorted(CALLS)


def granted(rights: tuple[Right, ...]) -> dict[str, RbacUser]:
    rules = [
        Rule((r.verb,), (f"{r.resource}/{r.subresource}" if r.subresource else r.resource,), (r.group,))
        for r in rights
    ]
    rules.append(Rule(("create",), ("selfsubjectaccessreviews",), ("authorization.k8s.io",)))
    return {"agent": RbacUser("system:serviceaccount:opswarm:tools", rules)}


async def prepared(stage: Stage, tool: str) -> dict[str, Any]:
    body = deployment("paused")
    body["spec"]["paused"] = True
    await stage.create("/apis/apps/v1/namespaces/default/deployments", body)
    if tool == "uncordon":
        await stage.merge("/api/v1/nodes/worker-2", {"spec": {"unschedulable": True}})
    pods = await stage.names("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=cloudflared")
    return {key: pods[0] if value == "$pod" else value for key, value in CALLS[tool].items()}


@pytest.mark.parametrize("tool", EVERY)
async def test_the_rights_of_the_table_are_enough(tmp_path: Path, tool: str) -> None:
    async with staged(tmp_path, rbac=granted(RIGHTS[tool]), token="agent") as stage:
        act = await stage.plan(tool, **await prepared(stage, tool))
        await act.perform()
        await act.probe()
        assert (await act.verify()).ok is True


@pytest.mark.parametrize("tool", EVERY)
async def test_attack_no_action_gets_past_a_pause_that_comes_after_all_was_asked(tmp_path: Path, tool: str) -> None:
    async with staged(tmp_path) as stage:
        act = await stage.plan(tool, **await prepared(stage, tool))
        before = stage.state()
        await act.paused()
        assert stage.state() == before


def used(tool: str) -> list[Right]:
    """The rights of a tool that change something and that its call here needs."""
    kinds = {"Deployment": "deployments", "StatefulSet": "statefulsets", "Node": "nodes", "Job": "jobs"}
    plural = kinds.get(CALLS[tool].get("kind", ""), "")
    changing = [r for r in RIGHTS[tool] if r.verb not in ("get", "list")]
    if tool == "apply_manifest":
        plural = "deployments"
    return [r for r in changing if not plural or r.resource == plural]


@pytest.mark.parametrize(("tool", "missing"), [(tool, right) for tool in EVERY for right in used(tool)], ids=str)
async def test_a_right_that_is_missing_is_named_before_anything_is_done(
    tmp_path: Path, tool: str, missing: Right
) -> None:
    rights = tuple(r for r in RIGHTS[tool] if r != missing)
    async with staged(tmp_path, rbac=granted(rights), token="agent") as stage:
        refused = await stage.refused(tool, **await prepared(stage, tool))
        assert isinstance(refused, PermissionDenied)
        assert str(missing) in str(refused)


async def test_the_table_has_every_action_and_nothing_that_is_never_done(stage: Stage) -> None:
    assert set(RIGHTS) == set(stage.tools)
    for rights in RIGHTS.values():
        for right in rights:
            assert right.verb in ("get", "list", "patch", "create", "delete")
            assert "*" not in (right.group, right.resource, right.verb)
            assert right.resource not in ("secrets", "serviceaccounts", "roles", "rolebindings")
            assert right.subresource in ("", "eviction")


def test_actions_are_offered_only_when_asked_for() -> None:
    resources = Resources(cast(Cluster, None))
    assert all(spec.read_only for spec in specs(resources))
    changing = [spec for spec in specs(resources, actions=True) if not spec.read_only]
    assert {spec.name for spec in changing} == set(RIGHTS)
    assert all(spec.action is not None and spec.function.__doc__ for spec in changing)
