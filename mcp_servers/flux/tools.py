"""What the Flux tool server offers."""

from __future__ import annotations

from typing import cast

from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.flux.actions.specs import action_specs
from mcp_servers.flux.changes import Changes
from mcp_servers.flux.diagnosis import FluxDiagnosis
from mcp_servers.flux.logs import FluxLogs
from mcp_servers.flux.reading import Reading
from mcp_servers.flux.snapshot import Flux
from opswarm.mcp.tools import ToolSpec

INSTRUCTIONS = (
    "Reads what Flux does in a Kubernetes cluster. When something is broken begin with flux_diagnose; flux_owner says "
    "what applies an object and where in Git it is. Reconciling is under way, not broken. What Flux manages is mended "
    "in Git."
)

ACTING = (
    " flux_reconcile, flux_suspend and flux_resume are actions: one object each, by its exact name. Where one needs a "
    "person's approval it says so and nothing is done yet; don't call it again then, and don't look for another way."
)


def declared() -> list[ToolSpec]:
    """Every tool, to be read about: there is no cluster behind them."""
    return specs(Resources(cast(Cluster, None)), actions=True)


def specs(resources: Resources, *, actions: bool = False) -> list[ToolSpec]:
    """Every tool that reads, and with `actions` those that change something."""
    flux = Flux(resources)
    reading = Reading(flux)
    return [
        ToolSpec(FluxDiagnosis(flux).flux_diagnose, timeout=90),
        ToolSpec(reading.flux_report, timeout=90),
        ToolSpec(reading.flux_list, timeout=90),
        ToolSpec(reading.flux_get),
        ToolSpec(reading.flux_tree, toolset="trace"),
        ToolSpec(reading.flux_owner, toolset="trace"),
        ToolSpec(FluxLogs(flux).flux_logs, toolset="trace"),
        ToolSpec(Changes(flux).flux_changes, toolset="trace"),
        *(action_specs(flux) if actions else ()),
    ]
