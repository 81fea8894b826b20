"""Pods whose containers can't be created, that were evicted, or that do not go away."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose import images
from mcp_servers.kubernetes.diagnose.fields import Obj, at, condition, name_of, rows, text
from mcp_servers.kubernetes.diagnose.impact import at_root, ready, wanted
from mcp_servers.kubernetes.diagnose.podstate import (
    GRACE,
    Container,
    age,
    age_text,
    containers,
    down_node,
    is_down,
    is_finished,
    is_terminating,
    lived,
    since,
)
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of
from mcp_servers.kubernetes.diagnose.termination import exit_evidence, explain, explain_start, log_source
from mcp_servers.kubernetes.rendering import duration

STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_LONG_START = 600.0
_FRESH = 900.0
_CONFIG = (
    (r"couldn'?t find key \S+ in (Secret|ConfigMap)", "MissingKey", "a key it refers to is not there"),
    (r"secrets? \"[^\"]+\" not found", "MissingSecret", "a Secret it refers to does not exist"),
    (r"configmaps? \"[^\"]+\" not found", "MissingConfigMap", "a ConfigMap it refers to does not exist"),
    (
        r"runAsNonRoot|will run as root|non-numeric user",
        "RunAsNonRoot",
        "it must not run as root, but its image does",
    ),
    (r"no command specified", "NoCommand", "neither the image nor the pod names a command"),
    (
        r"name .* is (already in use|reserved)",
        "ContainerNameInUse",
        "the runtime still holds a container of its name",
    ),
    (
        r"context deadline exceeded|DeadlineExceeded",
        "RuntimeTimeout",
        "the container runtime does not answer in time",
    ),
    (r"failed to (prepare|create) subPath", "SubPathFailed", "a subPath of a volume can't be prepared"),
)
_NEXT = {
    "MissingKey": "Add the key to the object the message names, or correct the reference in the workload.",
    "MissingSecret": "Create the Secret, or correct the reference in the workload.",
    "MissingConfigMap": "Create the ConfigMap, or correct the reference in the workload.",
    "RunAsNonRoot": "Set runAsUser to a number that is not 0, or use an image that does not run as root.",
    "NoCommand": "Set command in the container, or use an image with an entrypoint.",
    "ContainerNameInUse": "Delete the pod so that it is made anew; look at the node's container runtime.",
    "RuntimeTimeout": "Look at the container runtime and the disk of the node.",
    "SubPathFailed": "Check that the volume holds the path and may be written.",
}


def waiting_containers(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Containers that the kubelet can't create or start: config errors, runtime errors, failed hooks."""
    return [
        _waiting(snapshot, pod, container, now)
        for pod in snapshot.kind("Pod")
        if not is_finished(pod) and not is_terminating(pod)
        for container in containers(pod)
        if container.waiting and container.waiting not in STARTING | images.WAITING | {"CrashLoopBackOff"}
    ]


def _waiting(snapshot: Snapshot, pod: Obj, container: Container, now: datetime) -> Finding:
    message = container.waiting_message
    evidence = [Evidence(f"{container.label} waiting", f"{container.waiting}: {message}".rstrip(": "))]
    failed = [e for e in snapshot.events(pod, "Failed") if e.container in ("", container.name)]
    failed += snapshot.events(pod, "FailedPostStartHook", "FailedPreStopHook")
    evidence += [
        event.evidence(now) for event in failed if not message or event.message != f"Error: {message}"
    ][:1]
    told = message or next((event.message for event in failed), "")
    label = container.label
    for pattern, cause, phrase in _CONFIG:
        if re.search(pattern, told, re.IGNORECASE):
            return at_root(
                snapshot, pod, cause, f"{label} can't be created: {phrase}", evidence, _NEXT[cause]
            )
    if (start := explain_start(told)) is not None:
        return at_root(snapshot, pod, start.cause, f"{label} {start.phrase}", evidence, start.next_step)
    if container.waiting == "RunContainerError" and container.last_exit:
        last = explain(container)
        evidence += exit_evidence(container, now)
        logs = log_source(pod, container)
        return at_root(
            snapshot, pod, last.cause, f"{label} {last.phrase}", evidence, last.next_step, logs=logs
        )
    title = f"{label} can't start ({container.waiting})"
    step = "Correct what the kubelet's message names."
    return at_root(snapshot, pod, container.waiting, title, evidence, step)


def slow_starts(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods on a node whose sandbox (network) can't be made, or that do not get past ContainerCreating."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        if is_finished(pod) or is_terminating(pod) or not text(pod, "spec", "nodeName"):
            continue
        states = list(containers(pod))
        if any(c.running or c.waiting not in STARTING | {""} for c in states) or any(
            c.last_exit for c in states
        ):
            continue
        sandbox = snapshot.recent(pod, now, _FRESH, "FailedCreatePodSandBox", "NetworkNotReady")
        if sandbox and lived(snapshot, pod, now) > GRACE / 4:
            title = "the pod's sandbox can't be created, so none of its containers starts"
            step = "Look at the network plugin (CNI) and the container runtime on the node."
            lines = [sandbox[0].evidence(now)]
            suspects = _node_suspect(snapshot, pod)
            found.append(at_root(snapshot, pod, "SandboxFailed", title, lines, step, suspects=suspects))
        elif lived(snapshot, pod, now) > _LONG_START:
            found.append(_slow(snapshot, pod, now))
    return found


def _slow(snapshot: Snapshot, pod: Obj, now: datetime) -> Finding:
    node = text(pod, "spec", "nodeName")
    told = f"phase {text(pod, 'status', 'phase')}, on node {node}, pending for {age_text(lived(snapshot, pod, now))}"
    evidence = [Evidence(f"pod {name_of(pod)}", told)]
    evidence += [event.evidence(now) for event in snapshot.events(pod)[:2]]
    return at_root(
        snapshot,
        pod,
        "ContainerCreating",
        "the pod has a node, but its containers are not created",
        evidence,
        f"Look at the kubelet and the container runtime of node {node}.",
        symptom=True,
        suspects=_node_suspect(snapshot, pod),
    )


def _node_suspect(snapshot: Snapshot, pod: Obj) -> tuple[ObjectRef, ...]:
    node = down_node(snapshot, pod)
    return (ref_of(node),) if node is not None else ()


def stuck_terminating(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods that should be gone. Their deletionTimestamp already counts the grace period in."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        late = since(text(pod, "metadata", "deletionTimestamp"), now)
        if late is None or late < GRACE:
            continue
        finalizers = [str(name) for name in at(pod, "metadata", "finalizers") or ()]
        told = f"should be gone since {duration(late)}"
        if finalizers:
            told += f", finalizers {', '.join(finalizers)}"
            step = "Find the controller that should remove the finalizer, and why it does not."
        else:
            step = "Look at the node: the kubelet has not confirmed that the containers stopped."
        evidence = [Evidence(f"pod {name_of(pod)} terminating", told)]
        evidence += [e.evidence(now) for e in snapshot.events(pod, "FailedKillPod", "FailedPreStopHook")[:1]]
        title = "a pod is stuck in Terminating" + (" because of a finalizer" if finalizers else "")
        judged = (Severity.MEDIUM, "it holds its name, its volumes and its node's resources")
        suspects = _node_suspect(snapshot, pod)
        found.append(
            at_root(
                snapshot, pod, "StuckTerminating", title, evidence, step, judged=judged, suspects=suspects
            )
        )
    return found


def evictions(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods that their node refused or threw out. What was replaced long ago is history."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        reason = text(pod, "status", "reason")
        if text(pod, "status", "phase") != "Failed" or not reason or is_terminating(pod):
            continue
        if text(controller_of(pod), "kind") == "Job" or reason in ("Terminated", "NodeShutdown", "Shutdown"):
            continue
        root = snapshot.root(pod)
        workload = snapshot.find(root)
        whole = workload is not None and root.kind != "Pod" and ready(workload) >= wanted(workload)
        ago = _failed_ago(pod, now)
        if whole and ago > 3600:
            continue
        judged = (Severity.LOW, "the pod was replaced and the workload is complete") if whole else None
        message = text(pod, "status", "message")
        evidence = [Evidence(f"pod {name_of(pod)} {reason} {age_text(ago)} ago", message or "no message")]
        evidence += [e.evidence(now) for e in snapshot.events(pod, "Evicted") if e.message != message][:1]
        title = (
            "its pods are evicted by the node"
            if reason == "Evicted"
            else f"its pods fail on the node ({reason})"
        )
        found.append(
            at_root(
                snapshot,
                pod,
                reason,
                title,
                evidence,
                "Find what uses up the resource that the message names; set requests to match the real use.",
                judged=judged,
                suspects=_strained(snapshot, pod),
            )
        )
    return found


def _strained(snapshot: Snapshot, pod: Obj) -> tuple[ObjectRef, ...]:
    """The pod's node, when it is down or reports a pressure."""
    node = snapshot.get("Node", "", text(pod, "spec", "nodeName"))
    pressures = ("MemoryPressure", "DiskPressure", "PIDPressure")
    if node is None or not (
        is_down(node) or any(text(condition(node, k), "status") == "True" for k in pressures)
    ):
        return ()
    return (ref_of(node),)


def _failed_ago(pod: Obj, now: datetime) -> float:
    times = [text(row, "lastTransitionTime") for row in rows(pod, "status", "conditions")]
    times.append(text(pod, "status", "startTime"))
    ages = [ago for stamp in times if (ago := since(stamp, now)) is not None]
    return min(ages, default=age(pod, now))
