"""Captured objects put into another API server: new uids, created just now, or read long after."""

from __future__ import annotations

from datetime import timedelta

from mcp_servers.cluster.report import Scope
from mcp_servers.kubernetes.diagnose.engine import diagnose
from tests.mcp_servers.kubernetes.diagnose.build import (
    NOW,
    Obj,
    ago,
    causes,
    claim,
    deployment,
    ended,
    event,
    node,
    pod,
    run,
    service,
    snap,
    stack,
    status,
    storage_class,
    unscheduled,
    waiting,
)

YEAR = NOW + timedelta(days=365)


def replayed(*objects: Obj) -> list[Obj]:
    """The same objects as another API server stores them: created 20 seconds ago, with other uids."""
    return [
        {**one, "metadata": {**one["metadata"], "creationTimestamp": ago(20), "uid": f"new-{place}"}}
        for place, one in enumerate(objects)
    ]


def test_a_node_that_is_silent_for_an_hour_is_down_however_young_the_object_is() -> None:
    silent = node(ready="Unknown")
    assert causes(run(replayed(silent))) == ["Node worker-1: NodeNotReady"]


def test_the_finding_of_a_replayed_pod_is_rooted_at_its_workload_by_name() -> None:
    objects = replayed(*stack(waiting("CrashLoopBackOff", restarts=9, last=ended(1))))
    assert causes(run(objects)) == ["Deployment media/sonarr: CrashLoopBackOff"]
    found = snap(objects)
    assert [one["kind"] for one in found.children(objects[0])] == ["ReplicaSet"]


def test_an_owner_of_another_uid_does_not_own_where_the_right_one_is_there() -> None:
    top = deployment()
    child = stack(status(ready=True))[1]
    assert list(snap(top, child).children(top)) == [child]
    owned = stack(status(ready=True))
    assert list(snap(owned[:2]).children(owned[0])) == [owned[1]]


def test_events_of_a_replayed_object_are_found_by_its_name() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    told = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "b" : secret "b" not found')
    assert causes(run(replayed(*objects), told)) == ["Deployment media/sonarr: MissingSecret"]


def test_events_of_an_earlier_object_do_not_count_where_the_present_one_has_its_own() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    told = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "b" : secret "b" not found')
    told["involvedObject"]["uid"] = "of-the-pod-before"
    own = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "c" : configmap "c" not found')
    assert causes(run(objects, told, own)) == ["Deployment media/sonarr: MissingConfigMap"]


def test_an_unready_program_that_started_before_its_pod_gets_no_grace() -> None:
    objects = replayed(*stack(status()))
    assert causes(run(objects)) == ["Deployment media/sonarr: NotReady"]


def test_a_pod_whose_events_are_older_than_it_gets_no_grace() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    objects[2]["status"] = {"phase": "Pending", "containerStatuses": objects[2]["status"]["containerStatuses"]}
    told = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "x" : something new')
    assert causes(run(replayed(*objects), told)) == ["Deployment media/sonarr: FailedMount"]
    told["lastTimestamp"] = ago(10)
    told["involvedObject"]["uid"] = "new-2"
    assert causes(run(replayed(*objects), told)) == []


def test_a_claim_whose_events_are_older_than_it_gets_no_grace() -> None:
    pending = claim()
    told = event(pending, "ExternalProvisioning", "Waiting for a volume to be created by the external provisioner")
    found = run(replayed(pending), told, storage_class(mode="Immediate"))
    assert causes(found) == ["PersistentVolumeClaim media/sonarr: ClaimPending"]


def test_a_workload_whose_pods_are_older_than_it_gets_no_grace() -> None:
    top = deployment()
    top["kind"] = "StatefulSet"
    lone = pod(status(ready=True), owner=top, name="sonarr-0")
    lone["status"]["conditions"][-1] |= {"status": "False", "reason": "PodFailed"}
    assert causes(run(replayed(top, lone))) == ["StatefulSet media/sonarr: NotReady"]
    gone = deployment()
    gone["status"]["conditions"] = [{"type": "Available", "status": "False", "lastTransitionTime": ago(4000)}]
    assert causes(run(replayed(gone))) == ["Deployment media/sonarr: ReplicasUnavailable"]


def test_a_pod_that_is_really_new_keeps_its_grace() -> None:
    new = unscheduled()
    new["metadata"]["creationTimestamp"] = ago(20)
    new["status"]["conditions"] = []
    assert causes(run(new)) == []


def test_a_container_restarted_many_times_is_not_new() -> None:
    objects = stack(waiting("ContainerCreating", restarts=7), phase="Pending")
    del objects[2]["status"]["conditions"], objects[2]["status"]["startTime"]
    told = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "x" : something new', seconds=5)
    told["involvedObject"]["uid"] = "new-2"
    assert causes(run(replayed(*objects), told)) == ["Deployment media/sonarr: FailedMount"]


def test_a_dump_is_read_a_year_later() -> None:
    mounting = stack(waiting("ContainerCreating"), phase="Pending")
    told = event(mounting[2], "FailedMount", 'MountVolume.SetUp failed for volume "b" : secret "b" not found')
    crashing = stack(waiting("CrashLoopBackOff", name="radarr", restarts=9, last=ended(1)), name="radarr")
    snapshot = snap(mounting, told, crashing, service("radarr"))
    assert causes(diagnose(snapshot, Scope(), YEAR)) == [
        "Deployment media/radarr: CrashLoopBackOff",
        "Deployment media/sonarr: MissingSecret",
    ]


def test_a_sandbox_that_could_not_be_made_is_told_a_year_later() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    told = event(objects[2], "FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=x failed")
    assert causes(diagnose(snap(objects, told), Scope(), YEAR)) == ["Deployment media/sonarr: SandboxFailed"]


def test_a_container_caught_between_two_crashes_is_told_a_year_later() -> None:
    last = ended(137, "OOMKilled", 60)
    objects = stack(status(restarts=9, last=last, running={"startedAt": ago(20)}))
    objects[2]["status"]["conditions"][-1]["lastTransitionTime"] = ago(60)
    assert causes(diagnose(snap(objects), Scope(), YEAR)) == ["Deployment media/sonarr: OOMKilled"]


def test_a_failure_that_something_newer_followed_stays_history() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    old = event(
        objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "b" : secret "b" not found', seconds=3600
    )
    new = event(objects[2], "FailedCreatePodSandBox", "Failed to create pod sandbox: x", seconds=30)
    assert causes(run(objects, old, new)) == ["Deployment media/sonarr: SandboxFailed"]
