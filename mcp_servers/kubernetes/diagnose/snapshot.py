"""The objects of a cluster at one moment, indexed by kind, uid, owner and namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcp_servers.kubernetes.diagnose.events import Event, read_event
from mcp_servers.kubernetes.diagnose.fields import Obj, labels, name_of, namespace_of, rows, text, uid_of
from mcp_servers.kubernetes.diagnose.finding import ObjectRef

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Pod": ("",),
    "Service": ("",),
    "Endpoints": ("",),
    "Node": ("",),
    "PersistentVolumeClaim": ("",),
    "PersistentVolume": ("",),
    "Event": ("", "events.k8s.io"),
    "Deployment": ("apps",),
    "ReplicaSet": ("apps",),
    "StatefulSet": ("apps",),
    "DaemonSet": ("apps",),
    "Job": ("batch",),
    "CronJob": ("batch",),
    "Ingress": ("networking.k8s.io", "extensions"),
    "EndpointSlice": ("discovery.k8s.io",),
    "HorizontalPodAutoscaler": ("autoscaling",),
    "StorageClass": ("storage.k8s.io",),
    "APIService": ("apiregistration.k8s.io",),
}
"""The API groups of the kinds that analyzers read. The same kind of another group is something else."""

_CLIMBED = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"})


def ref_of(obj: Obj) -> ObjectRef:
    return ObjectRef(text(obj, "kind"), namespace_of(obj), name_of(obj))


def controller_of(obj: Obj) -> Obj:
    """The owner reference of the controller, empty when nothing owns the object."""
    owners = rows(obj, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller")), owners[0] if len(owners) == 1 else {})


def _flatten(objects: Iterable[Mapping[str, Any]]) -> Iterator[Obj]:
    for obj in objects:
        kind = text(obj, "kind")
        if not kind.endswith("List") or not isinstance(obj.get("items"), list):
            yield obj
            continue
        filled = {"kind": kind.removesuffix("List"), "apiVersion": text(obj, "apiVersion")}
        defaults = filled if filled["kind"] else {}
        yield from _flatten({**defaults, **item} for item in rows(obj, "items"))


@dataclass(frozen=True)
class Snapshot:
    """Made by `from_objects`. `missing` says of each resource that could not be listed why not."""

    missing: Mapping[str, str]
    _by_ref: Mapping[ObjectRef, Obj]
    _by_kind: Mapping[str, Sequence[Obj]]
    _by_uid: Mapping[str, Obj]
    _by_owner: Mapping[str, Sequence[Obj]]
    _events: Mapping[ObjectRef, Sequence[Event]] = field(repr=False)

    @classmethod
    def from_objects(
        cls, objects: Iterable[Mapping[str, Any]], missing: Mapping[str, str] | None = None
    ) -> Snapshot:
        """Indexes plain API objects. Lists are flattened, and items without a kind get their list's.

        `missing` maps a resource such as "pods" or "deployments.apps" to the reason it was not listed.
        """
        by_ref: dict[ObjectRef, Obj] = {}
        events: dict[ObjectRef, dict[tuple[str, str, str], Event]] = {}
        for obj in _flatten(objects):
            kind, group = text(obj, "kind"), text(obj, "apiVersion").rpartition("/")[0]
            if not kind or (text(obj, "apiVersion") and group not in GROUPS.get(kind, (group,))):
                continue
            if kind == "Event":
                event = read_event(obj)
                key = (uid_of(obj) or f"{namespace_of(obj)}/{name_of(obj)}", event.reason, event.message)
                events.setdefault(event.about, {})[key] = event
            else:
                by_ref[ref_of(obj)] = obj
        by_kind: dict[str, list[Obj]] = {}
        by_owner: dict[str, list[Obj]] = {}
        for obj in by_ref.values():
            by_kind.setdefault(text(obj, "kind"), []).append(obj)
            if owner := text(controller_of(obj), "uid"):
                by_owner.setdefault(owner, []).append(obj)
        by_uid = {uid: obj for obj in by_ref.values() if (uid := uid_of(obj))}
        newest = {
            about: sorted(found.values(), key=lambda e: e.last, reverse=True)
            for about, found in events.items()
        }
        return cls(dict(missing or {}), by_ref, by_kind, by_uid, by_owner, newest)

    def kind(self, *kinds: str, namespace: str = "") -> list[Obj]:
        """Objects of these kinds, of one namespace if named."""
        if namespace:
            return [obj for kind in kinds for obj in self._by_namespace.get((kind, namespace), ())]
        return [obj for kind in kinds for obj in self._by_kind.get(kind, ())]

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        return self._by_ref.get(ObjectRef(kind, namespace, name))

    def find(self, ref: ObjectRef) -> Obj | None:
        return self._by_ref.get(ref)

    def listed(self, resource: str) -> bool:
        """Whether the resource was listed. `missing` may name it with its API group or without."""
        plural = resource.partition(".")[0]
        return not any(
            name in (resource, plural) or name.partition(".")[0] == plural for name in self.missing
        )

    def objects(self) -> Iterable[Obj]:
        return self._by_ref.values()

    def children(self, obj: Obj) -> Sequence[Obj]:
        """What the object controls."""
        return self._by_owner.get(uid_of(obj), ())

    def events(self, obj: Obj, *reasons: str) -> list[Event]:
        """The events about this very object (not an earlier one of its name), newest first."""
        # The kubelet writes a node's name where its events should have the node's uid.
        uid = uid_of(obj) if text(obj, "kind") != "Node" else ""
        found = self._events.get(ref_of(obj), ())
        return [
            event
            for event in found
            if (not uid or not event.uid or event.uid == uid) and (not reasons or event.reason in reasons)
        ]

    def root(self, obj: Obj) -> ObjectRef:
        """The workload that a person would fix: the Deployment of a pod, the CronJob of a Job. A controller
        that is not in the snapshot is named from the owner reference."""
        while True:
            owner = controller_of(obj)
            kind = text(owner, "kind")
            if not kind or kind == "Node":
                return ref_of(obj)
            if text(obj, "kind") != "Pod" and kind not in _CLIMBED:
                return ref_of(obj)
            parent = self._by_uid.get(text(owner, "uid")) or self.get(
                kind, namespace_of(obj), text(owner, "name")
            )
            if parent is None:
                return self._absent(obj, kind, text(owner, "name"))
            if kind not in _CLIMBED:
                return ref_of(parent)
            obj = parent

    def _absent(self, obj: Obj, kind: str, name: str) -> ObjectRef:
        """A ReplicaSet that was not listed still tells its Deployment, when that one is there."""
        namespace = namespace_of(obj)
        marker = labels(obj).get("pod-template-hash", "")
        stem = name.removesuffix(f"-{marker}")
        if (
            kind == "ReplicaSet"
            and marker
            and stem != name
            and self.get("Deployment", namespace, stem) is not None
        ):
            return ObjectRef("Deployment", namespace, stem)
        return ObjectRef(kind, namespace, name)

    def pods_of(self, root: ObjectRef) -> list[Obj]:
        """The pods whose root is this workload."""
        if root.kind == "Pod":
            return [pod] if (pod := self.find(root)) is not None else []
        return self._pods_by_root.get(root, [])

    @cached_property
    def _pods_by_root(self) -> Mapping[ObjectRef, list[Obj]]:
        found: dict[ObjectRef, list[Obj]] = {}
        for pod in self.kind("Pod"):
            found.setdefault(self.root(pod), []).append(pod)
        return found

    @cached_property
    def _by_namespace(self) -> Mapping[tuple[str, str], list[Obj]]:
        found: dict[tuple[str, str], list[Obj]] = {}
        for kind, objects in self._by_kind.items():
            for obj in objects:
                found.setdefault((kind, namespace_of(obj)), []).append(obj)
        return found
