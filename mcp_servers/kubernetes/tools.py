"""What the Kubernetes tool server offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from mcp_servers.cluster.connection import Cluster, open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.kubernetes.actions.specs import action_specs
from mcp_servers.kubernetes.diagnosis import Diagnosis
from mcp_servers.kubernetes.pods import Pods
from mcp_servers.kubernetes.reading import Reading
from mcp_servers.kubernetes.rollouts import Rollouts
from mcp_servers.kubernetes.search import Search
from opswarm.mcp.tools import ToolSpec

INSTRUCTIONS = (
    "Reads a Kubernetes cluster. For anything broken call diagnose first: it names causes with "
    "evidence. Names may be found with find. Lists take selectors, limit and a cursor. Secret values are masked."
)

ACTING = (
    " What changes something is an action: one object each, by its exact name. Where it needs a person's approval it "
    "says so and nothing is done yet; don't call it again then, and don't look for another way."
)


@asynccontextmanager
async def kubernetes_tools(
    settings: ClusterSettings, *, actions: bool = False
) -> AsyncIterator[tuple[Cluster, list[ToolSpec]]]:
    """The cluster and its tools while the connection is open, with its `actions` or without. Raises
    `SettingsInvalid`."""
    async with open_cluster(settings) as cluster:
        yield cluster, specs(Resources(cluster), actions=actions)


def declared() -> list[ToolSpec]:
    """Every tool, to be read about: there is no cluster behind them."""
    return specs(Resources(cast(Cluster, None)), actions=True)


def specs(resources: Resources, *, actions: bool = False) -> list[ToolSpec]:
    """Every tool that reads, and with `actions` those that change something."""
    reading, pods, search, rollouts = (
        Reading(resources),
        Pods(resources),
        Search(resources),
        Rollouts(resources),
    )
    return [
        ToolSpec(Diagnosis(resources).diagnose, timeout=90),
        ToolSpec(search.find),
        ToolSpec(reading.resources_list),
        ToolSpec(reading.resources_get),
        ToolSpec(pods.pods_log),
        ToolSpec(reading.pods_list),
        ToolSpec(pods.pods_top, toolset="capacity"),
        ToolSpec(pods.events_list),
        ToolSpec(reading.nodes_list, toolset="capacity"),
        ToolSpec(reading.namespaces_list, toolset="capacity"),
        ToolSpec(rollouts.rollout_status, toolset="rollouts"),
        ToolSpec(rollouts.rollout_history, toolset="rollouts"),
        ToolSpec(search.lineage, toolset="rollouts"),
        *(action_specs(resources) if actions else ()),
    ]
