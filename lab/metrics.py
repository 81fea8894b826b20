"""metrics.k8s.io: what metrics-server would have measured."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from lab.objects import Obj, labels_of, name_of, namespace_of
from lab.registry import Resource
from lab.simulation.autoscalers import metrics_served
from lab.simulation.containers import ContainerLife
from lab.simulation.kubelet import Kubelets, PodLife
from lab.simulation.world import memory_limit
from lab.status import ApiError, not_found
from lab.store import Store
from lab.times import rfc3339

_WINDOW = "15.023s"
_SYSTEM_MEMORY, _SYSTEM_CPU = 610.0, 70.0
"""MiB and millicores that a node uses besides its pods."""


def _wobble(seed: str, now: datetime) -> float:
    """A factor near one that changes every 15 s, as measurements do."""
    window = int(now.timestamp()) // 15
    return 0.97 + hashlib.sha256(f"{seed}{window}".encode()).digest()[0] / 4250


def usage(life: ContainerLife, now: datetime) -> tuple[float, float]:
    """Millicores and MiB of a running container; one that outgrows its limit climbs to it."""
    assert life.run is not None
    program = life.run.program
    memory, limit = program.memory, memory_limit(life.spec)
    if program.needs_memory > limit and program.faulty_in(life.spec):
        ran = (now - life.run.started).total_seconds()
        memory = min(
            limit * 0.985,
            limit * (0.35 + 0.65 * ran / max(1.0, program.crash.after if program.crash else 45)),
        )
    factor = _wobble(str(life.spec["name"]) + life.run.container_id, now)
    return program.cpu * factor, min(memory * factor, limit)


def _amounts(cpu: float, memory: float) -> Obj:
    return {"cpu": f"{int(cpu * 1_000_000)}n", "memory": f"{int(memory * 1024)}Ki"}


class Metrics:
    def __init__(self, store: Store, kubelets: Kubelets) -> None:
        self._store, self._kubelets = store, kubelets

    def require_server(self) -> None:
        """Raises the 503 of the aggregator when metrics-server is down."""
        if not metrics_served(self._store):
            raise ApiError(
                503, "ServiceUnavailable", "the server is currently unable to handle the request", {}
            )

    def pods(self, namespace: str, now: datetime) -> list[Obj]:
        """PodMetrics of the pods that run; labels are the pod's, so that selectors work."""
        found = (self._pod(life, now) for life in self._kubelets.lives.values())
        kept = [one for one in found if one is not None and (not namespace or namespace_of(one) == namespace)]
        return sorted(kept, key=lambda one: (namespace_of(one), name_of(one)))

    def nodes(self, now: datetime) -> list[Obj]:
        return [one for node in self._store.all("nodes") if (one := self._node(node, now)) is not None]

    def one(self, resource: Resource, namespace: str, name: str, now: datetime) -> Obj:
        """The metrics of one pod or node. Raises 404."""
        listed = self.pods(namespace, now) if resource.namespaced else self.nodes(now)
        for item in listed:
            if name_of(item) == name:
                return item
        raise not_found(resource, f"{namespace}/{name}" if namespace else name)

    def _pod(self, life: PodLife, now: datetime) -> Obj | None:
        running = [
            one
            for one in life.lives
            if one.running and one.run and now - one.run.started > timedelta(seconds=15)
        ]
        if not running or not self._alive(life.pod):
            return None
        usages = [{"name": one.spec["name"], "usage": _amounts(*usage(one, now))} for one in running]
        return {
            "metadata": self._metadata(life.pod, now),
            "timestamp": rfc3339(now - timedelta(seconds=11)),
            "window": _WINDOW,
            "containers": usages,
        }

    def _alive(self, pod: Obj) -> bool:
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        return node is not None and not any(
            item["key"] == "node.kubernetes.io/unreachable" for item in node["spec"].get("taints") or []
        )

    def _metadata(self, obj: Obj, now: datetime) -> Obj:
        metadata: Obj = {"name": name_of(obj), "creationTimestamp": rfc3339(now)}
        if namespace_of(obj):
            metadata["namespace"] = namespace_of(obj)
        if labels_of(obj):
            metadata["labels"] = labels_of(obj)
        return metadata

    def _node(self, node: Obj, now: datetime) -> Obj | None:
        cpu, memory, seen = _SYSTEM_CPU, _SYSTEM_MEMORY, False
        for life in self._kubelets.lives.values():
            if life.pod["spec"]["nodeName"] != name_of(node) or not self._alive(life.pod):
                continue
            for one in life.lives:
                if one.running:
                    used = usage(one, now)
                    cpu, memory, seen = cpu + used[0], memory + used[1], True
        if not seen:
            return None
        return {
            "metadata": self._metadata(node, now),
            "timestamp": rfc3339(now - timedelta(seconds=9)),
            "window": _WINDOW,
            "usage": _amounts(cpu, memory),
        }
