"""Every action of the Kubernetes tool server, in one list."""

from __future__ import annotations

from mcp_servers.kubernetes.actions.applying import Applying
from mcp_servers.kubernetes.actions.cronjobs import CronJobs
from mcp_servers.kubernetes.actions.draining import Draining
from mcp_servers.kubernetes.actions.finished import Finished
from mcp_servers.kubernetes.actions.labelling import Labelling
from mcp_servers.kubernetes.actions.nodes import NodeActions
from mcp_servers.kubernetes.actions.objects import Objects
from mcp_servers.kubernetes.actions.pods import PodActions
from mcp_servers.kubernetes.actions.rollouts import Rollouts
from mcp_servers.kubernetes.actions.scaling import Scaling
from mcp_servers.kubernetes.actions.waiting import Time
from mcp_servers.kubernetes.cluster import Cluster
from mcp_servers.kubernetes.resources import Resources
from opswarm.mcp.tools import ToolSpec


def action_specs(cluster: Cluster, resources: Resources | None = None, by: Time | None = None) -> list[ToolSpec]:
    """The actions on one cluster. `resources` shares what was discovered; `by` is the clock that waits go by."""
    objects, time = Objects(resources or Resources(cluster)), by or Time()
    return [
        *Rollouts(objects, time).specs(),
        *Scaling(objects, time).specs(),
        *PodActions(objects, time).specs(),
        *NodeActions(objects).specs(),
        *Draining(objects, time).specs(),
        *Finished(objects, time).specs(),
        *CronJobs(objects, time).specs(),
        *Applying(objects, time).specs(),
        *Labelling(objects).specs(),
    ]
