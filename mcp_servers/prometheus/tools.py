"""What the Prometheus tool server offers: of each backend that there is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from mcp_servers.observing.connection import connection
from mcp_servers.observing.times import Clock
from mcp_servers.prometheus.actions.silences import Silences
from mcp_servers.prometheus.alerting import Alerting
from mcp_servers.prometheus.alertmanager import AlertmanagerApi
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.browsing import Browsing
from mcp_servers.prometheus.changes import Changes
from mcp_servers.prometheus.nodes import Nodes
from mcp_servers.prometheus.queries import Queries
from mcp_servers.prometheus.settings import Backends
from mcp_servers.prometheus.volumes import Volumes
from mcp_servers.prometheus.watching import Watching
from mcp_servers.prometheus.workloads import Workloads
from opswarm.mcp.tools import ToolSpec
from opswarm.service import Check

INSTRUCTIONS = (
    "Reads Prometheus (or what speaks its API) and Alertmanager. Usage, restarts, nodes, volumes and what changed need "
    "no PromQL: workload_usage, pod_restarts, node_saturation, volume_fill, metrics_changed. For PromQL look names up "
    "with metrics_find first. A result that is too large comes as a summary with a smaller query."
)

ACTING = (
    " silence_create and silence_expire change Alertmanager. Where one needs a person's approval it says so and "
    "nothing is done yet; don't call it again then, and don't look for another way."
)


@dataclass(frozen=True, slots=True)
class Apis:
    """What can be asked; None for what is not there."""

    prometheus: PrometheusApi | None = None
    alertmanager: AlertmanagerApi | None = None
    clock: Clock = field(default=time.time)

    def checks(self) -> dict[str, Check]:
        """Whether each answers, for readiness."""
        found: dict[str, Check] = {}
        if (prometheus := self.prometheus) is not None:
            found["Prometheus"] = prometheus.check
        if (alertmanager := self.alertmanager) is not None:
            found["Alertmanager"] = alertmanager.check
        return found


@asynccontextmanager
async def open_apis(backends: Backends) -> AsyncIterator[Apis]:
    """The APIs while their connections are open. Raises `SettingsInvalid` for certificates that can't be used."""
    async with AsyncExitStack() as stack:
        total, prometheus, alertmanager = backends.total, None, None
        if backends.metrics is not None:
            metrics = await stack.enter_async_context(connection("Prometheus", backends.metrics, total))
            rules = metrics
            if backends.rules is not None and backends.rules is not backends.metrics:
                rules = await stack.enter_async_context(connection("The ruler", backends.rules, total))
            prometheus = PrometheusApi(metrics, rules)
        if backends.alertmanager is not None:
            opened = await stack.enter_async_context(connection("Alertmanager", backends.alertmanager, total))
            alertmanager = AlertmanagerApi(opened)
        yield Apis(prometheus, alertmanager)


def declared() -> list[ToolSpec]:
    """Every tool, to be read about: there is nothing behind them."""
    return specs(Apis(cast(PrometheusApi, object()), cast(AlertmanagerApi, object())), actions=True)


def specs(apis: Apis, *, actions: bool = False) -> list[ToolSpec]:
    """Every tool that reads what is there, and with `actions` those that change something."""
    found: list[ToolSpec] = []
    if apis.prometheus is not None:
        found += _metrics(apis.prometheus, apis.clock)
    if apis.alertmanager is not None:
        alerting = Alerting(apis.alertmanager, apis.clock)
        found += [
            ToolSpec(alerting.alertmanager_alerts),
            ToolSpec(alerting.silences_list),
        ]
        found += Silences(apis.alertmanager, apis.clock).specs() if actions else []
    return found


def _metrics(api: PrometheusApi, clock: Clock) -> list[ToolSpec]:
    queries, browsing, watching = Queries(api, clock), Browsing(api, clock), Watching(api, clock)
    workloads = Workloads(api, clock)
    return [
        ToolSpec(queries.metrics_query, toolset="promql"),
        ToolSpec(queries.metrics_range, toolset="promql"),
        ToolSpec(browsing.metrics_find, toolset="promql"),
        ToolSpec(browsing.metrics_labels, toolset="promql"),
        ToolSpec(browsing.metrics_series, toolset="promql"),
        ToolSpec(watching.rules_list),
        ToolSpec(watching.alerts_list),
        ToolSpec(watching.targets_list),
        ToolSpec(workloads.workload_usage, timeout=90),
        ToolSpec(workloads.pod_restarts, timeout=90),
        ToolSpec(Nodes(api, clock).node_saturation, timeout=90),
        ToolSpec(Volumes(api, clock).volume_fill, timeout=90),
        ToolSpec(Changes(api, clock).metrics_changed, timeout=90),
    ]
