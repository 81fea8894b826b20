"""Restarting, undoing, pausing and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_servers.kubernetes.actions.workloads import trouble_of
from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage, staged

CLOUDFLARED = "/apis/apps/v1/namespaces/network/deployments/cloudflared"
POSTGRES = "/apis/apps/v1/namespaces/database/statefulsets/postgres"
NETWORK: dict[str, Any] = {"kind": "deployment", "name": "cloudflared", "namespace": "network"}


async def test_a_restart_is_planned_without_a_change_and_then_rolls_every_pod(stage: Stage) -> None:
    revision = stage.lab.store.revision
    act = await stage.plan("rollout_restart", **NETWORK)
    assert stage.lab.store.revision == revision
    assert act.plan.summary == "Restart Deployment network/cloudflared."
    assert act.plan.risk is Risk.SAFE
    before = await stage.names("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=cloudflared")
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES
    seen = await act.verify()
    assert (seen.ok, seen.text) == (True, "Deployment network/cloudflared: 2 of 2 updated replicas are available.")
    after = await stage.names("/api/v1/namespaces/network/pods", labelSelector="app.kubernetes.io/name=cloudflared")
    assert len(after) == 2 and not set(before) & set(after)


@pytest.mark.parametrize(
    ("kind", "name", "namespace"),
    [("StatefulSet", "postgres", "database"), ("daemonsets", "node-exporter", "monitoring")],
)
async def test_what_keeps_its_revisions_apart_is_restarted_too(
    stage: Stage, kind: str, name: str, namespace: str
) -> None:
    act = await stage.plan("rollout_restart", kind=kind, name=name, namespace=namespace)
    await act.perform()
    stage.run(2)
    assert (await act.verify()).ok is True
    found = await stage.get(str(act.intent.state["path"]))
    assert "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"]["annotations"]


async def test_a_restart_with_downtime_says_so(stage: Stage) -> None:
    act = await stage.plan("rollout_restart", kind="Deployment", name="sonarr", namespace="media")
    assert "offline while it restarts" in act.plan.preview


async def test_a_restart_that_crashes_is_told_with_the_pod_and_its_reason(tmp_path: Path) -> None:
    async with staged(tmp_path, "app-crash") as stage:
        broken = stage.lab.scenarios[0].truth.object
        act = await stage.plan("rollout_restart", kind=broken.kind, name=broken.name, namespace=broken.namespace)
        await act.perform()
        seen = await act.verify()
        assert seen.ok is False
        # Which it is depends on the instant: it is tried again and again.
        assert "is CrashLoopBackOff" in seen.text or "has crashed" in seen.text
        assert sum(stage.waits) <= 180


async def test_a_kind_without_rollouts_and_what_has_no_pods_is_not_restarted(stage: Stage) -> None:
    assert "can't be treated so" in str(
        await stage.refused("rollout_restart", kind="CronJob", name="recyclarr", namespace="media")
    )
    assert "scaled to 0" in str(
        await stage.refused("rollout_restart", kind="Deployment", name="plex-trakt-sync", namespace="media")
    )
    missing = await stage.refused("rollout_restart", kind="Deployment", name="nothing", namespace="media")
    assert isinstance(missing, NotFound)


async def test_an_object_that_was_replaced_since_is_left_alone(stage: Stage) -> None:
    act = await stage.plan("rollout_restart", **NETWORK)
    old = await stage.get(CLOUDFLARED)
    await stage.http.delete(CLOUDFLARED)
    await stage.create("/apis/apps/v1/namespaces/network/deployments", {**old, "status": {}})
    with pytest.raises(InvalidInput, match="replaced or changed in the meantime"):
        await act.perform()
    assert await act.probe() is Happened.UNKNOWN


async def test_a_later_action_leaves_an_earlier_one_unknown(stage: Stage) -> None:
    first = await stage.plan("rollout_restart", "first", **NETWORK)
    await first.perform()
    second = await stage.plan("rollout_restart", "second", **NETWORK)
    await second.perform()
    assert (await first.probe(), await second.probe()) == (Happened.UNKNOWN, Happened.YES)


async def test_an_undo_shows_the_difference_and_brings_the_old_template_back(stage: Stage) -> None:
    path = "/apis/apps/v1/namespaces/media/deployments/sonarr"
    act = await stage.plan("rollout_undo", kind="Deployment", name="sonarr", namespace="media")
    assert act.plan.risk is Risk.RISKY
    assert "-        image: ghcr.io/home-operations/sonarr:4.0.15.2941" in act.plan.preview
    assert "+        image: ghcr.io/home-operations/sonarr:4.0.15.2940" in act.plan.preview
    assert "Flux (HelmRelease media/sonarr)" in act.plan.preview
    await act.perform()
    assert await act.probe() is Happened.YES
    assert (await act.verify()).ok is True
    found = await stage.get(path)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":4.0.15.2940")
    assert "pod-template-hash" not in found["spec"]["template"]["metadata"]["labels"]


async def test_attack_an_undo_that_brings_rights_back_is_told_and_never_done_alone(stage: Stage) -> None:
    old = {"hostNetwork": True, "serviceAccountName": "admin"}
    await stage.merge(POSTGRES, {"spec": {"template": {"spec": old}}})
    stage.run(60)
    none: dict[str, Any] = dict.fromkeys(old)
    await stage.merge(POSTGRES, {"spec": {"template": {"spec": none}}})
    stage.run(60)
    where = {"kind": "StatefulSet", "name": "postgres", "namespace": "database"}
    act = await stage.plan("rollout_undo", **where, to_revision=2)
    assert [getattr(touch, "privileged", None) for touch in act.plan.touches] == [True]
    assert "WARNING: Its pods share the node's Network" in act.plan.preview
    assert "WARNING: Its pods get the rights of the ServiceAccount admin." in act.plan.preview
    plain = await stage.plan("rollout_undo", kind="Deployment", name="sonarr", namespace="media")
    assert [getattr(touch, "privileged", None) for touch in plain.plan.touches] == [False]


async def test_a_stateful_set_goes_back_to_a_numbered_revision(stage: Stage) -> None:
    await stage.merge(POSTGRES, {"spec": {"template": {"metadata": {"annotations": {"note": "new"}}}}})
    stage.run(60)
    where = {"kind": "StatefulSet", "name": "postgres", "namespace": "database"}
    missing = await stage.refused("rollout_undo", **where, to_revision=9)
    assert "no revision 9; there are: 1, 2" in str(missing)
    act = await stage.plan("rollout_undo", **where, to_revision=1)
    await act.perform()
    assert (await act.verify()).ok is True
    found = await stage.get(POSTGRES)
    assert "note" not in (found["spec"]["template"]["metadata"].get("annotations") or {})


async def test_a_stateful_set_stuck_at_a_broken_pod_is_rolled_back_once_that_is_deleted(stage: Stage) -> None:
    container = {"name": "postgres", "image": "ghcr.io/x/y:1", "envFrom": [{"configMapRef": {"name": "not-there"}}]}
    await stage.merge(POSTGRES, {"spec": {"template": {"spec": {"containers": [container]}}}})
    stage.run(60)
    undo = await stage.plan("rollout_undo", kind="StatefulSet", name="postgres", namespace="database")
    assert "holds it up all the same, until it is deleted" in undo.plan.preview
    await undo.perform()
    seen = await undo.verify()
    assert seen.ok is False and "pod postgres-1 is CreateContainerConfigError" in seen.text
    deleted = await stage.plan("delete_pod", "key-2", name="postgres-1", namespace="database")
    await deleted.perform()
    assert (await undo.verify()).ok is True


async def test_an_undo_of_what_was_changed_since_the_plan_is_not_done(stage: Stage) -> None:
    act = await stage.plan("rollout_undo", kind="Deployment", name="sonarr", namespace="media")
    await stage.merge(str(act.intent.state["path"]), {"spec": {"minReadySeconds": 5}})
    with pytest.raises(InvalidInput, match="was changed in the meantime"):
        await act.perform()


async def test_there_is_nothing_to_undo_in_a_first_revision(stage: Stage) -> None:
    refused = await stage.refused("rollout_undo", kind="StatefulSet", name="postgres", namespace="database")
    assert "no revision before the present one" in str(refused)


async def test_a_pause_and_a_resume(stage: Stage) -> None:
    where = {"name": "cloudflared", "namespace": "network"}
    assert "is not paused" in str(await stage.refused("rollout_resume", **where))
    pause = await stage.plan("rollout_pause", **where)
    await pause.perform()
    assert ((await pause.verify()).ok, await pause.probe()) == (True, Happened.YES)
    assert "is already paused" in str(await stage.refused("rollout_pause", **where))
    assert "is paused" in str(await stage.refused("rollout_restart", **NETWORK))
    resume = await stage.plan("rollout_resume", "key-2", **where)
    assert resume.plan.risk is Risk.RISKY
    await resume.perform()
    assert (await resume.verify()).ok is True


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"restartCount": 3, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}, "OOMKilled"),
        ({"restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}, "2 times (exit code 1)"),
        ({"restartCount": 1, "lastState": {"terminated": {"exitCode": 1}}}, ""),
        ({"restartCount": 9, "ready": True, "lastState": {"terminated": {"exitCode": 1}}}, ""),
        ({"restartCount": 9, "lastState": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, ""),
    ],
)
def test_a_container_that_is_between_two_crashes_is_in_trouble(container: dict[str, Any], said: str) -> None:
    found = trouble_of({"metadata": {"name": "web"}, "status": {"containerStatuses": [container]}})
    assert (said in found) if said else found == ""
