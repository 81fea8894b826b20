"""The CustomResourceDefinitions of the custom resources in the registry."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.objects import Obj
from lab.registry import RESOURCES, Resource
from lab.times import rfc3339

_READY = '.status.conditions[?(@.type=="Ready")]'
AGE: Obj = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_CONDITION: tuple[Obj, ...] = (
    {"name": "Ready", "type": "string", "jsonPath": f"{_READY}.status"},
    {"name": "Status", "type": "string", "jsonPath": f"{_READY}.message"},
)
_FIRST = {
    "Bucket": ("Endpoint", ".spec.endpoint"),
    "GitRepository": ("URL", ".spec.url"),
    "HelmRepository": ("URL", ".spec.url"),
    "OCIRepository": ("URL", ".spec.url"),
}
_CHART = (
    ("Chart", ".spec.chart"),
    ("Version", ".spec.version"),
    ("Source Kind", ".spec.sourceRef.kind"),
    ("Source Name", ".spec.sourceRef.name"),
)


def _column(name: str, path: str) -> Obj:
    return {"name": name, "type": "string", "jsonPath": path}


def printer_columns(kind: str) -> list[Obj]:
    """additionalPrinterColumns of a kind, as its CRD has them."""
    if kind == "Certificate":
        return [_CONDITION[0], _column("Secret", ".spec.secretName"), AGE]
    if kind == "ReplicationSource":
        return [_column("Source", ".spec.sourcePVC"), _column("Last Sync", ".status.lastSyncTime")]
    if kind in ("Alert", "Provider"):
        return [AGE]
    if kind == "OCIRepository":
        return [_column(*_FIRST[kind]), *_CONDITION, AGE]
    if kind == "HelmChart":
        return [*(_column(*pair) for pair in _CHART), AGE, *_CONDITION]
    if kind == "ExternalArtifact":
        return [AGE, *_CONDITION, _column("Source", ".spec.sourceRef.name")]
    return [*([_column(*_FIRST[kind])] if kind in _FIRST else []), AGE, *_CONDITION]


def _version(item: Resource) -> Obj:
    opened = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": opened,
                "status": opened,
            },
        }
    }
    return {
        "name": item.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": printer_columns(item.kind),
        "schema": schema,
    }


def _accepted(created: str) -> list[Obj]:
    return [
        {
            "type": "NamesAccepted",
            "status": "True",
            "lastTransitionTime": created,
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": created,
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]


def _definition(item: Resource, created: str) -> Obj:
    names: Obj = {
        "categories": list(item.categories),
        "kind": item.kind,
        "listKind": f"{item.kind}List",
        "plural": item.plural,
        "singular": item.singular,
    }
    if item.short:
        names["shortNames"] = list(item.short)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": item.qualified,
            "creationTimestamp": created,
            "generation": 1,
            "labels": {"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/version": "v2.7.3"},
        },
        "spec": {
            "group": item.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(item)],
            "conversion": {"strategy": "None"},
        },
        "status": {
            "acceptedNames": names,
            "conditions": _accepted(created),
            "storedVersions": [item.version],
        },
    }


def definitions(now: datetime) -> list[Obj]:
    created = rfc3339(now - timedelta(days=301))
    return [_definition(item, created) for item in RESOURCES if item.custom]
