"""The RBAC rights that each action needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mcp_servers.cluster.access import Right
from mcp_servers.flux.actions.chosen import NEVER_RECONCILED, NEVER_SUSPENDED
from mcp_servers.flux.kinds import APPLIERS, KINDS


def _on(never: Collection[str]) -> tuple[Right, ...]:
    return tuple(
        Right(kind.group, kind.plural, verb) for kind in KINDS if kind.kind not in never for verb in ("get", "patch")
    )


_LISTED = tuple(Right(kind.group, kind.plural, "list") for kind in KINDS if kind.kind in APPLIERS)

RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "flux_reconcile": (*_on(NEVER_RECONCILED), *_LISTED),
    "flux_suspend": (*_on(NEVER_SUSPENDED), *_LISTED),
    "flux_resume": (*_on(NEVER_SUSPENDED), *_LISTED),
}
"""By tool, all that it may ask of the API server besides discovery and reviews of its own access."""
