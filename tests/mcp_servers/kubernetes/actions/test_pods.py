"""Deleting and evicting one pod."""

from __future__ import annotations

from typing import Any

import pytest

from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage

PODS = "/api/v1/namespaces/network/pods"


async def named(stage: Stage, namespace: str, app: str) -> list[str]:
    return await stage.names(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/name={app}")


def lone(name: str = "alone", **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "docker.io/library/busybox:1.37"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "network"},
        "spec": {"containers": [container], **spec},
    }


@pytest.mark.parametrize("tool", ["delete_pod", "evict_pod"])
async def test_a_pod_is_ended_and_its_controller_makes_a_new_one(stage: Stage, tool: str) -> None:
    first, second = await named(stage, "network", "cloudflared")
    act = await stage.plan(tool, name=first, namespace="network")
    assert act.plan.risk is Risk.SAFE and "makes a new one" in act.plan.preview
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES
    seen = await act.verify()
    assert seen.ok is True and f"Pod network/{first} is gone; 2 of 2 pods of" in seen.text
    after = await named(stage, "network", "cloudflared")
    assert second in after and first not in after and len(after) == 2


async def test_a_pod_that_nothing_makes_again_is_risky(stage: Stage) -> None:
    await stage.create(PODS, lone(volumes=[{"name": "cache", "emptyDir": {}}]))
    act = await stage.plan("delete_pod", name="alone", namespace="network")
    assert act.plan.risk is Risk.RISKY
    assert "nothing makes it again" in act.plan.preview and "emptyDir volumes is lost: cache" in act.plan.preview
    await act.perform()
    assert (await act.verify()).text == "Pod network/alone is gone."


async def test_an_eviction_that_a_budget_forbids_is_refused_by_the_budgets_name(stage: Stage) -> None:
    first, second = await named(stage, "network", "ingress-nginx")
    act = await stage.plan("evict_pod", name=first, namespace="network")
    await act.perform()
    refused = await stage.refused("evict_pod", name=second, namespace="network")
    text = f"Pod network/{second} may not be evicted now: The disruption budget ingress-nginx needs 1 healthy pods"
    assert str(refused).startswith(text)


async def test_a_pod_that_was_replaced_under_its_name_is_left_alone(stage: Stage) -> None:
    await stage.create(PODS, lone())
    for tool in ("delete_pod", "evict_pod"):
        act = await stage.plan(tool, name="alone", namespace="network")
        await stage.http.request("DELETE", f"{PODS}/alone", json={"gracePeriodSeconds": 0})
        await stage.create(PODS, lone())
        with pytest.raises(InvalidInput, match="replaced or changed in the meantime"):
            await act.perform()
        assert not await stage.gone(f"{PODS}/alone")


async def test_deleting_what_is_gone_already_is_done(stage: Stage) -> None:
    await stage.create(PODS, lone())
    act = await stage.plan("delete_pod", name="alone", namespace="network")
    await stage.http.request("DELETE", f"{PODS}/alone", json={"gracePeriodSeconds": 0})
    await act.perform()
    assert await act.probe() is Happened.YES


async def test_pods_of_protected_namespaces_are_left_alone(stage: Stage) -> None:
    (name, *_) = await named(stage, "kube-system", "coredns")
    for tool in ("delete_pod", "evict_pod"):
        refused = await stage.refused(tool, name=name, namespace="kube-system")
        assert isinstance(refused, PermissionDenied)


async def test_a_pod_that_is_ending_is_not_ended_twice(stage: Stage) -> None:
    (name,) = await named(stage, "media", "sonarr")
    await stage.http.delete(f"/api/v1/namespaces/media/pods/{name}")
    assert "is ending already" in str(await stage.refused("delete_pod", name=name, namespace="media"))


async def test_a_pod_that_ended_with_its_job_is_not_said_to_come_again(stage: Stage) -> None:
    jobs = "/api/v1/namespaces/media/pods"
    (name,) = await stage.names(jobs, labelSelector="job-name=recyclarr-29401680")
    act = await stage.plan("delete_pod", name=name, namespace="media")
    assert act.plan.risk is Risk.RISKY
    assert "makes a new one" not in act.plan.preview and "It has ended; its logs go with it." in act.plan.preview
    await act.perform()
    stage.run(4)
    assert await stage.names(jobs, labelSelector="job-name=recyclarr-29401680") == []


async def test_what_a_node_runs_from_a_file_is_neither_deleted_nor_evicted(stage: Stage) -> None:
    body = lone()
    body["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "f00"}
    await stage.create(PODS, body)
    for tool in ("delete_pod", "evict_pod"):
        assert "comes back as it is" in str(await stage.refused(tool, name="alone", namespace="network"))
