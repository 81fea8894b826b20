"""Cordoning and draining."""

from __future__ import annotations

from typing import Any

from opswarm.actions.action import Happened
from opswarm.errors import NotFound
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Target
from tests.mcp_servers.kubernetes.actions.stage import Stage, deployment

ALL: dict[str, Any] = {"unmanaged": True, "delete_emptydir_data": True}


async def on(stage: Stage, node: str) -> dict[str, Any]:
    found = await stage.get("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")
    return {f"{p['metadata']['namespace']}/{p['metadata']['name']}": p for p in found["items"]}


async def test_a_node_is_cordoned_and_uncordoned(stage: Stage) -> None:
    assert "is not cordoned" in str(await stage.refused("uncordon", name="worker-1"))
    act = await stage.plan("cordon", name="worker-1")
    assert (act.plan.summary, act.plan.risk) == ("Cordon Node worker-1.", Risk.SAFE)
    await act.perform()
    assert await act.probe() is Happened.YES
    assert ((await act.verify()).ok, (await act.verify()).text) == (True, "Node worker-1 takes no new pods.")
    assert "already cordoned" in str(await stage.refused("cordon", name="worker-1"))
    back = await stage.plan("uncordon", "key-2", name="worker-1")
    await back.perform()
    assert (await back.verify()).text == "Node worker-1 takes new pods."
    assert "unschedulable" not in (await stage.get("/api/v1/nodes/worker-1"))["spec"]


async def test_a_node_that_is_not_there_is_not_cordoned(stage: Stage) -> None:
    assert isinstance(await stage.refused("cordon", name="worker-9"), NotFound)


async def test_a_drain_lists_every_pod_and_leaves_those_of_the_node(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    pods = await on(stage, "worker-1")
    staying = {n for n, p in pods.items() if p["metadata"]["ownerReferences"][0]["kind"] in ("DaemonSet", "Node")}
    going = pods.keys() - staying
    node, *evicted = [touch for touch in act.plan.touches if isinstance(touch, Target)]
    assert (node.verb, node.kind, node.name) == ("drain", "Node", "worker-1")
    assert {f"{t.namespace}/{t.name}" for t in evicted} == going
    assert all(t.draining and t.verb == "evict" for t in evicted)
    assert all(f"- {name}" in act.plan.preview for name in pods)
    assert act.plan.risk is Risk.RISKY


async def test_a_drain_empties_the_node_and_waits_for_budgets(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    assert await act.probe() is Happened.NO
    done = await act.perform()
    assert done.after["left"] == []
    assert await act.probe() is Happened.YES
    seen = await act.verify()
    assert (seen.ok, seen.text) == (True, "Node worker-1 is drained.")
    left = [p for p in (await on(stage, "worker-1")).values() if "deletionTimestamp" not in p["metadata"]]
    assert {p["metadata"]["ownerReferences"][0]["kind"] for p in left} <= {"DaemonSet", "Node"}


async def test_pods_that_a_budget_lets_go_one_by_one_are_waited_for(stage: Stage) -> None:
    others = [n for n in await stage.names("/api/v1/nodes") if n != "worker-1"]
    for node in others:
        await stage.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
    await stage.create("/apis/apps/v1/namespaces/default/deployments", deployment(replicas=2))
    stage.run(20)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}}},
    }
    await stage.create("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget)
    for node in others:
        await stage.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
    stage.run(4)
    assert len([name for name in await on(stage, "worker-1") if name.startswith("default/web-")]) == 2
    act = await stage.plan("drain", name="worker-1", **ALL)
    done = await act.perform()
    assert done.after["left"] == [] and 5 <= sum(stage.waits) < 60
    assert (await act.verify()).ok is True


async def test_a_budget_that_never_allows_it_ends_the_drain_in_time_and_is_named(stage: Stage) -> None:
    (name, pod) = next((n, p) for n, p in (await on(stage, "worker-1")).items() if n.startswith("media/"))
    labels = {"app.kubernetes.io/name": pod["metadata"]["labels"]["app.kubernetes.io/name"]}
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "never"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
    }
    await stage.create("/apis/policy/v1/namespaces/media/poddisruptionbudgets", budget)
    stage.run(2)
    act = await stage.plan("drain", name="worker-1", **ALL)
    done = await act.perform()
    assert sum(stage.waits) <= 240
    assert done.after["left"] == [name] and "The disruption budget never needs 1 healthy pods" in done.text
    assert await act.probe() is Happened.UNKNOWN
    seen = await act.verify()
    assert (seen.ok, seen.text) == (False, f"Node worker-1 still has 1 of its pods: {name}.")


async def test_pods_that_lose_data_or_never_come_back_need_an_argument(stage: Stage) -> None:
    for node in ("worker-1", "worker-2"):
        local = [n for n, p in (await on(stage, node)).items() if any("emptyDir" in v for v in p["spec"]["volumes"])]
        if local:
            refused = await stage.refused("drain", name=node, unmanaged=True)
            assert "would lose what is in their emptyDir volumes" in str(refused) and local[0] in str(refused)
            assert "delete_emptydir_data=true" in str(refused)
            break
    else:
        raise AssertionError("no node of the lab has a pod with an emptyDir volume")
    container = {"name": "app", "image": "docker.io/library/busybox:1.37"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone"},
            "spec": {"containers": [container], "nodeName": "worker-1"}}  # fmt: skip
    await stage.create("/api/v1/namespaces/default/pods", body)
    refused = await stage.refused("drain", name="worker-1", delete_emptydir_data=True)
    assert "Nothing makes these pods again: default/alone." in str(refused) and "unmanaged=true" in str(refused)


async def test_a_pod_that_was_replaced_since_the_plan_is_not_evicted(stage: Stage) -> None:
    act = await stage.plan("drain", name="worker-1", **ALL)
    for pod in act.intent.state["pods"]:
        pod["uid"] = "00000000-0000-4000-8000-000000000000"
    done = await act.perform()
    assert done.after["evicted"] == 0
    assert not [p for p in (await on(stage, "worker-1")).values() if "deletionTimestamp" in p["metadata"]]
