"""Facts about one pod that several analyzers need: its containers, its age, whether it is ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mcp_servers.kubernetes.diagnose.fields import (
    Obj,
    at,
    condition,
    labels,
    mapping,
    number,
    rows,
    text,
)
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot
from mcp_servers.kubernetes.rendering import duration, parse_time

GRACE = 120.0
"""Seconds in which a pod may be starting without anybody being told."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod: what was asked for, and how it is."""

    name: str
    spec: Obj
    status: Obj
    init: bool

    @property
    def sidecar(self) -> bool:
        """An init container that keeps running next to the others."""
        return self.init and text(self.spec, "restartPolicy") == "Always"

    @property
    def label(self) -> str:
        kind = "sidecar container" if self.sidecar else "init container" if self.init else "container"
        return f"{kind} {self.name}"

    @property
    def image(self) -> str:
        return text(self.spec, "image") or text(self.status, "image")

    @property
    def waiting(self) -> str:
        """The reason it waits, "" when it does not."""
        return text(self.status, "state", "waiting", "reason")

    @property
    def waiting_message(self) -> str:
        return text(self.status, "state", "waiting", "message")

    @property
    def running(self) -> bool:
        return isinstance(at(self.status, "state", "running"), dict)

    @property
    def started_at(self) -> datetime | None:
        return parse_time(text(self.status, "state", "running", "startedAt"))

    @property
    def last_exit(self) -> Obj:
        """The last termination: the present state when it has ended, else the run before. May be empty."""
        return mapping(self.status, "state", "terminated") or mapping(self.status, "lastState", "terminated")

    @property
    def restarts(self) -> int:
        return number(self.status, "restartCount")

    @property
    def ready(self) -> bool:
        return bool(self.status.get("ready"))


def containers(pod: Obj) -> Iterator[Container]:
    """Init containers first, as they run."""
    for kind, statuses, init in (
        ("initContainers", "initContainerStatuses", True),
        ("containers", "containerStatuses", False),
    ):
        found = {text(row, "name"): row for row in rows(pod, "status", statuses)}
        for spec in rows(pod, "spec", kind):
            name = text(spec, "name")
            yield Container(name, spec, found.get(name, {}), init)


def age(obj: Obj, now: datetime) -> float:
    """Seconds since it was created; an unknown time counts as long ago.

    A status that tells of earlier times wins: an object restored from a backup is created anew, but what it reports
    is not new.
    """
    created = parse_time(text(obj, "metadata", "creationTimestamp"))
    if created is None:
        return float("inf")
    told = (when for stamp in _stamps(obj) if (when := parse_time(stamp)) is not None)
    return max((now - min([created, *told])).total_seconds(), _backed_off(obj))


def lived(snapshot: Snapshot, obj: Obj, now: datetime) -> float:
    """`age`, or what its events say when they are older than it."""
    return max([age(obj, now), *(event.age(now) for event in snapshot.events(obj) if event.dated)])


def _stamps(obj: Obj) -> Iterator[str]:
    """Every time that the status tells of."""
    yield text(obj, "status", "startTime")
    for row in rows(obj, "status", "conditions"):
        yield text(row, "lastTransitionTime")
        yield text(row, "lastHeartbeatTime")
    for status in _statuses(obj):
        for state in ("state", "lastState"):
            yield text(status, state, "running", "startedAt")
            yield text(status, state, "terminated", "startedAt")
            yield text(status, state, "terminated", "finishedAt")


def _statuses(pod: Obj) -> list[Obj]:
    return [*rows(pod, "status", "initContainerStatuses"), *rows(pod, "status", "containerStatuses")]


def _backed_off(pod: Obj) -> float:
    """Seconds that its restarts took at least: the kubelet waits 10 s before the second, then twice as long each
    time, up to 300 s."""
    restarts = max((number(row, "restartCount") for row in _statuses(pod)), default=0)
    return float(sum(min(10 * 2**place, 300) for place in range(min(restarts, 100) - 1)))


def age_text(seconds: float) -> str:
    """`12m`, for an age that may not be known."""
    return duration(seconds) if seconds != float("inf") else "an unknown time"


def since(timestamp: str, now: datetime) -> float | None:
    """Seconds since an API timestamp, None when there is none."""
    when = parse_time(timestamp)
    return (now - when).total_seconds() if when else None


def is_ready(pod: Obj) -> bool:
    return text(condition(pod, "Ready"), "status") == "True"


def unready_for(pod: Obj, now: datetime) -> float:
    """Seconds since the pod was ready for the last time, or since it was made."""
    lost = since(text(condition(pod, "Ready"), "lastTransitionTime"), now)
    return age(pod, now) if lost is None else lost


def is_finished(pod: Obj) -> bool:
    return text(pod, "status", "phase") in ("Succeeded", "Failed")


def is_terminating(pod: Obj) -> bool:
    return bool(text(pod, "metadata", "deletionTimestamp"))


def live(pods: list[Obj]) -> list[Obj]:
    """Those that neither ended nor are being deleted."""
    return [pod for pod in pods if not is_finished(pod) and not is_terminating(pod)]


def is_down(node: Obj | None) -> bool:
    """Whether the node's Ready condition says anything but True."""
    return node is not None and text(condition(node, "Ready"), "status") in ("False", "Unknown")


def down_node(snapshot: Snapshot, pod: Obj) -> Obj | None:
    """The pod's node, if it is not ready."""
    node = snapshot.get("Node", "", text(pod, "spec", "nodeName"))
    return node if is_down(node) else None


def managed_by(obj: Obj | None) -> str:
    """Which GitOps tool owns the object: `Flux Kustomization flux-system/apps`, "" when none says so."""
    marks = labels(obj)
    for prefix, kind in (
        ("helm.toolkit.fluxcd.io", "Flux HelmRelease"),
        ("kustomize.toolkit.fluxcd.io", "Flux Kustomization"),
    ):
        if name := marks.get(f"{prefix}/name"):
            namespace = marks.get(f"{prefix}/namespace", "")
            return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    tracking = text(mapping(obj, "metadata", "annotations"), "argocd.argoproj.io/tracking-id")
    app = tracking.partition(":")[0] or marks.get("argocd.argoproj.io/instance", "")
    return f"Argo CD Application {app}" if app else ""
