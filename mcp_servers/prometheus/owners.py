"""Which pods a workload has, as kube-state-metrics tells it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_servers.observing.selectors import literal, selector, where
from mcp_servers.observing.values import Series
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.asking import ask, missing
from opswarm.errors import NotFound
from opswarm.mcp.text import one_line

_OWNERS = ("kube_pod_owner", "kube_replicaset_owner", "kube_job_owner")
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a workload: their names, or None where only a pattern of names is known. `kind` is "" then."""

    namespace: str
    workload: str
    kind: str
    names: frozenset[str] | None
    notes: tuple[str, ...] = ()

    @property
    def matchers(self) -> dict[str, tuple[str, str]]:
        """For selectors: what pods of controllers are called. Which of them it is, `has` tells."""
        pattern = f"{literal(self.workload)}(-.*)?"
        return {"namespace": ("=", self.namespace), "pod": ("=~", pattern)}

    def has(self, pod: str) -> bool:
        return self.names is None or pod in self.names

    def __str__(self) -> str:
        return f"{self.kind or 'Workload'} {self.namespace}/{self.workload}"


async def pods_of(api: PrometheusApi, namespace: str, workload: str, at: float) -> Pods:
    """The pods of a Deployment, StatefulSet, DaemonSet, Job, CronJob or ReplicaSet, or the pod of that name.

    Raises `NotFound`, with names that are near, where kube-state-metrics knows the namespace and not the workload.
    """
    found = await ask(api, {m: selector(m, namespace=namespace) for m in _OWNERS}, at)
    owners = found["kube_pod_owner"]
    if not owners:
        told = await missing(api, ("kube_pod_owner",), at)
        if told:
            note = f"({told[0]}: pods are taken by their names, and requests and limits are not known)"
            return Pods(namespace, workload, "", None, (note,))
        raise NotFound(f"No pod of the namespace {namespace} is known.", hint=await _namespaces(api, namespace, at))
    top = _tops(found["kube_replicaset_owner"], "replicaset") | _tops(found["kube_job_owner"], "job_name")
    pods: set[str] = set()
    kinds: dict[str, str] = {}
    known: set[str] = set()
    for one in owners:
        pod, kind, name = (one.labels.get(k, "") for k in ("pod", "owner_kind", "owner_name"))
        above = top.get((kind, name))
        names = {name: kind, **({above[1]: above[0]} if above else {}), pod: "Pod"}
        known.add(above[1] if above else name if kind not in ("", "<none>") else pod)
        if workload in names:
            pods.add(pod)
            kinds[names[workload]] = pod
    if not pods:
        near = difflib.get_close_matches(workload, sorted(known), n=_MOST_NAMED, cutoff=0.3) or sorted(known)
        raise NotFound(
            f"No pod belongs to '{workload}' in the namespace {namespace}.",
            hint=f"There are: {one_line(', '.join(near[:_MOST_NAMED]))}.",
        )
    return Pods(namespace, workload, next(iter(kinds)), frozenset(pods))


def _tops(series: Sequence[Series], label: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Who owns a ReplicaSet or Job: (kind, name) to (kind, name)."""
    kind = "ReplicaSet" if label == "replicaset" else "Job"
    return {
        (kind, s.labels.get(label, "")): (s.labels.get("owner_kind", ""), s.labels.get("owner_name", ""))
        for s in series
        if s.labels.get("owner_kind", "<none>") not in ("", "<none>")
    }


async def _namespaces(api: PrometheusApi, namespace: str, at: float) -> str:
    found = await api.query("count by (namespace) (kube_pod_owner)", at)
    known = sorted(s.labels.get("namespace", "") for s in found.series)
    near = difflib.get_close_matches(namespace, known, n=_MOST_NAMED, cutoff=0.5) or known[:_MOST_NAMED]
    return f"Namespaces with pods: {one_line(', '.join(near))}."


def by_container(pods: Pods, metric: str, **more: tuple[str, str]) -> str:
    """A selector of a metric for the containers of some pods; what stands for a whole pod is left out."""
    return where(metric, {**pods.matchers, "container": ("!~", "|POD"), **more})
