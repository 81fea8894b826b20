"""The actions, put together."""

from __future__ import annotations

from dataclasses import replace

from mcp_servers.cluster.objects import Objects
from mcp_servers.cluster.waiting import Time
from mcp_servers.flux.actions.reconciling import Reconciling
from mcp_servers.flux.actions.suspending import Suspending
from mcp_servers.flux.snapshot import Flux
from opswarm.mcp.tools import ToolSpec

TOOLSET = "actions"


def action_specs(flux: Flux, by: Time | None = None) -> list[ToolSpec]:
    """Every action on Flux's objects. `by` is the time that their waiting goes by."""
    objects, clock = Objects(flux.resources), by or Time()
    families = (Reconciling(objects, clock), Suspending(flux, objects, clock))
    return [replace(spec, toolset=TOOLSET) for family in families for spec in family.specs()]
