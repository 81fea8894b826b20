"""A ready-made question about volumes: how full each claim is, and on which day it will be."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments
from mcp_servers.observing.arguments import Limit, Namespace
from mcp_servers.observing.selectors import selector
from mcp_servers.observing.times import Clock, day, spelt
from mcp_servers.observing.values import finite, percent, share, size
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.asking import ask, by_labels, missing, refuse_missing
from mcp_servers.prometheus.workloads import window
from opswarm.mcp import arguments as checked
from opswarm.mcp.text import fit_lines, fitting, table
from opswarm.mcp.tools import ToolOutput

_KEY = ("namespace", "persistentvolumeclaim")
_DAY = 86_400.0
_FAR_DAYS = 365.0
_STILL = 0.0001
"""Share of its size by which a volume grows in a day and is still said to stand."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A claim's fill: bytes, bytes a day, and when it is full as Unix seconds (NaN: not at this pace)."""

    namespace: str
    claim: str
    used: float
    capacity: float
    growth: float
    inodes: float
    full_at: float

    @property
    def share(self) -> float:
        return share(self.used, self.capacity)

    def row(self, now: float) -> tuple[str, ...]:
        inodes = percent(self.inodes) if self.inodes >= 0 else "-"
        still = math.isnan(self.growth) or abs(self.growth) < self.capacity * _STILL
        sign = "+" if self.growth > 0 else ""
        growth = "?" if math.isnan(self.growth) else "0" if still else f"{sign}{size(self.growth)}"
        return (
            self.namespace, self.claim, size(self.used), size(self.capacity), percent(self.share), inodes, growth,
            self.when(now),
        )  # fmt: skip

    def when(self, now: float) -> str:
        if math.isnan(self.full_at):
            return "-"
        days = (self.full_at - now) / _DAY
        return f"{day(self.full_at)} ({_days(days)})" if days < _FAR_DAYS else "in over a year"

    def data(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace, "claim": self.claim, "used": finite(self.used),
            "capacity": finite(self.capacity), "growth_per_day": finite(self.growth),
            "inodes_used": finite(self.inodes), "full_at": finite(self.full_at),
        }  # fmt: skip


class Volumes:
    """Questions about the volumes that one server watches through the kubelets."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def volume_fill(
        self,
        namespace: Namespace = "",
        since: Annotated[str, Field(description="Over how long growth is measured.")] = "1d",
        limit: Limit = 30,
    ) -> ToolOutput:
        """Show how full persistent volume claims are, how fast they grow, and the day each is full; soonest first."""
        arguments.limited(limit)
        where, seconds, at = checked.namespace(namespace), window(since, least=600.0), self._clock()

        def stats(what: str) -> str:
            return selector(f"kubelet_volume_stats_{what}", namespace=where)

        by = "max by (namespace, persistentvolumeclaim)"
        found = await ask(
            self._api,
            {
                "used": f"{by} ({stats('used_bytes')})",
                "capacity": f"{by} ({stats('capacity_bytes')})",
                "available": f"{by} ({stats('available_bytes')})",
                "growth": f"{by} (deriv({stats('used_bytes')}[{spelt(seconds)}]))",
                "inodes": f"{by} ({stats('inodes_used')} / ({stats('inodes')} > 0))",
                "claims": f"{by} ({selector('kube_persistentvolumeclaim_info', namespace=where)})",
            },
            at,
        )
        values = {k: by_labels(v, *_KEY) for k, v in found.items()}
        if not values["capacity"]:
            needed = ("kubelet_volume_stats_capacity_bytes", "kubelet_volume_stats_used_bytes")
            of = f"in the namespace {where} " if where else ""
            refuse_missing(
                await missing(self._api, needed, at),
                f"No volume {of}is measured: the kubelet tells of those that a pod mounts and whose driver can.",
            )
        fills = sorted(
            (_fill(key, values, at) for key in values["capacity"]),
            key=lambda f: (math.inf if math.isnan(f.full_at) else f.full_at, -f.share),
        )
        unmeasured = sorted(values["claims"].keys() - values["capacity"].keys())
        header = ("NAMESPACE", "CLAIM", "USED", "SIZE", "FULL", "INODES", "A DAY", "FULL ON")
        title = f"Growth over {spelt(seconds)}, as a straight line"
        lines = [title, *table(header, [f.row(at) for f in fills[:limit]])]
        text = fit_lines(lines, "claims", "namespace", head=2, total=len(fills))
        names = ", ".join(f"{n}/{c}" for n, c in unmeasured[:5])
        notes = [f"({len(unmeasured)} claims are not measured, as no pod mounts them or their driver can't: {names})"]
        shown = fills[: min(limit, max(0, fitting(lines) - 2))]
        return ToolOutput(
            "\n".join([text, *(notes if unmeasured else [])]),
            {"claims": [f.data() for f in shown], "total": len(fills), "window_seconds": seconds},
        )


def _fill(key: tuple[str, ...], values: dict[str, dict[tuple[str, ...], float]], at: float) -> Fill:
    used, capacity = values["used"].get(key, math.nan), values["capacity"][key]
    available = values["available"].get(key, capacity - used)
    growth = values["growth"].get(key, math.nan) * _DAY
    full_at = math.nan
    if available <= 0:
        full_at = at
    elif growth > capacity * _STILL:
        full_at = at + available / growth * _DAY
    return Fill(key[0], key[1], used, capacity, growth, values["inodes"].get(key, math.nan), full_at)


def _days(days: float) -> str:
    if days < 1 / 24:
        return "now"
    return f"in {days * 24:.0f} hours" if days < 2 else f"in {days:.0f} days"
