"""The `diagnose` tool: what is wrong, why, how we know, and what to do next."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from mcp_servers.cluster.report import Scope, render, to_data
from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes.diagnose.collect import add_logs, collect
from mcp_servers.kubernetes.diagnose.engine import diagnose
from mcp_servers.kubernetes.reading import Namespace
from mcp_servers.kubernetes.rendering import fit_text
from opswarm.mcp import arguments, progress
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
        found = await self._resources.find(kind) if kind else None
        wanted = found.kind if found else ""
        scope = Scope(arguments.namespace(namespace), wanted, arguments.name(name) if name else "")
        progress.note("reading the cluster")
        snapshot = await collect(self._resources, scope, found.full_name if found else "")
        # The engine takes a second in a large cluster, and other requests must not wait for it.
        report = await asyncio.to_thread(diagnose, snapshot, scope, datetime.now(UTC))
        progress.note("reading the logs of what is broken")
        report = await add_logs(self._resources, report)
        text = await asyncio.to_thread(render, report, limit)
        return ToolOutput(fit_text(text, "namespace, name or limit"), to_data(report, limit))
