"""The RBAC rights that reading needs; a test holds the manifests to them.

Secrets are not among them: whoever grants them lets the tool server see their values, which it masks.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcp_servers.cluster.access import Right

BROWSED: Mapping[str, tuple[str, ...]] = {
    "": (
        "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "persistentvolumeclaims",
        "persistentvolumes", "pods", "replicationcontrollers", "resourcequotas", "serviceaccounts", "services",
    ),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "apiregistration.k8s.io": ("apiservices",),
    "apps": ("controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "discovery.k8s.io": ("endpointslices",),
    "events.k8s.io": ("events",),
    "helm.toolkit.fluxcd.io": ("helmreleases",),
    "kustomize.toolkit.fluxcd.io": ("kustomizations",),
    "metrics.k8s.io": ("nodes", "pods"),
    "networking.k8s.io": ("ingressclasses", "ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
    "scheduling.k8s.io": ("priorityclasses",),
    "source.toolkit.fluxcd.io": ("buckets", "gitrepositories", "helmcharts", "helmrepositories", "ocirepositories"),
    "storage.k8s.io": ("csidrivers", "csinodes", "storageclasses", "volumeattachments"),
}  # fmt: skip
"""By API group, what is looked at: listed and read one by one. Whoever grants more can read more."""

LOGS = Right("", "pods", "get", "log")

READS: frozenset[Right] = frozenset(
    {Right(group, plural, verb) for group, plurals in BROWSED.items() for plural in plurals for verb in ("get", "list")}
    | {LOGS}
)
