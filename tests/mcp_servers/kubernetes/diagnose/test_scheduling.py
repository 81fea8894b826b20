# ruff: noqa: E501 -- messages are quoted as components write them
from __future__ import annotations

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    ago,
    causes,
    claim,
    deployment,
    event,
    node,
    only,
    replicaset,
    run,
    storage_class,
    told,
    unscheduled,
)

TOP = deployment()
SET = replicaset(TOP)
HELPLESS = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient "
         "memory.", "InsufficientResources"),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate,", "InsufficientResources"),
        ("0/3 nodes are available: 3 Too many pods.", "InsufficientResources"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: gpu}.", "UntoleratedTaint"),
        ("0/3 nodes are available: 3 node(s) had taint {dedicated: gpu}, that the pod didn't tolerate.", "UntoleratedTaint"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint(s).", "UntoleratedTaint"),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "NodeSelectorMismatch"),
        ("0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) "
         "didn't match Pod's node affinity/selector.", "NodeSelectorMismatch"),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", "VolumeNodeAffinity"),
        ("0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity.", "VolumeNodeAffinity"),
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "UnboundClaim"),
        ('0/3 nodes are available: persistentvolumeclaim "sonarr" not found.', "ClaimMissing"),
        ("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.", "PodAffinity"),
        ("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.", "PodAffinity"),
        ("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.", "HostPortTaken"),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", "NodesCordoned"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.", "NodesUnavailable"),
        ("0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) had untolerated taint "
         "{node.kubernetes.io/not-ready: }.", "NodesUnavailable"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.", "NodePressure"),
        ("0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) were unschedulable.",
         "NodesCordoned"),
        ("no nodes available to schedule pods", "NoNodes"),
        ("0/2 nodes are available: 2 node(s) exceed max volume count.", "VolumeLimit"),
        ("0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.", "NoVolumeFits"),
        ("0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
         "VolumeMissing"),
        ('0/2 nodes are available: persistentvolumeclaim "a" bound to non-existent persistentvolume "b".', "VolumeMissing"),
        ('0/2 nodes are available: persistentvolumeclaim "a" bound to non-existent persistent volume "b".', "VolumeMissing"),
        ("0/2 nodes are available: 2 node(s) did not have enough free storage.", "StorageExhausted"),
        ("0/2 nodes are available: 2 node(s) had no available volume zone.", "VolumeNodeAffinity"),
        ("0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.", "PodAffinity"),
        ("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints (missing required label).",
         "PodAffinity"),
        ("0/2 nodes are available: 2 node(s) didn't match the requested node name.", "NodeSelectorMismatch"),
        ("0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod "
         "access mode.", "ClaimInUse"),
        ("0/2 nodes are available: 2 something that does not exist yet.", "Unschedulable"),
    ],
)  # fmt: skip
def test_the_scheduler_message_is_understood(message: str, cause: str) -> None:
    report = run(TOP, SET, unscheduled(SET, message + HELPLESS))
    assert causes(report) == [f"Deployment media/sonarr: {cause}"]
    assert message in told(report)


def test_what_was_requested_is_shown_where_resources_lack() -> None:
    objects = unscheduled(SET, "0/1 nodes are available: 1 Insufficient memory.")
    failed = event(objects, "FailedScheduling", "0/1 nodes are available: 1 Insufficient memory.", count=7)
    report = run(TOP, SET, objects, failed)
    assert "container sonarr requests: memory 30Gi" in told(report)
    assert "event FailedScheduling 3m ago (x7): 0/1 nodes" in told(report)


def test_a_taint_left_on_the_one_node_that_fits_is_the_nodes_problem() -> None:
    message = "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) had untolerated taint {maintenance: true}."
    tainted = node("worker-2", taints=({"key": "maintenance", "value": "true", "effect": "NoSchedule"},))
    finding = only(run(TOP, SET, unscheduled(SET, message), tainted, node()))
    assert (str(finding.object), finding.cause) == ("Node worker-2", "UntoleratedTaint")
    assert list(map(str, finding.affects)) == ["Deployment media/sonarr"]
    assert "maintenance=true:NoSchedule" in finding.title


def test_pods_that_wait_for_a_claim_fold_under_it() -> None:
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    broken = claim(storageClassName="fast-ssd")
    failed = event(broken, "ProvisioningFailed", 'storageclass.storage.k8s.io "fast-ssd" not found', count=20)
    finding = only(run(TOP, SET, unscheduled(SET, message, claim="sonarr"), broken, failed, storage_class()))
    assert (str(finding.object), finding.cause) == (
        "PersistentVolumeClaim media/sonarr",
        "StorageClassMissing",
    )
    assert list(map(str, finding.affects)) == ["Deployment media/sonarr"]
    assert finding.severity == "high"


def test_a_replacement_that_only_fits_a_node_that_is_down_folds_under_the_node() -> None:
    message = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }."
    finding = only(run(TOP, SET, unscheduled(SET, message), node("worker-2", ready="Unknown"), node()))
    assert (str(finding.object), finding.cause) == ("Node worker-2", "NodeNotReady")
    assert "Deployment media/sonarr" in map(str, finding.affects)


def test_a_scheduling_gate_is_named() -> None:
    gated = unscheduled(SET, "Scheduling is blocked due to non-empty scheduling gates")
    gated["status"]["conditions"][0]["reason"] = "SchedulingGated"
    gated["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    report = run(TOP, SET, gated)
    assert only(report).cause == "SchedulingGated"
    assert "example.com/quota" in told(report)


def test_a_pod_that_no_scheduler_looks_at_is_told_after_its_grace() -> None:
    lone = unscheduled(SET)
    lone["status"]["conditions"] = []
    lone["spec"]["schedulerName"] = "my-scheduler"
    assert only(run(TOP, SET, lone)).cause == "NotScheduled"
    young = {**TOP, "metadata": {**TOP["metadata"], "creationTimestamp": ago(20)}}
    lone["metadata"]["creationTimestamp"] = ago(20)
    assert causes(run(young, SET, lone)) == []
