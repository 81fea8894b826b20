"""The RBAC rights that each action needs."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_servers.cluster.access import Right


def _each(group: str, resources: str, verbs: str) -> tuple[Right, ...]:
    return tuple(Right(group, resource, verb) for resource in resources.split() for verb in verbs.split())


_REVISIONS = _each("apps", "replicasets controllerrevisions", "get list")
_PODS = _each("", "pods", "get list")
_EVICT = Right("", "pods", "create", "eviction")
_WORKLOADS = _each("apps", "deployments statefulsets daemonsets", "get patch")
# A workload's replicas are patched in the workload, not in its scale: the same write leaves the key.
_SCALED = _each("apps", "deployments statefulsets", "get patch")

APPLIED: Mapping[str, tuple[str, ...]] = {
    "": ("configmaps", "services", "persistentvolumeclaims"),
    "apps": ("deployments", "statefulsets", "daemonsets"),
    "batch": ("cronjobs", "jobs"),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
    "autoscaling": ("horizontalpodautoscalers",),
}
"""What apply_manifest is granted by default. Whoever grants more can apply more, within the hard limits."""

_LABELLED = (
    *_each("", "nodes pods services configmaps", "get patch"),
    *_WORKLOADS,
    *_each("batch", "jobs cronjobs", "get patch"),
    *_each("networking.k8s.io", "ingresses", "get patch"),
)

RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "rollout_restart": (*_WORKLOADS, *_PODS),
    "rollout_undo": (*_WORKLOADS, *_REVISIONS, *_PODS),
    "rollout_pause": _each("apps", "deployments", "get patch"),
    "rollout_resume": (*_each("apps", "deployments", "get patch"), *_PODS),
    "scale": (*_SCALED, *_each("autoscaling", "horizontalpodautoscalers", "list"), *_PODS),
    "delete_pod": (*_each("", "pods", "get delete"), *_each("apps", "replicasets statefulsets daemonsets", "get")),
    "evict_pod": (
        *_each("", "pods", "get"), _EVICT, *_each("apps", "replicasets statefulsets daemonsets", "get"),
    ),
    "cordon": _each("", "nodes", "get patch"),
    "uncordon": _each("", "nodes", "get patch"),
    "drain": (*_each("", "nodes", "get patch"), *_PODS, _EVICT),
    "delete_finished": (*_each("batch", "jobs", "get delete"), *_each("", "pods", "get delete")),
    "trigger_cronjob": (*_each("batch", "cronjobs", "get"), *_each("batch", "jobs", "get create")),
    "apply_manifest": tuple(
        right for group, plurals in APPLIED.items() for right in _each(group, " ".join(plurals), "get patch create")
    ),
    "label": _LABELLED,
    "annotate": _LABELLED,
}  # fmt: skip
"""By tool, all that it may ask of the API server besides discovery and reviews of its own access."""
