"""Ready-made questions about workloads: what they use against what they asked for, and what restarts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.arguments import Limit, Namespace
from mcp_servers.observing.selectors import selector
from mcp_servers.observing.times import Clock, spelt
from mcp_servers.observing.values import Series, cores, finite, number, percent, share, size
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.asking import ask, by_labels, missing, refuse_missing
from mcp_servers.prometheus.owners import Pods, by_container, pods_of
from opswarm.errors import InvalidInput
from opswarm.mcp import arguments as checked
from opswarm.mcp.text import duration, fit_lines, fitting, table
from opswarm.mcp.tools import ToolOutput

Since = Annotated[str, Field(description="Such as 1h, to 30d.")]

_MOST_WINDOW = 30 * 86_400.0
_RATE = "5m"
_MANY_POINTS = 60

_USAGE = (
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_cpu_cfs_periods_total",
    "kube_pod_container_resource_requests", "kube_pod_container_resource_limits",
)  # fmt: skip
_RESTARTS = "kube_pod_container_status_restarts_total"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one container uses and may use: CPU in cores, memory in bytes, shares from 0 to 1; NaN is not known."""

    pod: str
    container: str
    cpu: float
    cpu_peak: float
    cpu_request: float
    cpu_limit: float
    memory: float
    memory_peak: float
    memory_request: float
    memory_limit: float
    throttled: float

    def row(self) -> tuple[str, ...]:
        cpu = (self.cpu, self.cpu_peak, self.cpu_request, self.cpu_limit)
        memory = (self.memory, self.memory_peak, self.memory_request, self.memory_limit)
        return (
            self.pod, self.container, *(_or_dash(v, cores) for v in cpu), *(_or_dash(v, size) for v in memory),
            _or_dash(self.throttled, percent),
        )  # fmt: skip

    def data(self) -> dict[str, Any]:
        numbers = {k: finite(getattr(self, k)) for k in self.__slots__ if k not in ("pod", "container")}
        return {"pod": self.pod, "container": self.container, **numbers}


@dataclass(frozen=True, slots=True)
class Restart:
    """A container that restarted, or waits to: how often in the window and ever, and how it ended the last time.

    `reason`, `exit_code` and `waiting` are "" where nothing is known; `ended_at` is Unix seconds, or 0.
    """

    recent: int
    ever: int
    namespace: str
    pod: str
    container: str
    reason: str
    exit_code: str
    ended_at: float
    waiting: str

    def row(self, now: float) -> tuple[str, ...]:
        ended = duration(now - self.ended_at) if self.ended_at > 0 else "-"
        texts = (self.namespace, self.pod, self.container, self.reason or "-", self.exit_code or "-")
        return (str(self.recent), str(self.ever), *texts, ended, self.waiting or "-")


class Workloads:
    """Questions about the workloads that one server watches."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def workload_usage(
        self,
        namespace: Annotated[str, Field(description="Its namespace.")],
        workload: Annotated[str, Field(description="Name of a Deployment, Job, pod and the like.")],
        since: Since = "1h",
        limit: Limit = 30,
    ) -> ToolOutput:
        """Show CPU and memory of a workload's containers, now and at their peak, against requests and limits, and
        CPU throttling."""
        arguments.limited(limit)
        where = checked.namespace(namespace)
        if not where:
            raise InvalidInput("Name the namespace that the workload is in.")
        seconds, at = window(since), self._clock()
        pods = await pods_of(self._api, where, checked.name(workload, "workload"), at)
        found = await ask(self._api, _usage_queries(pods, seconds), at)
        keyed = {k: by_labels(v, "pod", "container") for k, v in found.items() if k not in ("requests", "limits")}
        bounds = {k: by_labels(found[k], "pod", "container", "resource") for k in ("requests", "limits")}
        keys = sorted({k for v in keyed.values() for k in v} | {k[:2] for v in bounds.values() for k in v})
        rows = [_usage(pod, container, keyed, bounds) for pod, container in keys if pods.has(pod)]
        absent = await missing(self._api, _USAGE, at)
        if not rows:
            refuse_missing([f"{pods}: {a}" for a in absent], f"No containers of {pods} are measured now.")
        rows.sort(key=lambda u: (-_first(share(u.memory_peak, u.memory_limit), 0), -_first(u.cpu_peak, 0)))
        running = {u.pod for u in rows}
        findings = _usage_findings(rows, bool(found["limits"] or found["requests"]))
        title = f"{pods}: {len(rows)} containers in {len(running)} pods; peaks over {spelt(seconds)}"
        header = (
            "POD", "CONTAINER", "CPU", "PEAK", "REQUEST", "LIMIT", "MEMORY", "PEAK", "REQUEST", "LIMIT", "THROTTLED",
        )  # fmt: skip
        lines = [title, *(f"! {f}" for f in findings), *table(header, [u.row() for u in rows[:limit]])]
        text = fit_lines(lines, "containers", "a pod's name", head=len(findings) + 2, total=len(rows))
        data = {"workload": str(pods), "containers": [u.data() for u in rows[:limit]], "findings": findings}
        return ToolOutput("\n".join([text, *pods.notes, *(f"({a})" for a in absent)]), data)

    async def pod_restarts(self, namespace: Namespace = "", since: Since = "24h", limit: Limit = 30) -> ToolOutput:
        """List containers that restarted, or wait to, with how often, why and when the last one ended."""
        arguments.limited(limit)
        where, seconds, at = checked.namespace(namespace), window(since), self._clock()
        found = await ask(self._api, _restart_queries(where, spelt(seconds)), at)
        totals = by_labels(found["totals"], "namespace", "pod", "container")
        if not totals:
            absent = await missing(self._api, (_RESTARTS,), at)
            refuse_missing(absent, f"No container of the namespace {where} is known.")
        rows = _restarts(found, totals)
        told = spelt(seconds)
        if not rows:
            return ToolOutput(
                f"No restarts in {told}: {len(totals)} containers were looked at.",
                {"restarts": [], "looked_at": len(totals), "window_seconds": seconds},
            )
        header = (f"IN {told}", "EVER", "NAMESPACE", "POD", "CONTAINER", "LAST", "EXIT", "ENDED", "WAITING")
        lines = table(header, [r.row(at) for r in rows[:limit]])
        shown = rows[: min(limit, fitting(lines) - 1)]
        data = {"restarts": [asdict(r) for r in shown], "looked_at": len(totals), "window_seconds": seconds}
        return ToolOutput(fit_lines(lines, "containers", "namespace or since", head=1, total=len(rows)), data)


def window(since: str, least: float = 60.0) -> float:
    seconds = times.duration(since, "since")
    if not least <= seconds <= _MOST_WINDOW:
        raise InvalidInput(f"since must be from {spelt(least)} to 30d, not {spelt(seconds)}.")
    return seconds


def _usage_queries(pods: Pods, seconds: float) -> dict[str, str]:
    over, step = spelt(seconds), spelt(max(30.0, round(seconds / _MANY_POINTS)))
    by = "max by (pod, container)"
    cpu = f"rate({by_container(pods, 'container_cpu_usage_seconds_total')}[{_RATE}])"
    memory = by_container(pods, "container_memory_working_set_bytes")
    throttled = by_container(pods, "container_cpu_cfs_throttled_periods_total")
    periods = by_container(pods, "container_cpu_cfs_periods_total")
    bounds = {
        key: by_container(pods, f"kube_pod_container_resource_{key}", resource=("=~", "cpu|memory"))
        for key in ("requests", "limits")
    }
    return {
        "cpu": f"{by} ({cpu})",
        "cpu_peak": f"{by} (max_over_time({cpu}[{over}:{step}]))",
        "memory": f"{by} ({memory})",
        "memory_peak": f"{by} (max_over_time({memory}[{over}]))",
        "throttled": f"{by} (increase({throttled}[{over}]) / increase({periods}[{over}]))",
        **{key: f"max by (pod, container, resource) ({text})" for key, text in bounds.items()},
    }


def _usage(
    pod: str,
    container: str,
    keyed: Mapping[str, Mapping[tuple[str, ...], float]],
    bounds: Mapping[str, Mapping[tuple[str, ...], float]],
) -> Usage:
    def used(name: str) -> float:
        return keyed[name].get((pod, container), math.nan)

    def bound(name: str, resource: str) -> float:
        return bounds[name].get((pod, container, resource), math.nan)

    return Usage(
        pod, container,
        used("cpu"), _highest(used("cpu_peak"), used("cpu")),
        bound("requests", "cpu"), bound("limits", "cpu"),
        used("memory"), _highest(used("memory_peak"), used("memory")),
        bound("requests", "memory"), bound("limits", "memory"),
        used("throttled"),
    )  # fmt: skip


def _usage_findings(rows: Sequence[Usage], bounds_known: bool) -> list[str]:
    """What stands out, once a container's name: its worst pod."""
    found: dict[tuple[str, str], tuple[float, str]] = {}

    def note(usage: Usage, kind: str, weight: float, text: str) -> None:
        key = (usage.container, kind)
        if key not in found or weight > found[key][0]:
            found[key] = (weight, f"{usage.container}: {text} ({usage.pod})")

    for u in rows:
        full = share(u.memory_peak, u.memory_limit)
        if full >= 0.9:
            note(u, "memory", full, f"memory peaked at {percent(full)} of its limit")
        if u.throttled >= 0.25:
            note(u, "throttled", u.throttled, f"CPU was throttled in {percent(u.throttled)} of its periods")
        over = share(u.memory_peak, u.memory_request)
        if over > 1.2:
            note(u, "over", over, f"memory peaked at {percent(over)} of its request")
        if u.cpu_request >= 0.1 and u.cpu_peak < u.cpu_request * 0.1:
            note(u, "idle", 0, f"CPU peaked at {percent(share(u.cpu_peak, u.cpu_request))} of its request")
        if bounds_known and math.isnan(u.memory_limit):
            note(u, "unlimited", 0, "no memory limit")
    return [text for _, text in found.values()]


def _restart_queries(namespace: str, over: str) -> dict[str, str]:
    by = "max by (namespace, pod, container)"

    def of(metric: str) -> str:
        return selector(f"kube_pod_container_status_{metric}", namespace=namespace)

    return {
        "counts": f"{by} (increase({of('restarts_total')}[{over}])) > 0",
        "totals": f"{by} ({of('restarts_total')})",
        "reasons": f"{of('last_terminated_reason')} == 1",
        "waiting": f"{of('waiting_reason')} == 1",
        "codes": f"{by} ({of('last_terminated_exitcode')})",
        "ends": f"{by} ({of('last_terminated_timestamp')})",
    }


def _restarts(found: Mapping[str, Sequence[Series]], totals: Mapping[tuple[str, ...], float]) -> list[Restart]:
    """Those that restarted in the window or wait to, the most restless first."""
    names = ("namespace", "pod", "container")
    counts, codes, ends = (by_labels(found[k], *names) for k in ("counts", "codes", "ends"))
    reasons, waiting = _reasons(found["reasons"]), _reasons(found["waiting"])
    rows = []
    for key in totals.keys() | waiting.keys():
        ever = round(_first(totals.get(key, 0), 0))
        # An increase is extrapolated to the ends of its window; restarts are whole, and no more than all of them.
        recent = min(round(_first(counts.get(key, 0), 0)), ever)
        state = waiting.get(key, "")
        if recent or state not in ("", "ContainerCreating", "PodInitializing"):
            code = number(codes[key]) if key in codes else ""
            namespace, pod, container = key
            why, ended = reasons.get(key, ""), ends.get(key, 0.0)
            rows.append(Restart(recent, ever, namespace, pod, container, why, code, ended, state))
    return sorted(rows, key=lambda r: (-r.recent, -r.ever, r.namespace, r.pod, r.container))


def _reasons(series: Sequence[Series]) -> dict[tuple[str, ...], str]:
    names = ("namespace", "pod", "container")
    return {tuple(s.labels.get(n, "") for n in names): s.labels.get("reason", "") for s in series}


def _highest(*values: float) -> float:
    """The highest that is known; NaN when none is."""
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _first(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def _or_dash(value: float, told: Any) -> str:
    return "-" if math.isnan(value) else str(told(value))
