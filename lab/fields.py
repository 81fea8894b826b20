"""Field selectors: the few fields of each kind that the API can select by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.objects import Obj
from lab.registry import Resource
from lab.status import bad_request

_POD = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT = (*(f"involvedObject.{name}" for name in _INVOLVED), "reason", "reportingComponent", "type", "source")
_EXTRA: dict[str, tuple[str, ...]] = {
    "pods": _POD,
    "events": _EVENT,
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "namespaces": ("status.phase", "name"),
    "jobs.batch": ("status.successful",),
    "replicasets.apps": ("status.replicas",),
    "services": ("spec.clusterIP", "spec.type"),
}
_SPECIAL: dict[str, Callable[[Obj], object]] = {
    "source": lambda obj: (obj.get("source") or {}).get("component") or obj.get("reportingComponent"),
    "name": lambda obj: obj["metadata"].get("name"),
    "status.successful": lambda obj: (obj.get("status") or {}).get("succeeded", 0),
    "spec.unschedulable": lambda obj: bool((obj.get("spec") or {}).get("unschedulable")),
    "spec.hostNetwork": lambda obj: bool((obj.get("spec") or {}).get("hostNetwork")),
}


@dataclass(frozen=True)
class FieldTerm:
    path: str
    value: str
    equal: bool

    def matches(self, obj: Obj) -> bool:
        return (field_text(obj, self.path) == self.value) is self.equal


FieldSelector = tuple[FieldTerm, ...]


def field_text(obj: Obj, path: str) -> str:
    """The selectable field as text: missing is empty, booleans are lower case."""
    found: object
    if path in _SPECIAL:
        found = _SPECIAL[path](obj)
    else:
        found = obj
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


def matches(selector: FieldSelector, obj: Obj) -> bool:
    return all(term.matches(obj) for term in selector)


def _supported(resource: Resource, path: str) -> str:
    """The stored field that `path` stands for. Raises the API's 400."""
    if resource.group == "events.k8s.io":
        path = path.replace("regarding.", "involvedObject.").replace(
            "reportingController", "reportingComponent"
        )
    if path in ("metadata.name", "metadata.namespace") or path in _EXTRA.get(resource.storage, ()):
        return path
    if resource.storage in _EXTRA:
        raise bad_request(f"field label not supported: {path}")
    raise bad_request(
        f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        if not resource.custom
        else f"field label not supported: {path}"
    )


def parse_field_selector(text: str, resource: Resource) -> FieldSelector:
    """Reads a fieldSelector parameter for this resource. Raises the API's 400."""
    terms = []
    for part in text.split(","):
        if not part.strip():
            continue
        for op, equal in (("!=", False), ("==", True), ("=", True)):
            if op in part:
                path, value = (side.strip() for side in part.split(op, 1))
                terms.append(FieldTerm(_supported(resource, path), value, equal))
                break
        else:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    return tuple(terms)
