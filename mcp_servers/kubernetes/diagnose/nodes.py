"""Nodes that are down, under pressure or cordoned."""

from __future__ import annotations

from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, Severity
from mcp_servers.kubernetes.diagnose.fields import Obj, at, condition, labels, name_of, rows, text
from mcp_servers.kubernetes.diagnose.podstate import GRACE, age, is_down, is_finished, since
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of
from mcp_servers.kubernetes.rendering import duration

_PRESSURES = {
    "MemoryPressure": (
        "is short of memory",
        "Find the pods that use the most memory and set requests and limits.",
    ),
    "DiskPressure": ("is short of disk space", "Free disk space: images, logs, emptyDir volumes."),
    "PIDPressure": ("is short of process ids", "Find the pod that starts too many processes."),
    "NetworkUnavailable": ("has no network set up", "Look at the network plugin (CNI) on the node."),
}


def nodes_down(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Nodes that are not ready, with what runs on them."""
    nodes = snapshot.kind("Node")
    down = [node for node in nodes if is_down(node)]
    return [_down(snapshot, node, down, nodes, now) for node in down if not _joining(node, now)]


def _joining(node: Obj, now: datetime) -> bool:
    lasted = since(text(condition(node, "Ready"), "lastTransitionTime"), now)
    return age(node, now) < GRACE and (lasted is None or lasted < GRACE)


def _control_plane(node: Obj) -> bool:
    return bool(
        {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} & set(labels(node))
    )


def _weigh(node: Obj, down: list[Obj], nodes: list[Obj]) -> tuple[Severity, str]:
    if len(down) == len(nodes):
        return Severity.CRITICAL, "no node of the cluster is ready" if len(
            nodes
        ) > 1 else "it is the only node"
    planes = [one for one in nodes if _control_plane(one)]
    if _control_plane(node) and all(one in down for one in planes):
        return Severity.CRITICAL, "no control-plane node is ready"
    if 2 * len(down) >= len(nodes) and len(nodes) > 2:
        return Severity.CRITICAL, f"{len(down)} of {len(nodes)} nodes are not ready"
    return (
        Severity.HIGH,
        f"{len(down)} of {len(nodes)} nodes are not ready, and its pods are lost or must move",
    )


def _down(snapshot: Snapshot, node: Obj, down: list[Obj], nodes: list[Obj], now: datetime) -> Finding:
    ready = condition(node, "Ready")
    lasted = since(text(ready, "lastTransitionTime"), now)
    told = f"{text(ready, 'status')}, {text(ready, 'reason')}: {text(ready, 'message')}"
    if lasted is not None:
        told += f" (for {duration(lasted)})"
    evidence = [Evidence(f"node {name_of(node)} condition Ready", told)]
    events = snapshot.events(
        node, "NodeNotReady", "KubeletSetupFailed", "ContainerdStart", "Rebooted", "SystemOOM"
    )
    evidence += [event.evidence(now) for event in events[:2]]
    silent = text(ready, "status") == "Unknown"
    return Finding(
        ref_of(node),
        *_weigh(node, down, nodes),
        "NodeNotReady",
        "the node's kubelet has stopped reporting" if silent else "the node is not ready",
        tuple(evidence),
        "Look at the machine (power, network, disk, kubelet); its pods recover when it comes back."
        if silent
        else "Read the kubelet's log on the node; look at the container runtime and the CNI plugin.",
        affects=tuple(
            dict.fromkeys(
                snapshot.root(pod)
                for pod in snapshot.pods_on(name_of(node))
                if not is_finished(pod)
                and text(controller_of(pod), "kind") not in ("DaemonSet", "Node")
            )
        ),
    )


def pressures(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Nodes that run, and report that something runs out."""
    found: list[Finding] = []
    for node in snapshot.kind("Node"):
        for kind, (phrase, step) in _PRESSURES.items():
            row = condition(node, kind)
            if text(row, "status") != "True" or is_down(node):
                continue
            told = f"True, {text(row, 'reason')}: {text(row, 'message')}"
            evidence = [Evidence(f"node {name_of(node)} condition {kind}", told)]
            events = snapshot.events(
                node, "EvictionThresholdMet", "FreeDiskSpaceFailed", "ImageGCFailed", "SystemOOM"
            )
            evidence += [event.evidence(now) for event in events[:1]]
            why = "the kubelet evicts pods and takes no new ones"
            if kind == "NetworkUnavailable":
                why = "pods on the node can't be reached"
            found.append(
                Finding(ref_of(node), Severity.HIGH, why, kind, f"the node {phrase}", tuple(evidence), step)
            )
    return found


def cordoned(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Nodes that take no new pods because somebody said so."""
    return [
        Finding(
            ref_of(node),
            Severity.INFO,
            "somebody did this on purpose; it only matters if it was forgotten",
            "NodeCordoned",
            "the node is cordoned and takes no new pods",
            (Evidence(f"node {name_of(node)} spec", "unschedulable: true" + _taint_time(node, now)),),
            "Uncordon it when the maintenance is over.",
        )
        for node in snapshot.kind("Node")
        if at(node, "spec", "unschedulable") and not is_down(node)
    ]


def _taint_time(node: Obj, now: datetime) -> str:
    for taint in rows(node, "spec", "taints"):
        if text(taint, "key") == "node.kubernetes.io/unschedulable":
            ago = since(text(taint, "timeAdded"), now)
            return f", for {duration(ago)}" if ago is not None else ""
    return ""
