"""A ready-made question about a time: which of a fixed list of signals jumped around it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.arguments import Limit, Namespace
from mcp_servers.observing.selectors import labels_text, where
from mcp_servers.observing.times import Clock, spelt, stamp
from mcp_servers.observing.values import Series, cores, number, percent, size
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.asking import ask, there
from opswarm.errors import InvalidInput, NotFound
from opswarm.mcp import arguments as checked
from opswarm.mcp.text import fit_lines, fitting, table
from opswarm.mcp.tools import ToolOutput

_LEAST_SECONDS, _MOST_SECONDS = 300.0, 86_400.0
_FACTOR = 1.5
"""How many times more or less something must be to have jumped."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is looked at: `name` for people, the metric behind it, and how it is summed up over a window.

    `how` is rate (of a counter), mean (of a gauge), rises (what a counter went up) or changes (how often a value was
    another). `least` is how far apart before and after must be to matter, in the unit of the result.
    """

    name: str
    metric: str
    how: str
    by: str
    least: float
    told: Callable[[float], str] = number
    matchers: tuple[tuple[str, str, str], ...] = ()
    namespaced: bool = True

    def query(self, namespace: str, seconds: float) -> str:
        matchers = {n: (op, v) for n, op, v in self.matchers}
        if namespace:
            matchers["namespace"] = ("=", namespace)
        over = f"{where(self.metric, matchers)}[{spelt(seconds)}]"
        function = {"rate": "rate", "mean": "avg_over_time", "rises": "increase", "changes": "changes"}[self.how]
        gather = "max" if self.how == "changes" else "sum"
        return f"{gather} by ({self.by}) ({function}({over}))"


def _whole(value: float) -> str:
    """An increase is extrapolated to the ends of its window; what it counts is whole."""
    return number(round(value)) if math.isfinite(value) else number(value)


_CONTAINERS = (("container", "!~", "|POD"),)
_FAILED = (("code", "=~", "5.."),)
_NOT_FOUND = (("rcode", "!=", "NOERROR"),)
_READY = (("condition", "=", "Ready"), ("status", "=", "true"))

SIGNALS: tuple[Signal, ...] = (
    Signal("CPU", "container_cpu_usage_seconds_total", "rate", "namespace, container", 0.1, cores, _CONTAINERS),
    Signal("memory", "container_memory_working_set_bytes", "mean", "namespace, container", 64e6, size, _CONTAINERS),
    Signal("CPU throttling", "container_cpu_cfs_throttled_seconds_total", "rate", "namespace, container", 0.05, number,
           _CONTAINERS),
    Signal("OOM kills", "container_oom_events_total", "rises", "namespace, container", 0.5, _whole, _CONTAINERS),
    Signal("network in", "container_network_receive_bytes_total", "rate", "namespace", 1e6, size),
    Signal("network out", "container_network_transmit_bytes_total", "rate", "namespace", 1e6, size),
    Signal("restarts", "kube_pod_container_status_restarts_total", "rises", "namespace, container", 0.5, _whole),
    Signal("rollouts", "kube_deployment_status_observed_generation", "changes", "namespace, deployment", 0.5),
    Signal("rollouts", "kube_statefulset_status_observed_generation", "changes", "namespace, statefulset", 0.5),
    Signal("config changes", "kube_configmap_metadata_resource_version", "changes", "namespace, configmap", 0.5),
    Signal("replicas available", "kube_deployment_status_replicas_available", "mean", "namespace, deployment", 0.5),
    Signal("node readiness", "kube_node_status_condition", "mean", "node", 0.05, percent, _READY, False),
    Signal("targets up", "up", "mean", "job", 0.05, number, (), False),
    Signal("alerts firing", "ALERTS", "mean", "alertname, namespace", 0.2, number, (("alertstate", "=", "firing"),)),
    Signal("node CPU", "node_cpu_seconds_total", "rate", "instance", 0.5, number, (("mode", "!=", "idle"),), False),
    Signal("node memory free", "node_memory_MemAvailable_bytes", "mean", "instance", 256e6, size, (), False),
    Signal("disk busy", "node_disk_io_time_seconds_total", "rate", "instance, device", 0.2, percent, (), False),
    Signal("I/O pressure", "node_pressure_io_waiting_seconds_total", "rate", "instance", 0.1, percent, (), False),
    Signal("API errors", "apiserver_request_total", "rate", "resource, code", 0.05, number, _FAILED, False),
    Signal("DNS failures", "coredns_dns_responses_total", "rate", "rcode", 0.2, number, _NOT_FOUND, False),
    Signal("HTTP by code", "traefik_service_requests_total", "rate", "service, code", 0.2, number, (), False),
    Signal("HTTP by status", "nginx_ingress_controller_requests", "rate", "ingress, status", 0.2, number, (), False),
    Signal("HTTP by code", "http_requests_total", "rate", "namespace, job, code", 0.2),
)  # fmt: skip
"""All that is ever asked, so that the question costs the same everywhere: two queries for each that is there."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A series of a signal that was another before a time than after it."""

    signal: str
    labels: str
    before: float
    after: float
    before_told: str
    after_told: str
    events: bool = False
    """Whether it counts what happened, so that none is no fall."""

    @property
    def weight(self) -> float:
        """How far it jumped, in doublings; what came from or went to nothing counts as eight."""
        low, high = sorted((abs(self.before), abs(self.after)))
        return min(8.0, math.log2(high / low)) if low > 0 else 8.0

    @property
    def told(self) -> str:
        if self.before == 0:
            return "only after" if self.events else "new"
        if self.after == 0:
            return "only before" if self.events else "gone"
        factor = self.after / self.before
        return f"x{factor:.1f}" if factor >= 1 else f"/{1 / factor:.1f}"


class Changes:
    """Comparing before and after at one server."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def metrics_changed(
        self,
        around: Annotated[str, Field(description="When it began, such as 2h ago, or RFC 3339.")],
        namespace: Namespace = "",
        window: Annotated[str, Field(description="How long to compare before and after, 5m to 1d.")] = "30m",
        limit: Limit = 25,
    ) -> ToolOutput:
        """Compare before and after a time: which usual signals (CPU, memory, restarts, rollouts, errors, nodes,
        alerts) jumped."""
        arguments.limited(limit)
        where, now = checked.namespace(namespace), self._clock()
        at, seconds = times.moment(around, now, "around"), times.duration(window, "window")
        if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
            raise InvalidInput(f"window must be from 5m to 1d, not {spelt(seconds)}.")
        if at > now - _LEAST_SECONDS:
            raise InvalidInput(
                f"around is {stamp(at)}, and must be 5m ago or earlier.", hint="What came after it is compared."
            )
        seconds = math.floor(min(seconds, now - at))
        after = at + seconds
        asked = [s for s in SIGNALS if s.namespaced or not where]
        known = await there(self._api, sorted({s.metric for s in asked}), at)
        known |= await there(self._api, sorted({s.metric for s in asked}), after)
        chosen = [s for s in asked if s.metric in known]
        if not chosen:
            raise NotFound(
                f"None of the {len(asked)} signals is stored around {stamp(at)}.",
                hint="targets_list shows what is scraped; metrics_range shows a metric of your own.",
            )
        queries = {str(i): s.query(where, seconds) for i, s in enumerate(chosen)}
        first, second = await ask(self._api, queries, at), await ask(self._api, queries, after)
        jumps = [j for i, s in enumerate(chosen) for j in _jumps(s, first[str(i)], second[str(i)])]
        jumps.sort(key=lambda j: (-j.weight, j.signal, j.labels))
        frame = f"{spelt(seconds)} before and after {stamp(at)}"
        looked = f"{len(chosen)} of {len(asked)} signals are there"
        absent = sorted({s.metric for s in asked} - known)
        notes = [f"(not scraped: {', '.join(absent)})"] if absent else []
        shown = jumps[:limit]
        lines = [f"{len(jumps)} jumps, {frame}; {looked}"]
        if jumps:
            header = ("SIGNAL", "OF", "BEFORE", "AFTER", "CHANGE")
            lines += table(header, [(j.signal, j.labels, j.before_told, j.after_told, j.told) for j in shown])
        text = fit_lines(lines, "jumps", "namespace or window", head=2, total=len(jumps)) if jumps else lines[0] + "."
        kept = shown[: max(0, fitting(lines) - 2)]
        return ToolOutput(
            "\n".join([text, *notes]),
            {"jumps": [asdict(j) for j in kept], "total": len(jumps), "at": at, "window_seconds": seconds,
             "not_scraped": absent},
        )  # fmt: skip


def _jumps(signal: Signal, before: Sequence[Series], after: Sequence[Series]) -> list[Jump]:
    first, second = ({labels_text(s.labels): s.last.value for s in found} for found in (before, after))
    found = []
    for labels in first.keys() | second.keys():
        was, is_now = (v if math.isfinite(v) else 0.0 for v in (first.get(labels, 0.0), second.get(labels, 0.0)))
        low, high = sorted((abs(was), abs(is_now)))
        if abs(is_now - was) >= signal.least and high >= low * _FACTOR:
            told = signal.told(was), signal.told(is_now)
            found.append(Jump(signal.name, labels[1:-1], was, is_now, *told, signal.how in ("rises", "changes")))
    return found
