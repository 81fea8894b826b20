"""A ready-made question about nodes: how close each is to what it can do."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.arguments import Limit
from mcp_servers.observing.selectors import selector, where
from mcp_servers.observing.times import Clock, stamp
from mcp_servers.observing.values import Series, finite, number, percent, size
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.asking import ask, by_labels, missing, refuse_missing
from mcp_servers.prometheus.queries import Time
from opswarm.errors import NotFound
from opswarm.mcp.arguments import shown
from opswarm.mcp.text import fit_lines, one_line, table
from opswarm.mcp.tools import ToolOutput

_NEEDED = ("node_uname_info", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_filesystem_avail_bytes")
_FILESYSTEMS = {
    "fstype": ("!~", "tmpfs|overlay|squashfs|ramfs|iso9660|nsfs|fuse.lxcfs|erofs"),
    "mountpoint": ("!~", "/(run|var/lib/kubelet|var/lib/containerd)(/.*)?"),
}
_INTERFACES = {
    "device": ("!~", "lo|veth.*|cali.*|cni.*|flannel.*|lxc.*|cilium.*|docker.*|br-.*|tunl.*|kube-.*|nodelocaldns")
}
_HOUR = "1h"
_HEADER = ("NODE", "CPU", "LOAD5/CORES", "IOWAIT", "MEMORY", "PSI CPU/MEM/IO", "DISK BUSY", "FULLEST", "NET IN/OUT")


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a node is: shares from 0 to 1, rates a second; NaN is not known.

    The `pressure_…` are shares of the time in which something waited (PSI). `fullest` and `busiest` name a mount
    point and a disk.
    """

    node: str
    instance: str
    cpu: float
    iowait: float
    cores: float
    load5: float
    memory: float
    swap_in: float
    pressure_cpu: float
    pressure_memory: float
    pressure_io: float
    filesystem: float
    fullest: str
    disk: float
    busiest: str
    received: float
    sent: float
    errors: float
    oom_kills: float

    def row(self) -> tuple[str, ...]:
        pressure = "/".join(_told(p) for p in (self.pressure_cpu, self.pressure_memory, self.pressure_io))
        return (
            self.node, _told(self.cpu), f"{number(self.load5)}/{number(self.cores)}", _told(self.iowait),
            _told(self.memory), pressure, f"{_told(self.disk)} {self.busiest}".strip(),
            f"{_told(self.filesystem)} {self.fullest}".strip(), f"{size(self.received)}/{size(self.sent)}",
        )  # fmt: skip

    def findings(self) -> list[str]:
        said = (
            (self.cpu > 0.9, f"CPU {percent(self.cpu)} busy"),
            (self.load5 > 2 * self.cores, f"load {number(self.load5)} on {number(self.cores)} cores"),
            (self.memory > 0.9, f"memory {percent(self.memory)} used"),
            (self.swap_in > 100, f"{number(self.swap_in)} pages a second come back from swap"),
            (self.pressure_memory > 0.1, f"something waits for memory {percent(self.pressure_memory)} of the time"),
            (self.pressure_io > 0.25, f"something waits for I/O {percent(self.pressure_io)} of the time"),
            (self.disk > 0.9, f"disk {self.busiest} {percent(self.disk)} busy"),
            (self.filesystem > 0.85, f"filesystem {self.fullest} {percent(self.filesystem)} full"),
            (self.errors > 0.1, f"{number(self.errors)} network errors or drops a second"),
            (self.oom_kills >= 1, f"{number(round(_known(self.oom_kills)))} processes killed for memory in an hour"),
        )
        return [f"{self.node}: {text}" for holds, text in said if holds]

    def data(self) -> dict[str, Any]:
        found = {k: getattr(self, k) for k in self.__slots__}
        return {k: finite(v) if isinstance(v, float) else v for k, v in found.items()}


class Nodes:
    """Questions about the nodes that one server watches through node_exporter."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def node_saturation(
        self,
        node: Annotated[str, Field(description="Name or instance; empty: all.")] = "",
        time: Time = "now",
        limit: Limit = 30,
    ) -> ToolOutput:
        """Show how busy nodes are over 5 minutes: CPU, load, memory, pressure (PSI), disks, filesystems, network."""
        arguments.limited(limit)
        wanted, at = arguments.word(node, "node"), times.moment(time, self._clock(), "time")
        names = _names((await self._api.query("node_uname_info", at)).series)
        if not names:
            absent = await missing(self._api, _NEEDED, at)
            refuse_missing(absent, "node_exporter tells nothing of its nodes then.")
        chosen = {i: n for i, n in names.items() if not wanted or wanted in _spellings(i, n)}
        if not chosen:
            raise NotFound(
                f"No node is called {shown(node)}.", hint=f"There are: {one_line(', '.join(names.values()))}."
            )
        one = next(iter(chosen)) if len(chosen) == 1 else ""
        found = await ask(self._api, _queries(one), at)
        loads = [_load(i, n, found) for i, n in chosen.items()]
        loads.sort(key=lambda u: (-len(u.findings()), -_known(u.cpu), u.node))
        findings = [f for u in loads for f in u.findings()]
        absent = await missing(self._api, _NEEDED, at)
        title = f"{len(loads)} of {len(names)} nodes at {stamp(at)}; network in bytes a second"
        lines = [title, *(f"! {f}" for f in findings), *table(_HEADER, [u.row() for u in loads[:limit]])]
        if not findings:
            lines.insert(1, "Nothing is near its limit.")
        text = fit_lines(lines, "nodes", "node", head=len(lines) - len(loads[:limit]), total=len(loads))
        return ToolOutput(
            "\n".join([text, *(f"({a})" for a in absent)]),
            {"nodes": [u.data() for u in loads[:limit]], "findings": findings},
        )


def _queries(instance: str) -> dict[str, str]:
    """All of one instance, or of every one where it is ""."""

    def of(metric: str, **more: str) -> str:
        return selector(metric, instance=instance, **more)

    def but(metric: str, besides: Mapping[str, tuple[str, str]]) -> str:
        return where(metric, {**({"instance": ("=", instance)} if instance else {}), **besides})

    def rate(text: str) -> str:
        return f"rate({text}[5m])"

    by = "by (instance)"
    idle, iowait = (rate(of("node_cpu_seconds_total", mode=m)) for m in ("idle", "iowait"))
    spent = rate(of("node_cpu_seconds_total"))
    available, free = (but(f"node_{m}", _FILESYSTEMS) for m in ("filesystem_avail_bytes", "filesystem_size_bytes"))
    faults = [
        f"sum {by} ({rate(but(f'node_network_{way}_{what}_total', _INTERFACES))})"
        for way in ("receive", "transmit")
        for what in ("errs", "drop")
    ]
    received, sent = (rate(but(f"node_network_{w}_bytes_total", _INTERFACES)) for w in ("receive", "transmit"))
    memory = f"{of('node_memory_MemAvailable_bytes')} / {of('node_memory_MemTotal_bytes')}"
    return {
        # Of all that was counted: a node that has been watched for less than five minutes is not taken for busy.
        "cpu": f"1 - sum {by} ({idle}) / sum {by} ({spent})",
        "iowait": f"sum {by} ({iowait}) / sum {by} ({spent})",
        "cores": f"count {by} ({of('node_cpu_seconds_total', mode='idle')})",
        "load5": f"max {by} ({of('node_load5')})",
        "memory": f"1 - min {by} ({memory})",
        "swap_in": f"max {by} ({rate(of('node_vmstat_pswpin'))})",
        **{
            f"pressure_{kind}": f"max {by} ({rate(of(f'node_pressure_{kind}_waiting_seconds_total'))})"
            for kind in ("cpu", "memory", "io")
        },
        "filesystem": f"max by (instance, mountpoint) (1 - {available} / {free})",
        "disk": f"max by (instance, device) ({rate(of('node_disk_io_time_seconds_total'))})",
        "received": f"sum {by} ({received})",
        "sent": f"sum {by} ({sent})",
        "errors": " + ".join(faults),
        "oom_kills": f"max {by} (increase({of('node_vmstat_oom_kill')}[{_HOUR}]))",
    }


def _load(instance: str, name: str, found: Mapping[str, Sequence[Series]]) -> Load:
    def one(key: str) -> float:
        return by_labels(found[key], "instance").get((instance,), math.nan)

    def worst(key: str, label: str) -> tuple[float, str]:
        values = [(v, k[1]) for k, v in by_labels(found[key], "instance", label).items() if k[0] == instance]
        return max((v for v in values if not math.isnan(v[0])), default=(math.nan, ""))

    (filesystem, fullest), (disk, busiest) = worst("filesystem", "mountpoint"), worst("disk", "device")
    return Load(
        name, instance, one("cpu"), one("iowait"), one("cores"), one("load5"), one("memory"), one("swap_in"),
        one("pressure_cpu"), one("pressure_memory"), one("pressure_io"), filesystem, one_line(fullest), disk,
        one_line(busiest), one("received"), one("sent"), one("errors"), one("oom_kills"),
    )  # fmt: skip


def _names(series: Sequence[Series]) -> dict[str, str]:
    """By instance, what its node is called."""
    found = {s.labels.get("instance", ""): s.labels.get("nodename") or s.labels.get("instance", "") for s in series}
    return dict(sorted(found.items(), key=lambda f: f[1]))


def _spellings(instance: str, name: str) -> set[str]:
    return {s.lower() for s in (instance, instance.rpartition(":")[0], name, name.partition(".")[0])}


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _told(value: float) -> str:
    return "-" if math.isnan(value) else percent(value)
