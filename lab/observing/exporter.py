"""What kube-state-metrics, the kubelets and node_exporter would tell of the lab, as one page for Prometheus."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.metrics import usage
from lab.objects import Obj, meta, name_of, namespace_of
from lab.quantities import parse_quantity
from lab.simulation.cluster import Cluster

MIB = 2**20
_CPUS = 4
_DISK = 220 * 2**30
_BOOT = datetime(2026, 1, 1, tzinfo=UTC)
_UPTIME = 10.0**6
"""Seconds that the nodes had been up at `_BOOT`; their counters start there."""

_TRAFFIC = 90_000.0
"""Bytes a second, each way."""

_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")

Sample = tuple[dict[str, str], float]


class Exporter(Collector):
    """One cluster's metrics as of `clock`."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime]) -> None:
        self._cluster, self._store, self._clock = cluster, cluster.store, clock
        self._worked: dict[str, tuple[datetime, float]] = {}

    def app(self) -> Starlette:
        """Serves them at `/metrics`."""
        registry = CollectorRegistry()
        registry.register(self)

        async def page(request: Request) -> Response:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

        return Starlette(routes=[Route("/metrics", page)])

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on the cluster."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        yield from self._containers(now)
        yield from self._pods()
        yield from self._workloads()
        yield from self._volumes(now)
        yield from self._nodes(now)

    def _containers(self, now: datetime) -> Iterator[Metric]:
        memory, cpu, periods = [], [], []
        for life in self._cluster.kubelets.lives.values():
            for one in life.lives:
                if not one.running or one.run is None:
                    continue
                labels = _labels(life.pod, container=str(one.spec["name"]), node=str(life.pod["spec"]["nodeName"]))
                seconds = max(0.0, (now - one.run.started).total_seconds())
                memory.append((labels, usage(one, now)[1] * MIB))
                cpu.append((labels, one.run.program.cpu / 1000 * seconds))
                periods.append((labels, 10 * seconds))
        yield _gauge("container_memory_working_set_bytes", memory)
        yield _counter("container_cpu_usage_seconds", cpu)
        yield _counter("container_cpu_cfs_periods", periods)
        yield _counter("container_cpu_cfs_throttled_periods", [(labels, 0.0) for labels, _ in periods])

    def _pods(self) -> Iterator[Metric]:
        found: dict[str, list[Sample]] = {}

        def add(name: str, labels: dict[str, str], value: float) -> None:
            found.setdefault(name, []).append((labels, value))

        for pod in self._store.all("pods"):
            base = _labels(pod)
            add("kube_pod_info", {**base, "node": str(pod["spec"].get("nodeName", ""))}, 1)
            for owner in meta(pod).get("ownerReferences") or ():
                add("kube_pod_owner", {**base, **_owner(owner)}, 1)
            for phase in _PHASES:
                add("kube_pod_status_phase", {**base, "phase": phase}, float(pod["status"].get("phase") == phase))
            for one in pod["spec"].get("containers") or ():
                for kind in ("requests", "limits"):
                    for resource, amount in ((one.get("resources") or {}).get(kind) or {}).items():
                        unit = "core" if resource == "cpu" else "byte"
                        labels = {**base, "container": one["name"], "resource": resource, "unit": unit}
                        add(f"kube_pod_container_resource_{kind}", labels, float(parse_quantity(str(amount))))
            for status in pod["status"].get("containerStatuses") or ():
                labels = {**base, "container": status["name"]}
                add("kube_pod_container_status_restarts_total", labels, status.get("restartCount", 0))
                add("kube_pod_container_status_ready", labels, float(bool(status.get("ready"))))
                if why := (status.get("state") or {}).get("waiting", {}).get("reason"):
                    add("kube_pod_container_status_waiting_reason", {**labels, "reason": why}, 1)
                if why := (status.get("lastState") or {}).get("terminated", {}).get("reason"):
                    add("kube_pod_container_status_last_terminated_reason", {**labels, "reason": why}, 1)
        yield from _families(found)

    def _workloads(self) -> Iterator[Metric]:
        found: dict[str, list[Sample]] = {}
        for storage, kind in (("deployments.apps", "deployment"), ("statefulsets.apps", "statefulset")):
            for obj in self._store.all(storage):
                labels, status = _labels(obj, kind), obj.get("status") or {}
                ready = "available" if kind == "deployment" else "ready"
                values = {
                    f"kube_{kind}_spec_replicas" if kind == "deployment" else f"kube_{kind}_replicas": obj["spec"].get(
                        "replicas", 1
                    ),
                    f"kube_{kind}_status_replicas_{ready}": status.get(f"{ready}Replicas", 0),
                    f"kube_{kind}_status_observed_generation": status.get("observedGeneration", 0),
                }
                for name, value in values.items():
                    found.setdefault(name, []).append((labels, float(value)))
        for storage, kind, label in (
            ("replicasets.apps", "replicaset", "replicaset"),
            ("jobs.batch", "job", "job_name"),
        ):
            for obj in self._store.all(storage):
                for owner in meta(obj).get("ownerReferences") or ():
                    found.setdefault(f"kube_{kind}_owner", []).append((_labels(obj, label) | _owner(owner), 1.0))
        for job in self._store.all("jobs.batch"):
            failed = float((job.get("status") or {}).get("failed", 0))
            found.setdefault("kube_job_status_failed", []).append((_labels(job, "job_name"), failed))
        for one in self._store.all("configmaps"):
            version = float(meta(one)["resourceVersion"])
            found.setdefault("kube_configmap_metadata_resource_version", []).append(
                (_labels(one, "configmap"), version)
            )
        yield from _families(found)

    def _volumes(self, now: datetime) -> Iterator[Metric]:
        info, phases, sizes, used, free = [], [], [], [], []
        for claim in self._store.all("persistentvolumeclaims"):
            labels = _labels(claim, "persistentvolumeclaim")
            phase = claim["status"]["phase"]
            info.append((labels | {"storageclass": str(claim["spec"].get("storageClassName", ""))}, 1.0))
            phases += [(labels | {"phase": one}, float(phase == one)) for one in ("Bound", "Pending", "Lost")]
            if phase != "Bound":
                continue
            size = float(
                parse_quantity(claim["status"].get("capacity", claim["spec"]["resources"]["requests"])["storage"])
            )
            share = self._cluster.world.fills.get(f"{namespace_of(claim)}/{name_of(claim)}", _share(claim, now))
            sizes.append((labels, size))
            used.append((labels, size * share))
            free.append((labels, size * (1 - share)))
        yield _gauge("kube_persistentvolumeclaim_info", info)
        yield _gauge("kube_persistentvolumeclaim_status_phase", phases)
        for name, values in (("capacity", sizes), ("used", used), ("available", free)):
            yield _gauge(f"kubelet_volume_stats_{name}_bytes", values)

    def _nodes(self, now: datetime) -> Iterator[Metric]:
        found: dict[str, list[Sample]] = {}
        seconds: list[Sample] = []
        traffic: list[tuple[dict[str, str], str, float]] = []
        for node in self._store.all("nodes"):
            name = name_of(node)
            for row in (node.get("status") or {}).get("conditions") or ():
                for status in ("True", "False", "Unknown"):
                    labels = {"node": name, "condition": row["type"], "status": status.lower()}
                    value = float(row["status"] == status)
                    found.setdefault("kube_node_status_condition", []).append((labels, value))
            if name in self._cluster.world.dead_nodes:
                continue
            at = {"instance": f"{name}:9100"}
            total = float(parse_quantity(node["status"]["capacity"]["memory"]))
            busy, memory = self._load(name, now)
            values = {
                "node_memory_MemTotal_bytes": total,
                "node_memory_MemAvailable_bytes": max(0.0, total - memory * MIB - 610 * MIB),
                "node_load5": busy / 1000,
            }
            for metric, value in values.items():
                found.setdefault(metric, []).append((at, value))
            found.setdefault("node_uname_info", []).append((at | {"nodename": name}, 1.0))
            disk = at | {"device": "/dev/nvme0n1p2", "fstype": "ext4", "mountpoint": "/"}
            found.setdefault("node_filesystem_size_bytes", []).append((disk, float(_DISK)))
            found.setdefault("node_filesystem_avail_bytes", []).append((disk, _DISK * (1 - _share(node, now))))
            began, worked = self._worked.get(name, (now, 0.0))
            worked += busy / 1000 * (now - began).total_seconds()
            self._worked[name] = now, worked
            uptime, work = _UPTIME + (now - _BOOT).total_seconds(), worked / _CPUS
            for way in ("receive", "transmit"):
                traffic.append((at | {"device": "eth0"}, way, _TRAFFIC * uptime))
            for cpu in range(_CPUS):
                for mode, spent in (
                    ("idle", uptime - work),
                    ("user", work * 0.8),
                    ("system", work * 0.2),
                    ("iowait", 0.0),
                ):
                    seconds.append((at | {"cpu": str(cpu), "mode": mode}, spent))
        yield from _families(found)
        for way in ("receive", "transmit"):
            yield _counter(
                f"node_network_{way}_bytes", [(labels, value) for labels, one, value in traffic if one == way]
            )
        yield _counter("node_cpu_seconds", seconds)

    def _load(self, node: str, now: datetime) -> tuple[float, float]:
        """Millicores and MiB that the pods of a node use."""
        cpu, memory = 70.0, 0.0
        for life in self._cluster.kubelets.lives.values():
            if life.pod["spec"]["nodeName"] == node:
                for one in life.lives:
                    if one.running and one.run is not None:
                        used = usage(one, now)
                        cpu, memory = cpu + used[0], memory + used[1]
        return cpu, memory


def _labels(obj: Obj, kind: str = "pod", **more: str) -> dict[str, str]:
    return {"namespace": namespace_of(obj), kind: name_of(obj), **more}


def _owner(owner: Obj) -> dict[str, str]:
    is_controller = str(bool(owner.get("controller"))).lower()
    return {"owner_kind": owner["kind"], "owner_name": owner["name"], "owner_is_controller": is_controller}


def _share(obj: Obj, now: datetime) -> float:
    """How full a disk is: from a fifth to three fifths, by its name, and a little more each day."""
    first = hashlib.sha256(f"{namespace_of(obj)}/{name_of(obj)}".encode()).digest()[0] / 255
    return 0.2 + 0.4 * first + 0.001 * (now.timestamp() / 86_400 % 30)


def _families(found: dict[str, list[Sample]]) -> Iterator[Metric]:
    for name, samples in found.items():
        yield _counter(name.removesuffix("_total"), samples) if name.endswith("_total") else _gauge(name, samples)


def _gauge(name: str, samples: Iterable[Sample]) -> Metric:
    return _filled(GaugeMetricFamily(name, "Of the lab."), name, samples)


def _counter(name: str, samples: Iterable[Sample]) -> Metric:
    return _filled(CounterMetricFamily(name, "Of the lab."), f"{name}_total", samples)


def _filled(family: Any, name: str, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        family.add_sample(name, labels, value)
    made: Metric = family
    return made
