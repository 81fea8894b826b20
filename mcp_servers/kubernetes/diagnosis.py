"""The `diagnose` tool: what is wrong, why, how we know, and what to do next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from mcp_servers.kubernetes import arguments
from mcp_servers.kubernetes.diagnose.collect import add_logs, collect
from mcp_servers.kubernetes.diagnose.engine import diagnose
from mcp_servers.kubernetes.diagnose.report import Scope, render, to_data
from mcp_servers.kubernetes.reading import Namespace
from mcp_servers.kubernetes.rendering import fit_text
from mcp_servers.kubernetes.resources import Resources
from opswarm.mcp.tools import ToolOutput


class Diagnosis:
    """Diagnosing one cluster."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def diagnose(
        self,
        namespace: Namespace = "",
        name: Annotated[str, Field(description="One object, by name or part of it; empty for all.")] = "",
        kind: Annotated[str, Field(description="Its kind; empty for any.")] = "",
        limit: Annotated[int, Field(description="Most findings, 1 to 50.")] = 10,
    ) -> ToolOutput:
        """Find what is broken in the cluster, a namespace or one object: ranked causes with evidence and next step."""
        arguments.bounded(limit, 1, 50, "limit")
        wanted = (await self._resources.find(kind)).kind if kind else ""
        scope = Scope(arguments.namespace(namespace), wanted, arguments.name(name) if name else "")
        snapshot = await collect(self._resources, scope)
        report = await add_logs(self._resources, diagnose(snapshot, scope, datetime.now(UTC)))
        return ToolOutput(fit_text(render(report, limit), "namespace, name or limit"), to_data(report))
