"""What a small cluster told Prometheus in the three hours before `NOW`: OpenMetrics for a store that is filled at once.

The clock of the tools stands at `NOW`, so that every number is the same at each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

NOW = 1_790_000_000.0
"""Unix seconds: 2026-09-21 14:13:20 UTC."""

STEP = 30
LENGTH = 3 * 3_600
TURN = NOW - 5_400
"""When something went wrong: a rollout, then memory, CPU and 5xx."""

Value = Callable[[float], float]
_FIRST = NOW - LENGTH

MI = 1_048_576
GI = 1_024 * MI


def counter(a_second: float, after: float | None = None) -> Value:
    """Counts `a_second` from the beginning, and `after` a second from the turn on."""

    def at(time: float) -> float:
        before = min(time, TURN) - _FIRST
        return before * a_second + max(0.0, time - TURN) * (a_second if after is None else after)

    return at


def gauge(value: float, after: float | None = None) -> Value:
    return lambda time: value if after is None or time < TURN else after


def line(start: float, a_day: float) -> Value:
    """What is `start` at `NOW` and grows `a_day`."""
    return lambda time: start + (time - NOW) / 86_400 * a_day


def steps(*times: float) -> Value:
    """One more at each of these times."""
    return lambda time: float(sum(time >= t for t in times))


_POD = {"namespace": "media", "pod": "jellyfin-6d4b9c-abcde"}
_OLD = {"namespace": "media", "pod": "jellyfin-tools-1"}
_C = {**_POD, "container": "jellyfin"}
_NODES = (("10.0.0.11:9100", "pi-1"), ("10.0.0.12:9100", "pi-2"))
_CLAIMS = (("config", 9.0, 0.5), ("media", 40.0, 0.0), ("cache", 4.0, -1.0))

GAUGE, COUNTER = "gauge", "counter"
Family = tuple[str, str, str, list[tuple[dict[str, str], Value]]]
"""Name, type, help, and the series by labels."""


def _cluster() -> list[Family]:
    return [
        ("kube_pod_owner", GAUGE, "Information about the Pod's owner.", [
            ({**_POD, "owner_kind": "ReplicaSet", "owner_name": "jellyfin-6d4b9c"}, gauge(1)),
            ({**_OLD, "owner_kind": "<none>", "owner_name": "<none>"}, gauge(1)),
            ({"namespace": "media", "pod": "sonarr-0", "owner_kind": "StatefulSet", "owner_name": "sonarr"}, gauge(1)),
            ({"namespace": "flux-system", "pod": "source-1", "owner_kind": "<none>", "owner_name": ""}, gauge(1)),
        ]),
        ("kube_replicaset_owner", GAUGE, "Information about the ReplicaSet's owner.", [
            ({"namespace": "media", "replicaset": "jellyfin-6d4b9c", "owner_kind": "Deployment",
              "owner_name": "jellyfin"}, gauge(1)),
        ]),
        ("kube_pod_container_resource_requests", GAUGE, "Requested.", [
            ({**_C, "resource": "cpu", "unit": "core"}, gauge(0.5)),
            ({**_C, "resource": "memory", "unit": "byte"}, gauge(512 * MI)),
        ]),
        ("kube_pod_container_resource_limits", GAUGE, "Limited.", [
            ({**_C, "resource": "memory", "unit": "byte"}, gauge(1_024 * MI)),
        ]),
        ("kube_pod_container_status_restarts_total", COUNTER, "Restarts.", [
            (_C, steps(TURN + 600, TURN + 1_200, TURN + 2_400)),
            ({"namespace": "media", "pod": "sonarr-0", "container": "sonarr"}, gauge(7)),
        ]),
        ("kube_pod_container_status_last_terminated_reason", GAUGE, "Why.", [
            ({**_C, "reason": "OOMKilled"}, gauge(1)),
        ]),
        ("kube_pod_container_status_last_terminated_exitcode", GAUGE, "How.", [(_C, gauge(137))]),
        ("kube_pod_container_status_last_terminated_timestamp", GAUGE, "When.", [(_C, gauge(TURN + 2_400))]),
        ("kube_deployment_status_observed_generation", GAUGE, "Generation.", [
            ({"namespace": "media", "deployment": "jellyfin"}, gauge(4, 5)),
        ]),
        ("kube_persistentvolumeclaim_info", GAUGE, "Claims.", [
            ({"namespace": "media", "persistentvolumeclaim": c}, gauge(1)) for c in ("config", "media", "cache", "idle")
        ]),
    ]  # fmt: skip


def _containers() -> list[Family]:
    return [
        ("container_cpu_usage_seconds_total", COUNTER, "CPU time consumed.", [
            (_C, counter(0.1, 0.9)),
            ({**_POD, "container": "POD"}, counter(0.001)), ({**_POD, "container": ""}, counter(1)),
            ({**_OLD, "container": "jellyfin"}, counter(0.01)),
        ]),
        ("container_memory_working_set_bytes", GAUGE, "Working set.", [
            (_C, gauge(400 * MI, 980 * MI)), ({**_OLD, "container": "jellyfin"}, gauge(5 * MI)),
        ]),
        ("container_cpu_cfs_periods_total", COUNTER, "Periods.", [(_C, counter(10))]),
        ("container_cpu_cfs_throttled_periods_total", COUNTER, "Throttled.", [(_C, counter(0, 4))]),
    ]  # fmt: skip


def _kubelet() -> list[Family]:
    labels = [({"namespace": "media", "persistentvolumeclaim": c}, used, a_day) for c, used, a_day in _CLAIMS]
    sizes = {"config": 10.0, "media": 100.0, "cache": 8.0}
    return [
        ("kubelet_volume_stats_capacity_bytes", GAUGE, "Capacity.",
         [(m, gauge(sizes[m["persistentvolumeclaim"]] * GI)) for m, _, _ in labels]),
        ("kubelet_volume_stats_used_bytes", GAUGE, "Used.",
         [(m, line(used * GI, a_day * GI)) for m, used, a_day in labels]),
        ("kubelet_volume_stats_available_bytes", GAUGE, "Available.",
         [(m, line((sizes[m["persistentvolumeclaim"]] - used) * GI, -a_day * GI)) for m, used, a_day in labels]),
    ]  # fmt: skip


def _node() -> list[Family]:
    def each(value: Value, other: Value, **labels: str) -> list[tuple[dict[str, str], Value]]:
        return [({"instance": i, **labels}, v) for (i, _), v in zip(_NODES, (value, other), strict=True)]

    return [
        ("node_uname_info", GAUGE, "Name.", [({"instance": i, "nodename": n}, gauge(1)) for i, n in _NODES]),
        ("node_cpu_seconds_total", COUNTER, "CPU by mode.", [
            *each(counter(0.9), counter(0.02), cpu="0", mode="idle"),
            *each(counter(0.08), counter(0.9), cpu="0", mode="user"),
            *each(counter(0.02), counter(0.08), cpu="0", mode="iowait"),
        ]),
        ("node_load5", GAUGE, "Load.", each(gauge(0.4), gauge(3.5))),
        ("node_memory_MemTotal_bytes", GAUGE, "Memory.", each(gauge(8 * GI), gauge(8 * GI))),
        ("node_memory_MemAvailable_bytes", GAUGE, "Memory.", each(gauge(6 * GI), gauge(0.4 * GI))),
        ("node_pressure_memory_waiting_seconds_total", COUNTER, "PSI.", each(counter(0), counter(0.3))),
        ("node_filesystem_size_bytes", GAUGE, "Disk.", [
            *each(gauge(100 * GI), gauge(100 * GI), mountpoint="/", fstype="ext4"),
            *each(gauge(GI), gauge(GI), mountpoint="/run", fstype="tmpfs"),
        ]),
        ("node_filesystem_avail_bytes", GAUGE, "Disk.", [
            *each(gauge(60 * GI), gauge(5 * GI), mountpoint="/", fstype="ext4"),
            *each(gauge(0), gauge(0), mountpoint="/run", fstype="tmpfs"),
        ]),
        ("node_network_receive_bytes_total", COUNTER, "Received.", each(counter(1_000), counter(2_000), device="eth0")),
        ("node_network_transmit_bytes_total", COUNTER, "Sent.", each(counter(500), counter(700), device="eth0")),
    ]  # fmt: skip


def _odd() -> list[Family]:
    """What shows how odd values and names are told."""
    return [
        ("odd_value", GAUGE, "Not quite numbers.", [
            ({"what": "nan"}, gauge(float("nan"))), ({"what": "inf"}, gauge(float("inf"))),
            ({"what": "tiny"}, gauge(1e-9)),
            ({"what": 'quote " back \\ ü'}, gauge(1)),
        ]),
        ("http_requests_total", COUNTER, "Requests served.", [
            ({"namespace": "media", "job": "web", "code": c, "path": f"/p{p}"}, counter(*rates))
            for c, rates in (("200", (2.0, 2.0)), ("500", (0.0, 1.0)))
            for p in range(40)
        ]),
        ("wide", GAUGE, "Long labels.", [({"n": f"{n:03}", "text": "x" * 400}, gauge(n)) for n in range(45)]),
    ]  # fmt: skip


def open_metrics() -> Iterator[str]:
    for name, kind, help_text, series in [*_cluster(), *_containers(), *_kubelet(), *_node(), *_odd()]:
        family = name.removesuffix("_total") if kind == COUNTER else name
        yield f"# TYPE {family} {kind}\n# HELP {family} {help_text}\n"
        for labels, value in series:
            told = ",".join(f"{k}={_quoted(v)}" for k, v in labels.items())
            for second in range(0, LENGTH + 1, STEP):
                yield f"{name}{{{told}}} {_number(value(_FIRST + second))} {_FIRST + second:.0f}\n"
    yield "# EOF\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _number(value: float) -> str:
    return {"nan": "NaN", "inf": "+Inf"}.get(str(value), f"{value:.10g}")
