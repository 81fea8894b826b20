# ruff: noqa: E501 -- messages are quoted as components write them
from __future__ import annotations

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    causes,
    claim,
    ended,
    event,
    node,
    only,
    pod,
    run,
    stack,
    status,
    storage_class,
    told,
    waiting,
)


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "b" : configmap "b" not found',
            "MissingConfigMap",
        ),
        ("FailedMount", 'MountVolume.SetUp failed for volume "b" : secret "tls" not found', "MissingSecret"),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "b" : references non-existent secret key: x',
            "MissingKey",
        ),
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and can\'t be attached '
            "to another",
            "MultiAttach",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "nas" : mount failed: exit status 32\nMounting command: mount\nOutput: '
            "mount.nfs: access denied by server while mounting nas:/x",
            "MountDenied",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "nas" : mount failed: exit status 32\nOutput: mount.nfs: Connection timed out',
            "StorageUnreachable",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "d" : hostPath type check failed: /dev/ttyUSB0 is not a character device',
            "MountPathMissing",
        ),
        (
            "FailedMount",
            'MountVolume.MountDevice failed for volume "pvc-1" : kubernetes.io/csi: attacher.MountDevice failed to create '
            "newCsiDriverClient: driver name nfs.csi.k8s.io not found in the list of registered CSI drivers",
            "CSIDriverMissing",
        ),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = Internal desc = could not attach volume',
            "AttachFailed",
        ),
        (
            "FailedAttachVolume",
            'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = DeadlineExceeded desc = context deadline exceeded',
            "AttachFailed",
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "nas" : mount failed: exit status 32\nMounting command: mount',
            "MountFailed",
        ),
        (
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[a], unattached volumes=[a], failed to process "
            'volumes=[a]: error processing PVC media/x: failed to fetch PVC from API server: persistentvolumeclaims "x" not found',
            "ClaimMissing",
        ),
        ("FailedMount", 'MountVolume.SetUp failed for volume "x" : something new', "FailedMount"),
    ],
)
def test_volumes_that_can_not_be_mounted_say_why(reason: str, message: str, cause: str) -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    weak = event(
        objects[2],
        "FailedMount",
        "Unable to attach or mount volumes: unmounted volumes=[b], unattached volumes=[], failed to process volumes=[]: "
        "timed out waiting for the condition",
        seconds=5,
    )
    report = run(objects, event(objects[2], reason, message, count=9), weak)
    assert causes(report) == [f"Deployment media/sonarr: {cause}"]
    assert f"event {reason} 3m ago (x9): " in told(report)


def test_a_mount_that_failed_before_the_container_ran_is_over() -> None:
    objects = stack(status(ready=True), ready=1)
    late = event(objects[2], "FailedMount", 'MountVolume.SetUp failed for volume "b" : configmap "b" not found')
    assert causes(run(objects, late)) == []


def test_a_volume_held_by_a_pod_on_a_node_that_is_down_belongs_to_the_node() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    volume = {"volumes": [{"name": "config", "persistentVolumeClaim": {"claimName": "sonarr"}}]}
    objects[2]["spec"] |= volume
    old = pod(status(), owner=objects[1], name="sonarr-old", node="worker-2", spec=volume)
    held = event(
        objects[2],
        "FailedAttachVolume",
        'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) sonarr-old',
    )
    report = run(objects, old, held, claim(phase="Bound"), node("worker-2", ready="Unknown"), node())
    assert str(only(report).object) == "Node worker-2"


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("ProvisioningFailed", 'storageclass.storage.k8s.io "local-path" not found', "StorageClassMissing"),
        (
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
            "NoStorageClass",
        ),
        (
            "ProvisioningFailed",
            'failed to provision volume with StorageClass "local-path": rpc error: code = ResourceExhausted',
            "ProvisioningFailed",
        ),
        (
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'x' or manually by the system "
            "administrator.",
            "ClaimPending",
        ),
    ],
)
def test_a_claim_that_is_not_bound_says_why(reason: str, message: str, cause: str) -> None:
    pending = claim()
    report = run(pending, event(pending, reason, message, count=30), storage_class(mode="Immediate"))
    assert causes(report) == [f"PersistentVolumeClaim media/sonarr: {cause}"]
    assert only(report).severity == "low"


def test_a_claim_with_an_unknown_class_needs_no_event() -> None:
    finding = only(run(claim(storageClassName="fast-ssd"), storage_class()))
    assert finding.cause == "StorageClassMissing"
    assert causes(run(claim(storageClassName="fast-ssd"), missing={"storageclasses": "forbidden"})) == []


def test_a_claim_that_waits_for_its_first_consumer_is_in_order() -> None:
    pending = claim()
    wait = event(pending, "WaitForFirstConsumer", "waiting for first consumer to be created before binding", count=90)
    assert causes(run(pending, wait, storage_class())) == []
    assert causes(run(pending, storage_class())) == []


def test_a_lost_claim_is_told() -> None:
    lost = claim(phase="Lost", volumeName="pvc-1")
    note = event(lost, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    report = run(lost, note)
    assert only(report).cause == "ClaimLost"
    assert "Data on the volume is lost!" in told(report)


def test_a_mount_that_only_times_out_names_its_volumes() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    words = (
        "Unable to attach or mount volumes: unmounted volumes=[config data], unattached volumes=[kube-api-access-x]: "
        "timed out waiting for the condition"
    )
    finding = only(run(objects, event(objects[2], "FailedMount", words)))
    assert finding.cause == "MountTimeout"
    assert "config data" in finding.title


def test_a_mount_that_fails_after_the_node_was_restarted_is_told() -> None:
    objects = stack(waiting("ContainerCreating", restarts=1, last=ended(255, "Unknown", 900)))
    words = 'MountVolume.SetUp failed for volume "b" : secret "b" not found'
    assert causes(run(objects, event(objects[2], "FailedMount", words))) == ["Deployment media/sonarr: MissingSecret"]
    past = stack(waiting("ContainerCreating", restarts=1, last=ended(1, seconds=10)))
    assert "MissingSecret" not in str(causes(run(past, event(past[2], "FailedMount", words))))
