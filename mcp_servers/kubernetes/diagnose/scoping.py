"""From a name to the objects it means, and from an object to everything that belongs to it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from mcp_servers.cluster.finding import ObjectRef, one_line
from mcp_servers.cluster.report import Scope
from mcp_servers.kubernetes.diagnose.fields import Obj, claims, labels, mapping, namespace_of, text
from mcp_servers.kubernetes.diagnose.ingresses import backends, routes
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of

_SEARCHED = (
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "CronJob",
    "Service",
    "Ingress",
    "PersistentVolumeClaim",
    "Node",
    "HorizontalPodAutoscaler",
    "Job",
    "ReplicaSet",
    "Pod",
)
_ALIASES = {
    "deploy": "Deployment",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "cj": "CronJob",
    "svc": "Service",
    "ing": "Ingress",
    "ingresses": "Ingress",
    "pvc": "PersistentVolumeClaim",
    "no": "Node",
    "hpa": "HorizontalPodAutoscaler",
    "rs": "ReplicaSet",
    "po": "Pod",
}
_MOST = 5


def kind_named(name: str) -> str:
    """The kind that a user means by `deploy`, `deployments`, `Deployment` or `deployments.apps`."""
    low = name.strip().lower().partition(".")[0]
    if low in _ALIASES:
        return _ALIASES[low]
    return next((kind for kind in _SEARCHED if low in (kind.lower(), f"{kind.lower()}s")), name.strip())


def _kind_in(snapshot: Snapshot, name: str) -> str:
    """The kind that `name` means, custom ones of the snapshot included."""
    known, low = kind_named(name), name.strip().lower().partition(".")[0]
    return next((kind for kind in snapshot.kinds() if low in (kind.lower(), plural(kind))), known)


def plural(kind: str) -> str:
    """The usual plural of a kind as resource names have it."""
    low = kind.lower()
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return f"{low[:-1]}ies"
    return f"{low}es" if low.endswith(("s", "x", "ch", "sh")) else f"{low}s"


def resolve(snapshot: Snapshot, scope: Scope) -> tuple[list[ObjectRef], list[str]]:
    """The objects that the scope means, at most five, and notes on what was chosen or why there is none."""
    wanted = scope.name.strip().lower()
    kinds = (_kind_in(snapshot, scope.kind),) if scope.kind else _SEARCHED
    if scope.kind and not snapshot.listed(plural(kinds[0])) and not snapshot.kind(kinds[0]):
        return [], [f"'{one_line(scope.name, 100)}' was not looked at: {kinds[0]} objects were not read."]
    pool = [
        ref_of(obj)
        for kind in kinds
        for obj in snapshot.kind(kind)
        if not scope.namespace or namespace_of(obj) in ("", scope.namespace)
    ]
    found = [ref for ref in pool if ref.name.lower() == wanted]
    exact = bool(found)
    if not found:
        found = _heads(snapshot, [ref for ref in pool if wanted in ref.name.lower()])
    named = one_line(scope.name, 100)
    if not found:
        close = difflib.get_close_matches(wanted, sorted({ref.name for ref in pool}), n=3, cutoff=0.5)
        hint = f" Close names: {', '.join(close)}." if close else ""
        return [], [f"Nothing is called '{named}' in {_where(scope)}.{hint}"]
    if exact:
        found = _heads(snapshot, found)
    if len(found) == 1:
        return found, [] if exact else [f"No object is called exactly '{named}'; this is about {found[0]}."]
    chosen = found[:_MOST]
    more = f" and {len(found) - _MOST} more, not looked at" if len(found) > _MOST else ""
    return chosen, [f"'{named}' matches {', '.join(map(str, chosen))}{more}."]


def _where(scope: Scope) -> str:
    place = f"namespace {one_line(scope.namespace, 80)}" if scope.namespace else "the cluster"
    return f"{place} among {kind_named(one_line(scope.kind, 60))} objects" if scope.kind else place


def _heads(snapshot: Snapshot, found: list[ObjectRef]) -> list[ObjectRef]:
    """Without what belongs to another match: the pods and the Service of a Deployment come with it."""
    kept: list[ObjectRef] = []
    covered: set[ObjectRef] = set()
    leading = routes(snapshot)
    for ref in found:
        if ref not in covered:
            kept.append(ref)
            covered |= related(snapshot, ref, leading)
    return kept


def related(
    snapshot: Snapshot, ref: ObjectRef, leading: Mapping[ObjectRef, Sequence[ObjectRef]] | None = None
) -> set[ObjectRef]:
    """The object with its owners, its children, their Services, Ingresses, claims, autoscalers and nodes.

    `leading` is what `routes` gives, for a caller that asks about many objects.
    """
    start = snapshot.find(ref)
    if start is None:
        return {ref}
    if ref.kind == "Node":
        return {ref}
    near = {ref, snapshot.root(start)}
    tree = _tree(snapshot, _entry_points(snapshot, start))
    near |= {ref_of(obj) for obj in tree}
    for obj in tree:
        near |= _around(snapshot, obj)
    leading = routes(snapshot) if leading is None else leading
    for service in [one for one in near if one.kind == "Service"]:
        near |= set(leading.get(service, ()))
    return near


def _entry_points(snapshot: Snapshot, obj: Obj) -> list[Obj]:
    """Where the tree of owners and children starts: from a Service or an Ingress it is the pods behind it."""
    kind, namespace = text(obj, "kind"), namespace_of(obj)
    if kind == "Ingress":
        names = {text(backend, "name") for _, backend in backends(obj)}
        services = [one for name in names if (one := snapshot.get("Service", namespace, name)) is not None]
        return [obj, *services, *(pod for one in services for pod in _behind(snapshot, one))]
    if kind == "Service":
        return [obj, *_behind(snapshot, obj)]
    if kind == "PersistentVolumeClaim":
        return [obj, *snapshot.users(obj)]
    if kind == "HorizontalPodAutoscaler":
        target = mapping(obj, "spec", "scaleTargetRef")
        found = snapshot.get(text(target, "kind"), namespace, text(target, "name"))
        return [obj] if found is None else [obj, found]
    return [obj]


def _behind(snapshot: Snapshot, service: Obj) -> list[Obj]:
    return snapshot.selected(mapping(service, "spec", "selector"), namespace_of(service))


def _tree(snapshot: Snapshot, starts: list[Obj]) -> list[Obj]:
    """The starts, all that owns them, and all that they own."""
    found: dict[ObjectRef, Obj] = {}
    for obj in starts:
        node: Obj | None = obj
        while node is not None and ref_of(node) not in found:
            found[ref_of(node)] = node
            owner = controller_of(node)
            node = (
                snapshot.get(text(owner, "kind"), namespace_of(node), text(owner, "name")) if owner else None
            )
    queue = list(starts)
    while queue:
        for child in snapshot.children(queue.pop()):
            if ref_of(child) not in found:
                found[ref_of(child)] = child
                queue.append(child)
    return list(found.values())


def _around(snapshot: Snapshot, obj: Obj) -> set[ObjectRef]:
    """What serves, stores, scales or runs one object of the tree."""
    namespace, kind = namespace_of(obj), text(obj, "kind")
    carried = labels(obj) if kind == "Pod" else mapping(obj, "spec", "template", "metadata", "labels")
    near = {ref_of(service) for service in snapshot.services_for(carried, namespace)}
    near |= {ref_of(hpa) for hpa in snapshot.scalers(ref_of(obj))}
    if kind == "Pod":
        near |= {ObjectRef("PersistentVolumeClaim", namespace, name) for name in claims(obj)}
        if node := text(obj, "spec", "nodeName"):
            near.add(ObjectRef("Node", "", node))
    return near
