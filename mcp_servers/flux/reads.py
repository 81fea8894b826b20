"""The RBAC rights that reading needs; a test holds the manifests to them. Secrets are not among them."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_servers.cluster.access import Right
from mcp_servers.flux.kinds import KINDS

_OWNED: Mapping[str, tuple[str, ...]] = {
    "": ("configmaps", "persistentvolumeclaims", "pods", "serviceaccounts", "services"),
    "apps": ("daemonsets", "statefulsets"),
    "batch": ("cronjobs", "jobs"),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
}
"""What flux_owner is mostly asked about. Whoever grants more can ask about more."""

READS: frozenset[Right] = frozenset(
    {Right(kind.group, kind.plural, verb) for kind in KINDS for verb in ("get", "list")}
    | {Right("apps", "deployments", verb) for verb in ("get", "list")}
    | {
        Right("", "events", "list"),
        Right("", "pods", "list"),
        Right("", "pods", "get", "log"),
        Right("", "namespaces", "get"),
    }
    | {Right(group, plural, "get") for group, plurals in _OWNED.items() for plural in plurals}
)
