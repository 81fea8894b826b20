"""Pods that no node takes, and what the scheduler says about it."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef
from mcp_servers.kubernetes.diagnose.fields import Obj, claims, condition, mapping, name_of, namespace_of, rows, text
from mcp_servers.kubernetes.diagnose.impact import at_root
from mcp_servers.kubernetes.diagnose.podstate import (
    GRACE,
    age_text,
    is_down,
    is_finished,
    is_terminating,
    lived,
)
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of

_UNREACHABLE = re.compile(
    r"node\.kubernetes\.io/(unreachable|not-ready)|node\(s\) (had|were) (unreachable|not ready)"
)
_TAINT = re.compile(r"untolerated taint\(?s?\)? ?\{([^:}\s]+): ?([^}]*)\}|had taint \{([^:}\s]+): ?([^}]*)\}")
_BUILT_IN = ("node.kubernetes.io/", "node-role.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_REASONS = (
    (
        r"unbound immediate PersistentVolumeClaims|unbound PersistentVolumeClaims",
        "UnboundClaim",
        "it waits for a PersistentVolumeClaim that is not bound",
        "Find out why the claim is not bound.",
    ),
    (
        r"persistentvolumeclaim \"[^\"]+\" (not found|is being deleted)|persistentvolumeclaim\(s\) not found",
        "ClaimMissing",
        "it uses a PersistentVolumeClaim that does not exist",
        "Create the claim, or correct its name in the workload.",
    ),
    (
        r"non-existent (persistent ?volume|pv)",
        "VolumeMissing",
        "its PersistentVolumeClaim is bound to a volume that does not exist",
        "Restore the PersistentVolume, or recreate the claim and its data from a backup.",
    ),
    (
        r"Insufficient ([a-z0-9./-]+)|Too many pods",
        "InsufficientResources",
        "no node has enough of what it requests free",
        "Lower the requests to what it really uses, free or add a node.",
    ),
    (
        r"volume node affinity conflict|didn't match PersistentVolume's node affinity|no available volume zone",
        "VolumeNodeAffinity",
        "the node that holds its volume can't take it",
        "Make the node that holds the volume available, or move the data to another volume.",
    ),
    (
        r"node\.kubernetes\.io/(unreachable|not-ready|network-unavailable)|node\(s\) were not ready"
        r"|cloudprovider\.kubernetes\.io/(uninitialized|shutdown)",
        "NodesUnavailable",
        "nodes that could take it are not ready",
        "Bring the nodes back that are not ready.",
    ),
    (
        r"node\.kubernetes\.io/(disk|memory|pid)-pressure|node\(s\) had (disk|memory|pid) pressure",
        "NodePressure",
        "nodes that could take it are short of memory, disk space or process ids",
        "Relieve the nodes that report a pressure.",
    ),
    (
        r"untolerated taint|had taint",
        "UntoleratedTaint",
        "nodes carry a taint that it does not tolerate",
        "Remove the taint if it was left behind, or add a toleration to the workload.",
    ),
    (
        r"didn't match Pod's node affinity|didn't match node selector|didn't match the requested node name",
        "NodeSelectorMismatch",
        "no node matches its node selector or affinity",
        "Correct the nodeSelector or affinity, or label a node to match.",
    ),
    (
        r"didn't match pod (anti-)?affinity rules|anti-affinity|topology spread constraints",
        "PodAffinity",
        "its rules about the other pods on a node can't be met",
        "Relax the pod (anti-)affinity or the topology spread constraints, or add a node.",
    ),
    (
        r"free ports for the requested pod ports",
        "HostPortTaken",
        "its host port is taken on every node that fits",
        "Stop what uses the host port, or use another one.",
    ),
    (
        r"were unschedulable|node\(s\) unschedulable|node\.kubernetes\.io/unschedulable",
        "NodesCordoned",
        "the nodes that fit are cordoned",
        "Uncordon a node.",
    ),
    (
        r"didn't find available persistent volumes to bind",
        "NoVolumeFits",
        "no PersistentVolume that its claim could bind is reachable from a node that fits",
        "Create a PersistentVolume of the class, size and access mode of the claim, or let a provisioner make it.",
    ),
    (
        r"did not have enough free storage",
        "StorageExhausted",
        "no node has the free storage that its claim asks for",
        "Free storage on a node, lower the claim's size, or add a node.",
    ),
    (
        r"ReadWriteOncePod access mode",
        "ClaimInUse",
        "another pod uses its ReadWriteOncePod claim",
        "Stop the pod that uses the claim, or use another access mode.",
    ),
    (
        r"max volume count|exceed max volume",
        "VolumeLimit",
        "no node can attach another volume",
        "Add a node.",
    ),
    (
        r"no nodes available to schedule pods",
        "NoNodes",
        "the cluster has no node",
        "Add a node, or bring one back.",
    ),
    (
        r"waiting for ephemeral volume controller|ResourceClaim|resourceclaim|cannot allocate all claims",
        "ClaimNotReady",
        "a claim it needs is not ready",
        "Look at the claim that the message names.",
    ),
)


def pending_pods(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods without a node: unschedulable, gated, or not looked at by any scheduler."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        if text(pod, "spec", "nodeName") or is_finished(pod) or is_terminating(pod):
            continue
        scheduled = condition(pod, "PodScheduled")
        if text(scheduled, "reason") == "SchedulingGated":
            if lived(snapshot, pod, now) > GRACE:
                found.append(_gated(snapshot, pod))
        elif text(scheduled, "status") == "False" or snapshot.events(pod, "FailedScheduling"):
            found += _unschedulable(snapshot, pod, now)
        elif lived(snapshot, pod, now) > GRACE and text(pod, "status", "phase") in ("Pending", ""):
            found.append(_ignored(snapshot, pod, now))
    return found


def _gated(snapshot: Snapshot, pod: Obj) -> Finding:
    gates = ", ".join(text(gate, "name") for gate in rows(pod, "spec", "schedulingGates"))
    return at_root(
        snapshot,
        pod,
        "SchedulingGated",
        "its pods wait at a scheduling gate",
        [
            Evidence(
                f"pod {name_of(pod)} scheduling gates",
                gates or text(condition(pod, "PodScheduled"), "message"),
            )
        ],
        "Find the controller that should remove the gate.",
    )


def _ignored(snapshot: Snapshot, pod: Obj, now: datetime) -> Finding:
    scheduler = text(pod, "spec", "schedulerName") or "default-scheduler"
    told = f"Pending, no node and no word of a scheduler after {age_text(lived(snapshot, pod, now))}"
    return at_root(
        snapshot,
        pod,
        "NotScheduled",
        f"no scheduler looked at its pods (schedulerName {scheduler})",
        [Evidence(f"pod {name_of(pod)}", told)],
        f"Check that the scheduler {scheduler} runs.",
    )


def _why(message: str) -> tuple[str, str, str]:
    """Cause, phrase and next step. The first reason in the table wins; a volume or selector that holds the
    pod to one node makes the taint or the cordon of that node the reason."""
    found = [row for row in _REASONS if re.search(row[0], _without_preemption(message), re.IGNORECASE)]
    causes = [row[1] for row in found]
    for decisive in ("NodesUnavailable", "NodePressure", "NodesCordoned", "UntoleratedTaint"):
        tied = {"VolumeNodeAffinity", "NodeSelectorMismatch"} & set(causes)
        only = not {"UnboundClaim", "ClaimMissing", "InsufficientResources"} & set(causes)
        if tied and only and decisive in causes and not _control_plane_only(message, decisive):
            return next(row for row in found if row[1] == decisive)[1:]
    if "UntoleratedTaint" in causes and len(found) > 1 and _control_plane_only(message, "UntoleratedTaint"):
        found = [row for row in found if row[1] != "UntoleratedTaint"]
    if found:
        return found[0][1:]
    return (
        "Unschedulable",
        "the scheduler finds no node for it",
        "Correct what the scheduler's message names.",
    )


def _without_preemption(message: str) -> str:
    return re.split(r"\s*preemption:", message)[0]


def _taints(message: str) -> list[tuple[str, str]]:
    return [
        (m.group(1) or m.group(3), (m.group(2) or m.group(4) or "").strip()) for m in _TAINT.finditer(message)
    ]


def _control_plane_only(message: str, decisive: str) -> bool:
    """Whether the only taints named are those that control-plane nodes always carry."""
    taints = _taints(message)
    return (
        decisive == "UntoleratedTaint" and bool(taints) and all(k.startswith("node-role.") for k, _ in taints)
    )


def _unschedulable(snapshot: Snapshot, pod: Obj, now: datetime) -> list[Finding]:
    """The finding about the pod, and the one about a tainted node that explains it."""
    scheduled = condition(pod, "PodScheduled")
    events = snapshot.events(pod, "FailedScheduling")
    message = text(scheduled, "message") or (events[0].message if events else "")
    cause, phrase, step = _why(message)
    evidence = [event.evidence(now) for event in events[:1]]
    if not evidence or events[0].message != message:
        evidence.insert(
            0, Evidence(f"pod {name_of(pod)} {text(scheduled, 'reason') or 'Unschedulable'}", message)
        )
    evidence += [e.evidence(now) for e in snapshot.events(pod, "NotTriggerScaleUp", "TriggeredScaleUp")[:1]]
    if cause == "InsufficientResources":
        evidence += _requests(pod)
    if cause == "NodeSelectorMismatch" and (selector := _selector(pod)):
        evidence.append(Evidence(f"pod {name_of(pod)} node selector", selector))
    title = f"its pods are pending: {phrase}"
    suspects = _suspects(snapshot, pod, message)
    tainted = _tainted_node(snapshot, message) if cause == "UntoleratedTaint" else None
    if tainted is not None:
        suspects = (*suspects, ref_of(tainted))
    found = at_root(snapshot, pod, cause, title, evidence, step, suspects=suspects)
    return [found] if tainted is None else [_at_node(found, tainted), found]


def _requests(pod: Obj) -> list[Evidence]:
    lines: list[Evidence] = []
    for container in rows(pod, "spec", "containers"):
        requests = mapping(container, "resources", "requests")
        if requests:
            told = ", ".join(f"{key} {value}" for key, value in requests.items())
            lines.append(Evidence(f"container {text(container, 'name')} requests", told))
    return lines[:3]


def _selector(pod: Obj) -> str:
    selector = mapping(pod, "spec", "nodeSelector")
    return ", ".join(f"{key}={value}" for key, value in selector.items())


def _suspects(snapshot: Snapshot, pod: Obj, message: str) -> tuple[ObjectRef, ...]:
    """Claims that are not bound, and nodes that are down when the scheduler names them as unreachable."""
    found: list[ObjectRef] = []
    for name in claims(pod):
        claim = snapshot.get("PersistentVolumeClaim", namespace_of(pod), name)
        if claim is not None and text(claim, "status", "phase") != "Bound":
            found.append(ref_of(claim))
    if _UNREACHABLE.search(message):
        found += [ref_of(node) for node in snapshot.kind("Node") if is_down(node)]
    for kind in ("Disk", "Memory", "PID"):
        if f"{kind.lower()}-pressure" in message:
            nodes = snapshot.kind("Node")
            found += [ref_of(n) for n in nodes if text(condition(n, f"{kind}Pressure"), "status") == "True"]
    return tuple(found)


def _tainted_node(snapshot: Snapshot, message: str) -> Obj | None:
    """The one node that carries a taint of the message which somebody set by hand. A taint that several nodes
    carry is a policy, and then it is the workload that lacks the toleration."""
    keys = {key for key, _ in _taints(message) if not key.startswith(_BUILT_IN)}
    carriers = [
        node
        for node in snapshot.kind("Node")
        if keys & {text(taint, "key") for taint in rows(node, "spec", "taints")}
    ]
    elsewhere = re.search(
        r"volume node affinity|PersistentVolume's node affinity|node affinity/selector", message
    )
    return carriers[0] if len(carriers) == 1 and elsewhere else None


def _at_node(found: Finding, node: Obj) -> Finding:
    taints = ", ".join(
        f"{text(t, 'key')}={text(t, 'value')}:{text(t, 'effect')}" for t in rows(node, "spec", "taints")
    )
    return Finding(
        ref_of(node),
        found.severity,
        f"of {found.object}, {found.why}",
        "UntoleratedTaint",
        f"the node's taint keeps out pods that can run nowhere else (taints: {taints})",
        (*found.evidence, Evidence(f"node {name_of(node)} taints", taints)),
        "Remove the taint if it was left behind after maintenance, or add a toleration to the workload.",
        affects=(found.object,),
        subject=found.subject,
    )
