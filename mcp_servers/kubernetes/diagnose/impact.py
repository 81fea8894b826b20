"""How bad it is: what still serves of the workload that a problem is rooted at."""

from __future__ import annotations

from mcp_servers.cluster.finding import Evidence, Finding, LogSource, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.fields import Obj, at, number, text
from mcp_servers.kubernetes.diagnose.podstate import is_ready, live
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of

_CRITICAL_CLASSES = frozenset({"system-cluster-critical", "system-node-critical"})


def wanted(workload: Obj) -> int:
    """How many pods should be ready. `replicas` defaults to 1, as the API server fills it in."""
    if text(workload, "kind") == "DaemonSet":
        return number(workload, "status", "desiredNumberScheduled")
    return number(workload, "spec", "replicas", default=1)


def ready(workload: Obj) -> int:
    field = "numberReady" if text(workload, "kind") == "DaemonSet" else "readyReplicas"
    return number(workload, "status", field)


def impact(snapshot: Snapshot, root: ObjectRef) -> tuple[Severity, str]:
    """Severity and its argument for something that keeps pods of `root` from running."""
    if root not in snapshot.judged:
        snapshot.judged[root] = _judge(snapshot, root)
    return snapshot.judged[root]


def _judge(snapshot: Snapshot, root: ObjectRef) -> tuple[Severity, str]:
    if root.kind == "CronJob":
        return Severity.MEDIUM, "the scheduled work is not done, and nothing waits for it to serve requests"
    if root.kind == "Job":
        return Severity.MEDIUM, "the work of the Job is not done"
    workload = snapshot.find(root)
    pods = snapshot.pods_of(root)
    serving = sum(is_ready(pod) for pod in live(pods))
    if workload is not None and root.kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        want, have = wanted(workload), max(ready(workload), serving)
    else:
        want, have = len(live(pods)), serving
    want = max(want, 1)
    if have >= want:
        return Severity.MEDIUM, f"{have} of {want} pods still serve, but the change does not get through"
    if have:
        return Severity.MEDIUM, f"{have} of {want} pods are ready, so it still serves with less"
    if _critical(workload, pods):
        return (
            Severity.CRITICAL,
            f"0 of {want} pods are ready, and the cluster itself depends on this workload",
        )
    return Severity.HIGH, f"0 of {want} pods are ready, so nothing serves"


def _critical(workload: Obj | None, pods: list[Obj]) -> bool:
    specs = [at(workload, "spec", "template", "spec"), *(at(pod, "spec") for pod in pods)]
    return any(text(spec, "priorityClassName") in _CRITICAL_CLASSES for spec in specs)


def at_root(
    snapshot: Snapshot,
    pod: Obj,
    cause: str,
    title: str,
    evidence: list[Evidence],
    next_step: str,
    *,
    judged: tuple[Severity, str] | None = None,
    suspects: tuple[ObjectRef, ...] = (),
    symptom: bool = False,
    logs: LogSource | None = None,
) -> Finding:
    """A finding about a pod, rooted at its workload, and weighed by what still serves (or as `judged`)."""
    root = snapshot.root(pod)
    severity, why = judged or impact(snapshot, root)
    return Finding(
        root,
        severity,
        why,
        cause,
        title,
        tuple(evidence),
        next_step,
        subject=ref_of(pod),
        suspects=suspects,
        symptom=symptom,
        logs=logs,
    )
