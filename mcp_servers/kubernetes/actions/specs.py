"""The actions, put together."""

from __future__ import annotations

from dataclasses import replace

from mcp_servers.cluster.objects import Objects
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.applying import Applying
from mcp_servers.kubernetes.actions.cronjobs import CronJobs
from mcp_servers.kubernetes.actions.draining import Draining
from mcp_servers.kubernetes.actions.finished import Finished
from mcp_servers.kubernetes.actions.labelling import Labelling
from mcp_servers.kubernetes.actions.nodes import NodeActions
from mcp_servers.kubernetes.actions.pods import PodActions
from mcp_servers.kubernetes.actions.rollouts import Rollouts
from mcp_servers.kubernetes.actions.scaling import Scaling
from opswarm.mcp.tools import ToolSpec

TOOLSET = "actions"


def action_specs(resources: Resources, by: Time | None = None) -> list[ToolSpec]:
    """Every action on the cluster behind `resources`. `by` is the time that their waiting goes by."""
    objects, clock = Objects(resources), by or Time()
    families = (
        Rollouts(objects, clock),
        Scaling(objects, clock),
        PodActions(objects, clock),
        NodeActions(objects),
        Draining(objects, clock),
        Finished(objects, clock),
        CronJobs(objects, clock),
        Applying(objects, clock),
        Labelling(objects),
    )
    return [replace(spec, toolset=TOOLSET) for family in families for spec in family.specs()]
