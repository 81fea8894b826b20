"""Claims that are not bound, and volumes that can't be attached or mounted."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, Severity
from mcp_servers.kubernetes.diagnose.events import Event
from mcp_servers.kubernetes.diagnose.fields import Obj, at, claims, mapping, name_of, namespace_of, text
from mcp_servers.kubernetes.diagnose.impact import at_root
from mcp_servers.kubernetes.diagnose.podstate import (
    GRACE,
    Container,
    age_text,
    containers,
    down_node,
    is_finished,
    is_terminating,
    lived,
)
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of
from mcp_servers.kubernetes.rendering import parse_time

_FRESH = 900.0
_MOUNTS = (
    (
        r"secrets? \"?[^\" ]+\"? not found",
        "MissingSecret",
        "a Secret it mounts does not exist",
        "Create the Secret the message names, or take the volume out of the workload.",
    ),
    (
        r"configmaps? \"?[^\" ]+\"? not found",
        "MissingConfigMap",
        "a ConfigMap it mounts does not exist",
        "Create the ConfigMap the message names, or take the volume out of the workload.",
    ),
    (
        r"references non-existent (config|secret) key",
        "MissingKey",
        "it mounts a key that its ConfigMap or Secret does not have",
        "Add the key, or correct the items of the volume.",
    ),
    (
        r"Multi-Attach error|already (exclusively )?attached to|already used by",
        "MultiAttach",
        "its volume is still attached to another node",
        "Stop the pod on the other node, or, if that node is gone for good, remove its VolumeAttachment.",
    ),
    (
        r"driver name \S+ not found in the list of registered CSI drivers",
        "CSIDriverMissing",
        "the CSI driver of its volume does not run on the node",
        "Bring the CSI driver's DaemonSet up on the node.",
    ),
    (
        r"persistentvolumeclaims? \"?[^\" ]+\"? not found",
        "ClaimMissing",
        "it uses a PersistentVolumeClaim that does not exist",
        "Create the claim, or correct its name in the workload.",
    ),
    (
        r"access denied by server|permission denied|Operation not permitted",
        "MountDenied",
        "the storage server refuses the mount",
        "Check the export's permissions for the node, and the volume's credentials.",
    ),
    (
        r"hostPath type check failed|does not exist|No such file or directory|not a directory",
        "MountPathMissing",
        "the path of its volume does not exist",
        "Create the path on the node or the server, or correct it in the volume.",
    ),
    (
        r"wrong fs type|(bad|can't read) superblock|fsck|Structure needs cleaning|Input/output error",
        "FilesystemDamaged",
        "the filesystem of its volume can't be mounted",
        "Check the filesystem and the disk; restore from a backup if it is damaged.",
    ),
    (
        r"mount\.nfs|mount\.cifs|No route to host|Connection (timed out|refused)|Host is down",
        "StorageUnreachable",
        "the storage server can't be reached from the node",
        "Check that the storage server is up and reachable from the node.",
    ),
    (
        r"PVC is not bound|volume .* is not bound",
        "UnboundClaim",
        "a PersistentVolumeClaim it mounts is not bound",
        "Find out why the claim is not bound.",
    ),
    (
        r"AttachVolume\.Attach failed",
        "AttachFailed",
        "its volume can't be attached to the node",
        "Correct what the message names; look at the storage's controller (the CSI attacher) and the VolumeAttachment.",
    ),
    (
        r"mount failed: exit status \d+",
        "MountFailed",
        "the mount command fails on the node",
        "Read the command's output in the message; check the volume's server, path and options, and that the node has "
        "the filesystem's mount helper.",
    ),
    (
        r"timed out waiting for the condition|unmounted volumes=",
        "MountTimeout",
        "its volumes do not get attached or mounted in time",
        "Look at the storage driver (CSI) on the node, and at the VolumeAttachments of its volumes.",
    ),
)
_VAGUE = {"AttachFailed": 1, "MountFailed": 1, "MountTimeout": 3}
_DEFINITE = frozenset({"MissingSecret", "MissingConfigMap", "MissingKey", "MultiAttach", "ClaimMissing"})
_UNMOUNTED = re.compile(r"unmounted volumes=\[([^\]]+)\]")


def mounts(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods that have a node, but whose volumes do not get ready."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        if is_finished(pod) or is_terminating(pod) or not all(map(_starting, containers(pod))):
            continue
        ended = max((text(c.last_exit, "finishedAt") for c in containers(pod)), default="")
        events = snapshot.recent(pod, now, _FRESH, "FailedMount", "FailedAttachVolume", "FailedMapVolume")
        if (when := parse_time(ended)) is not None:
            events = [event for event in events if event.last > when]
        if not events:
            continue
        told = min(events, key=_vagueness)
        problem = _mount_problem(told)
        if lived(snapshot, pod, now) < GRACE and (problem is None or problem[1] not in _DEFINITE):
            continue
        found.append(_mount_finding(snapshot, pod, told, now))
    return found


def _starting(container: Container) -> bool:
    """Whether it waits to be made, for the first time or again after a restart of its node."""
    fresh = not container.running and not at(container.status, "state", "terminated")
    return fresh and container.waiting in ("", "ContainerCreating", "PodInitializing")


def _vagueness(event: Event) -> int:
    """0 for a message that says why, 2 for one that is not understood, 3 for one that only says that."""
    if (problem := _mount_problem(event)) is not None:
        return _VAGUE.get(problem[1], 0)
    return 3 if "context deadline exceeded" in event.message else 2


def _mount_problem(event: Event) -> tuple[str, str, str, str] | None:
    return next((row for row in _MOUNTS if re.search(row[0], event.message, re.IGNORECASE)), None)


def _mount_finding(snapshot: Snapshot, pod: Obj, told: Event, now: datetime) -> Finding:
    problem = _mount_problem(told)
    cause, phrase, step = (
        problem[1:]
        if problem
        else (
            told.reason,
            "a volume can't be attached or mounted",
            "Correct what the kubelet's message names.",
        )
    )
    if cause == "MountTimeout" and (named := _UNMOUNTED.search(told.message)):
        phrase += f" ({named.group(1)})"
    suspects = [
        ref_of(claim)
        for name in claims(pod)
        if (claim := snapshot.get("PersistentVolumeClaim", namespace_of(pod), name)) is not None
    ]
    if cause == "MultiAttach":
        suspects += [
            ref_of(node) for other in _sharing(snapshot, pod) if (node := down_node(snapshot, other))
        ]
    if (node := down_node(snapshot, pod)) is not None:
        suspects.append(ref_of(node))
    return at_root(
        snapshot,
        pod,
        cause,
        f"its pods can't start: {phrase}",
        [told.evidence(now)],
        step,
        suspects=tuple(suspects),
    )


def _sharing(snapshot: Snapshot, pod: Obj) -> list[Obj]:
    """Other pods that mount a claim of this one."""
    mine = set(claims(pod))
    pods = snapshot.kind("Pod", namespace=namespace_of(pod))
    return [other for other in pods if other is not pod and mine & set(claims(other))]


def unbound_claims(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """PersistentVolumeClaims that are Lost, or Pending for another reason than having no consumer yet."""
    found: list[Finding] = []
    for claim in snapshot.kind("PersistentVolumeClaim"):
        phase = text(claim, "status", "phase")
        if phase == "Lost":
            found.append(_lost(snapshot, claim, now))
        elif phase == "Pending" and not is_terminating(claim):
            found += _pending(snapshot, claim, now)
    return found


def _users(snapshot: Snapshot, claim: Obj) -> list[Obj]:
    return [pod for pod in snapshot.users(claim) if not is_finished(pod)]


def _claim_finding(
    snapshot: Snapshot, claim: Obj, cause: str, title: str, evidence: list[Evidence], step: str
) -> Finding:
    waiting = tuple(dict.fromkeys(snapshot.root(pod) for pod in _users(snapshot, claim)))
    if waiting:
        judged = Severity.HIGH, f"{', '.join(map(str, waiting[:3]))} can't run without it"
    elif not snapshot.listed("pods"):
        judged = Severity.MEDIUM, "whether a pod waits for it is not known, because pods were not listed"
    else:
        judged = Severity.LOW, "no pod uses it at the moment"
    return Finding(ref_of(claim), *judged, cause, title, tuple(evidence), step, affects=waiting)


def _lost(snapshot: Snapshot, claim: Obj, now: datetime) -> Finding:
    volume = text(claim, "spec", "volumeName")
    evidence = [Evidence(f"claim {name_of(claim)}", f"phase Lost, volume {volume or 'none'}")]
    evidence += [event.evidence(now) for event in snapshot.events(claim, "ClaimLost", "ClaimMisbound")[:1]]
    step = "Restore the PersistentVolume or the data from a backup; the claim can't be bound again as it is."
    return _claim_finding(snapshot, claim, "ClaimLost", "the claim has lost its volume", evidence, step)


def _pending(snapshot: Snapshot, claim: Obj, now: datetime) -> list[Finding]:
    name = at(claim, "spec", "storageClassName")
    storage = snapshot.get("StorageClass", "", str(name)) if name else None
    events = snapshot.events(claim)
    failed = [e for e in events if e.reason in ("ProvisioningFailed", "FailedBinding", "VolumeMismatch")]
    told = f"phase Pending for {age_text(lived(snapshot, claim, now))}, storage class {name or 'none'}"
    if mode := mapping(storage).get("volumeBindingMode"):
        told += f" ({mode})"
    evidence = [Evidence(f"claim {name_of(claim)}", told)]
    known = snapshot.kind("StorageClass") if snapshot.listed("storageclasses.storage.k8s.io") else []
    if failed:
        evidence.insert(0, failed[0].evidence(now))
        return [_provisioning(snapshot, claim, failed[0], evidence)]
    if name and known and storage is None and not text(claim, "spec", "volumeName"):
        names = ", ".join(sorted(map(name_of, known))[:6])
        evidence.append(Evidence("storage classes in the cluster", names))
        return [_no_class(snapshot, claim, evidence)]
    if (
        any(e.reason in ("WaitForFirstConsumer", "WaitForPodScheduled") for e in events[:1])
        or lived(snapshot, claim, now) < GRACE
    ):
        return []
    if name and storage is None and not known and not any(e.reason == "ExternalProvisioning" for e in events):
        return []
    if mapping(storage).get("volumeBindingMode") == "WaitForFirstConsumer" and not _placed(snapshot, claim):
        return []
    waiting = [e for e in events if e.reason in ("ExternalProvisioning", "Provisioning")]
    evidence += [event.evidence(now) for event in waiting[:1]]
    title = (
        "the claim is not bound: the provisioner has not made a volume"
        if waiting
        else "the claim is not bound"
    )
    step = "Look at the storage provisioner of the class: whether it runs, and what its log says."
    return [_claim_finding(snapshot, claim, "ClaimPending", title, evidence, step)]


def _placed(snapshot: Snapshot, claim: Obj) -> bool:
    """Whether the scheduler has chosen a node for the claim."""
    return bool(mapping(claim, "metadata", "annotations").get("volume.kubernetes.io/selected-node"))


def _no_class(snapshot: Snapshot, claim: Obj, evidence: list[Evidence]) -> Finding:
    name = text(claim, "spec", "storageClassName")
    return _claim_finding(
        snapshot,
        claim,
        "StorageClassMissing",
        f"the claim names the storage class {name}, which does not exist",
        evidence,
        "Recreate the claim with a storage class that exists (the field can't be changed in place).",
    )


def _provisioning(snapshot: Snapshot, claim: Obj, event: Event, evidence: list[Evidence]) -> Finding:
    if re.search(r"storageclass\S* \"[^\"]+\" not found", event.message):
        return _no_class(snapshot, claim, evidence)
    if "no storage class is set" in event.message:
        title = "the claim has no storage class, and no volume fits it"
        step = (
            "Set storageClassName, mark a storage class as default, or create a PersistentVolume that fits."
        )
        return _claim_finding(snapshot, claim, "NoStorageClass", title, evidence, step)
    title = "no volume can be provisioned for the claim"
    step = "Correct what the provisioner's message names."
    return _claim_finding(snapshot, claim, event.reason, title, evidence, step)
