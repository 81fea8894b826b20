"""The `flux_diagnose` tool: what is wrong with Flux, why, how we know, and what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from pydantic import Field

from mcp_servers.cluster.finding import Finding
from mcp_servers.cluster.report import Report, Scope, render, to_data
from mcp_servers.flux.diagnosing import diagnose
from mcp_servers.flux.fields import Obj
from mcp_servers.flux.kinds import kind_named
from mcp_servers.flux.reading import Namespace, now
from mcp_servers.flux.snapshot import Flux, unreadable
from opswarm.errors import NotFound, OpswarmError
from opswarm.mcp import arguments
from opswarm.mcp.text import fit_text
from opswarm.mcp.tools import ToolOutput

_NO_FLUX = "there is none in this cluster, none of its CRDs is installed."
_DRIFTED = ("DriftDetected", "DriftCorrected")


class FluxDiagnosis:
    """Diagnosing Flux of one cluster."""

    def __init__(self, flux: Flux, clock: Callable[[], datetime] = now) -> None:
        self._flux = flux
        self._clock = clock

    async def flux_diagnose(
        self,
        namespace: Namespace = "",
        name: Annotated[str, Field(description="Exact name; empty: all.")] = "",
        kind: Annotated[str, Field(description="Such as Kustomization; empty: any.")] = "",
        limit: Annotated[int, Field(description="Most findings, 1 to 50.")] = 10,
    ) -> ToolOutput:
        """Find what is wrong with Flux: each cause once, with what it holds up, evidence and next step."""
        arguments.bounded(limit, 1, 50, "limit")
        scope = Scope(
            arguments.namespace(namespace),
            kind_named(kind).kind if kind else "",
            arguments.name(name) if name else "",
        )
        # All of it, whatever the scope: what is why may be in another namespace.
        shot = await self._flux.snapshot()
        missing = dict(shot.failed)
        controllers = await self._controllers(missing)
        if not shot.is_there and controllers is None:
            if scope.name or scope.kind:
                raise NotFound(f"Flux: {_NO_FLUX}")
            nothing = Report((), scope, {}, about="Flux", absent=_NO_FLUX)
            return ToolOutput(await asyncio.to_thread(render, nothing), to_data(nothing))
        drifts = await self._drifts(missing)
        found, notes = await asyncio.to_thread(diagnose, shot, controllers or [], drifts, self._clock())
        checked = {k: sum(ref[0] == k for ref in shot.objects) for k in sorted({ref[0] for ref in shot.objects})}
        within = [ref for ref in shot.objects if _is_within(scope, *ref)]
        if (scope.name or scope.kind) and not within:
            raise NotFound(
                f"Flux has no {scope.kind or 'object'} {scope.name or ''} there.".replace("  ", " "),
                hint="flux_list shows those there are.",
            )
        report = Report(
            tuple(f for f in found if _concerns(scope, f)),
            scope,
            checked if not (scope.namespace or scope.name or scope.kind) else {"objects": len(within)},
            len({ref[1] for ref in within}),
            missing,
            tuple(notes),
            about="Flux",
        )
        text = await asyncio.to_thread(render, report, limit)
        return ToolOutput(fit_text(text, "namespace, name or limit"), to_data(report, limit))

    async def _controllers(self, missing: dict[str, str]) -> list[Obj] | None:
        """Flux's controllers; None where the cluster has none."""
        try:
            return await self._flux.controllers()
        except NotFound as error:
            missing["controllers"] = unreadable(error)
            return None
        except OpswarmError as error:
            missing["controllers"] = unreadable(error)
            return []

    async def _drifts(self, missing: dict[str, str]) -> list[Obj]:
        found: list[Obj] = []
        for reason in _DRIFTED:
            selector = f"involvedObject.kind=HelmRelease,reason={reason}"
            try:
                found += await self._flux.resources.list_all("events", field_selector=selector)
            except OpswarmError as error:
                missing["events of drift"] = unreadable(error)
        return [event for event in found if event.get("reason") in _DRIFTED]


def _is_within(scope: Scope, kind: str, namespace: str, name: str) -> bool:
    wanted = ((scope.kind, kind), (scope.namespace, namespace), (scope.name, name))
    return all(not asked or asked == has for asked, has in wanted)


def _concerns(scope: Scope, finding: Finding) -> bool:
    """Whether it is about, or holds up, what is asked about."""
    about = (finding.object, *finding.affects)
    return any(_is_within(scope, one.kind, one.namespace, one.name) for one in about)
