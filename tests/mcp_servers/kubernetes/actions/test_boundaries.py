"""What no action goes past: the object that was planned, and the namespaces that are protected."""

from __future__ import annotations

from typing import Any

import pytest

from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.limits import PROTECTED_NAMESPACES
from tests.mcp_servers.kubernetes.actions.stage import Stage

SONARR: dict[str, Any] = {"kind": "Deployment", "name": "sonarr", "namespace": "media"}
DEPLOYMENT = "/apis/apps/v1/namespaces/media/deployments/sonarr"
NODE = "/api/v1/nodes/worker-1"
JOB = "/apis/batch/v1/namespaces/database/jobs/schema-migrate"
CRON = "/apis/batch/v1/namespaces/media/cronjobs/recyclarr"

REPLACED: dict[str, tuple[str, dict[str, Any], Happened]] = {
    "rollout_restart": (DEPLOYMENT, SONARR, Happened.UNKNOWN),
    "rollout_undo": (DEPLOYMENT, SONARR, Happened.UNKNOWN),
    "rollout_pause": (DEPLOYMENT, {"name": "sonarr", "namespace": "media"}, Happened.UNKNOWN),
    "rollout_resume": (DEPLOYMENT, {"name": "sonarr", "namespace": "media"}, Happened.UNKNOWN),
    "scale": (DEPLOYMENT, {**SONARR, "replicas": 2}, Happened.UNKNOWN),
    "cordon": (NODE, {"name": "worker-1"}, Happened.UNKNOWN),
    "uncordon": (NODE, {"name": "worker-1"}, Happened.UNKNOWN),
    "drain": (NODE, {"name": "worker-1", "delete_emptydir_data": True}, Happened.UNKNOWN),
    # A Job that was never made is known not to have been; one that is gone is what was wanted.
    "trigger_cronjob": (CRON, {"name": "recyclarr", "namespace": "media"}, Happened.NO),
    "delete_finished": (JOB, {"kind": "Job", "namespace": "database", "names": ["schema-migrate"]}, Happened.YES),
    "label": (DEPLOYMENT, {**SONARR, "key": "team", "value": "x"}, Happened.UNKNOWN),
    "annotate": (NODE, {"kind": "Node", "name": "worker-1", "key": "team", "value": "x"}, Happened.UNKNOWN),
}
BEFORE: dict[str, dict[str, Any]] = {
    "rollout_resume": {"spec": {"paused": True}},
    "uncordon": {"spec": {"unschedulable": True}},
}


async def replace(stage: Stage, path: str) -> Any:
    """Another object of the same words under the same name."""
    old = await stage.get(path)
    gone = await stage.http.request("DELETE", path, json={"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"})
    assert gone.status_code == 200, gone.text
    kept = {key: value for key, value in old["metadata"].items() if key in ("name", "namespace", "labels")}
    new = await stage.create(path.rpartition("/")[0], {**old, "metadata": kept, "status": {}})
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    return new


@pytest.mark.parametrize("tool", REPLACED)
async def test_an_object_that_took_the_name_since_the_plan_is_left_alone(stage: Stage, tool: str) -> None:
    path, arguments, happened = REPLACED[tool]
    if tool in BEFORE:
        await stage.merge(path, BEFORE[tool])
    act = await stage.plan(tool, **arguments)
    new = await replace(stage, path)
    revision = stage.lab.store.revision
    with pytest.raises(InvalidInput, match=r"in the meantime|is gone; nothing was done"):
        await act.perform()
    assert stage.lab.store.revision == revision
    assert await act.probe() is happened
    now = await stage.get(path)
    assert (now["metadata"], now["spec"]) == (new["metadata"], new["spec"])


@pytest.mark.parametrize("tool", [t for t in REPLACED if REPLACED[t][0] in (DEPLOYMENT, NODE)])
async def test_an_effect_on_what_took_the_name_is_not_seen_as_ours(stage: Stage, tool: str) -> None:
    path, arguments, _ = REPLACED[tool]
    if tool in BEFORE:
        await stage.merge(path, BEFORE[tool])
    act = await stage.plan(tool, **arguments)
    await act.perform()
    await replace(stage, path)
    assert await act.probe() is Happened.UNKNOWN
    assert (await act.verify()).ok is not True


PROTECTED: dict[str, dict[str, Any]] = {
    "rollout_restart": {"kind": "Deployment", "name": "coredns"},
    "rollout_undo": {"kind": "Deployment", "name": "coredns"},
    "rollout_pause": {"name": "coredns"},
    "rollout_resume": {"name": "coredns"},
    "scale": {"kind": "Deployment", "name": "coredns", "replicas": 3},
    "delete_pod": {"name": "coredns"},
    "evict_pod": {"name": "coredns"},
    "trigger_cronjob": {"name": "coredns"},
    "delete_finished": {"kind": "Job", "names": ["coredns"]},
    "apply_manifest": {"manifest": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns}\n"},
    "label": {"kind": "Deployment", "name": "coredns", "key": "team", "value": "x"},
    "annotate": {"kind": "Deployment", "name": "coredns", "key": "team", "value": "x"},
}


@pytest.mark.parametrize("namespace", sorted(PROTECTED_NAMESPACES))
@pytest.mark.parametrize("tool", PROTECTED)
async def test_a_protected_namespace_is_refused_before_anything_in_it_is_read(
    stage: Stage, tool: str, namespace: str
) -> None:
    # Nothing of this name is in most of them: a refusal that came after a look would say that it is not there.
    refused = await stage.refused(tool, **PROTECTED[tool], namespace=namespace)
    assert isinstance(refused, PermissionDenied) and refused.rule.startswith("limit.namespace")


async def test_every_action_is_held_to_these_bounds(stage: Stage) -> None:
    apart = {"delete_pod", "evict_pod", "apply_manifest"}  # Their replaced objects are in their own modules.
    assert REPLACED.keys() | apart == stage.tools.keys()
    nodes = {"cordon", "uncordon", "drain"}
    assert PROTECTED.keys() | nodes == stage.tools.keys()
