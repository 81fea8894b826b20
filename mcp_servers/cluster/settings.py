"""How the tool server finds its cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opswarm.settings import Settings


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """`connect` and `total` are seconds. With `in_cluster` the pod's service account is used and the rest ignored."""

    kubeconfig: Path | None = None
    context: str | None = None
    in_cluster: bool = False
    connect: float = 5.0
    total: float = 30.0


def chosen(settings: Settings) -> ClusterSettings:
    """The cluster that the settings name."""
    kubernetes = settings.kubernetes
    return ClusterSettings(kubernetes.kubeconfig, kubernetes.context, kubernetes.in_cluster)
