"""Drains at their edges: what stays, what came late, what forbids it, and who may."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_servers.cluster.connection import Cluster
from mcp_servers.kubernetes.actions import draining
from mcp_servers.kubernetes.actions.pods import evict
from opswarm.actions.action import Happened, asking_before_writes
from opswarm.errors import PermissionDenied
from opswarm.guard.targets import Target
from tests.mcp_servers.kubernetes.actions.stage import Stage

ALL: dict[str, Any] = {"unmanaged": True, "delete_emptydir_data": True}
NODE = "/api/v1/nodes/worker-1"
PODS = "/api/v1/namespaces/default/pods"
MIRROR = {"kubernetes.io/config.mirror": "f00", "kubernetes.io/config.source": "file"}


def pod(name: str, **more: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "docker.io/library/busybox:1.37"}
    metadata = {"name": name, "namespace": "default", **more.pop("metadata", {})}
    spec = {"containers": [container], "nodeName": "worker-1", **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def on(stage: Stage, node: str) -> dict[str, Any]:
    found = await stage.get("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")
    return {f"{p['metadata']['namespace']}/{p['metadata']['name']}": p for p in found["items"]}


def evicted(touches: Any) -> set[str]:
    return {f"{t.namespace}/{t.name}" for t in touches if isinstance(t, Target) and t.verb == "evict"}


async def test_what_a_node_runs_from_files_stays_though_it_has_no_controller(stage: Stage) -> None:
    await stage.create(PODS, pod("static", metadata={"annotations": MIRROR}))
    act = await stage.plan("drain", name="worker-1", delete_emptydir_data=True)
    assert "default/static" not in evicted(act.plan.touches)
    assert "- default/static" in act.plan.preview.partition("Stay, ")[2]
    await act.perform()
    assert "deletionTimestamp" not in (await stage.get(f"{PODS}/static"))["metadata"]
    assert (await act.verify()).ok is True


async def test_a_drain_is_what_may_evict_from_a_protected_namespace(stage: Stage) -> None:
    (name, where) = next(
        (p["metadata"]["name"], p["spec"]["nodeName"])
        for p in (await stage.get("/api/v1/namespaces/kube-system/pods"))["items"]
        if p["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    )
    act = await stage.plan("drain", name=where, **ALL)
    assert f"kube-system/{name}" in evicted(act.plan.touches)
    await act.perform()
    assert (await act.verify()).ok is True
    assert f"kube-system/{name}" not in await on(stage, where)


async def test_a_pod_that_has_ended_needs_no_argument(stage: Stage) -> None:
    await stage.create(PODS, pod("over", volumes=[{"name": "cache", "emptyDir": {}}]))
    await stage.merge(f"{PODS}/over/status", {"status": {"phase": "Succeeded"}})
    act = await stage.plan("drain", name="worker-1", delete_emptydir_data=True)
    assert "default/over" in evicted(act.plan.touches)


async def test_a_pod_that_came_since_the_plan_is_not_evicted_and_not_passed_over(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    await stage.create(PODS, pod("late"))
    await act.perform()
    assert "deletionTimestamp" not in (await stage.get(f"{PODS}/late"))["metadata"]
    seen = await act.verify()
    assert seen.ok is False
    assert seen.text == "Node worker-1 is rid of the pods that were planned, but these came since: default/late."


async def test_one_pod_that_may_not_be_evicted_keeps_none_of_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)

    async def denied(cluster: Cluster, pod: str, uid: str, *, dry: bool = False) -> None:
        if "/namespaces/media/" in pod:
            raise PermissionDenied("The cluster's RBAC denies this.")
        await evict(cluster, pod, uid, dry=dry)

    monkeypatch.setattr(draining, "evict", denied)
    done = await act.perform()
    left = {place for place in evicted(act.plan.touches) if place.startswith("media/")}
    assert left and set(done.after["left"]) == left and "RBAC denies" in done.text
    assert done.after["evicted"] == len(evicted(act.plan.touches)) - len(left)


async def test_what_two_budgets_cover_is_told_and_the_drain_ends(stage: Stage) -> None:
    labels = {"app.kubernetes.io/name": "twice"}
    await stage.create(PODS, pod("twice", metadata={"labels": labels}))
    stage.run(20)
    for name in ("one", "two"):
        spec = {"minAvailable": 0, "selector": {"matchLabels": labels}}
        body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}
        await stage.create("/apis/policy/v1/namespaces/default/poddisruptionbudgets", body)
    stage.run(2)
    act = await stage.plan("drain", name="worker-1", **ALL)
    done = await act.perform()
    assert done.after["left"] == ["default/twice"] and "more than one PodDisruptionBudget" in done.text
    assert sum(stage.waits) <= 240
    assert await act.probe() is Happened.UNKNOWN


async def test_a_drain_that_was_broken_off_is_unknown_and_can_be_planned_again(stage: Stage) -> None:
    first = await stage.plan("drain", name="worker-1", **ALL)
    pods = first.intent.state["pods"]
    noted = {"annotations": {"opswarm.dev/action": "key-1"}}
    await stage.merge(NODE, {"spec": {"unschedulable": True}, "metadata": noted})
    assert await first.probe() is Happened.UNKNOWN
    second = await stage.plan("drain", "key-2", name="worker-1", **ALL)
    assert len(second.intent.state["pods"]) == len(pods)
    await second.perform()
    assert (await second.verify()).ok is True
    assert await second.probe() is Happened.YES


async def test_a_node_that_was_let_back_in_between_is_not_drained(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    await act.perform()
    await stage.merge(NODE, {"spec": {"unschedulable": None}})
    seen = await act.verify()
    assert seen.ok is False


async def test_an_empty_node_is_drained_by_cordoning_it(stage: Stage) -> None:
    await (await stage.plan("drain", name="worker-1", **ALL)).perform()
    stage.run(60)
    act = await stage.plan("drain", "key-2", name="worker-1")
    assert act.plan.summary == "Drain Node worker-1: evict 0 pods." and len(act.plan.touches) == 1
    done = await act.perform()
    assert done.text == "Node worker-1 is cordoned; 0 of 0 pods are evicted."
    assert (await act.verify()).ok is True


class Pause:
    """Lets some steps pass, and then no more."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    async def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PermissionDenied("Actions are paused by person:bob: flood.", rule="control.paused")


async def test_a_pause_stops_a_drain_between_two_pods(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    planned = len(evicted(act.plan.touches))
    assert planned > 3
    with asking_before_writes(Pause(5)):  # The cordon, and twice for each pod.
        done = await act.perform()
    assert f"2 of {planned} pods are evicted. It was broken off: Actions are paused by person:bob: flood." in done.text
    assert done.after["evicted"] == 2 and len(done.after["left"]) == planned - 2
    ending = [name for name, one in (await on(stage, "worker-1")).items() if "deletionTimestamp" in one["metadata"]]
    assert len(ending) <= 2
    assert (await act.verify()).ok is False
