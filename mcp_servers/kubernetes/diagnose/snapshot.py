"""The objects of a cluster at one moment, indexed by kind, uid, owner and namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from mcp_servers.cluster.finding import ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.events import Event, read_event
from mcp_servers.kubernetes.diagnose.fields import (
    Obj,
    claims,
    labels,
    mapping,
    matches,
    name_of,
    namespace_of,
    rows,
    text,
    uid_of,
)

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
    "IngressClass": ("networking.k8s.io", "extensions"),
    "StorageClass": ("storage.k8s.io",),
    "APIService": ("apiregistration.k8s.io",),
}
"""The API groups of the kinds that analyzers read. The same kind of another group is something else."""

_TEMPLATE_LABELS = ("spec", "template", "metadata", "labels")
_SLICE_OF = "kubernetes.io/service-name"
_CLIMBED = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"})


def ref_of(obj: Obj) -> ObjectRef:
    return ObjectRef(text(obj, "kind"), namespace_of(obj), name_of(obj))


def controller_of(obj: Obj) -> Obj:
    """The owner reference of the controller, empty when nothing owns the object."""
    owners = rows(obj, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller")), owners[0] if len(owners) == 1 else {})


def _owner_ref(
    owner: Obj, namespace: str, by_uid: Mapping[str, Obj], by_ref: Mapping[ObjectRef, Obj]
) -> ObjectRef:
    """The owner by its uid; by its name where nothing has that uid, as in a cluster restored from a backup."""
    if (found := by_uid.get(text(owner, "uid"))) is not None:
        return ref_of(found)
    ref = ObjectRef(text(owner, "kind"), namespace, text(owner, "name"))
    above = ObjectRef(ref.kind, "", ref.name)
    return above if ref not in by_ref and above in by_ref else ref


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
    """Made by `from_objects`. `missing` says of each resource that could not be listed why not, `complete` which
    were listed for certain, so that of these even an empty list tells something."""

    missing: Mapping[str, str]
    complete: frozenset[str]
    _by_ref: Mapping[ObjectRef, Obj]
    _by_kind: Mapping[str, Sequence[Obj]]
    _by_uid: Mapping[str, Obj]
    _by_owner: Mapping[ObjectRef, Sequence[Obj]]
    _events: Mapping[ObjectRef, Sequence[Event]] = field(repr=False)
    judged: dict[ObjectRef, tuple[Severity, str]] = field(default_factory=dict, repr=False, compare=False)
    """What `impact` has said of a workload, which many pods ask about."""

    @classmethod
    def from_objects(
        cls,
        objects: Iterable[Mapping[str, Any]],
        missing: Mapping[str, str] | None = None,
        listed: frozenset[str] = frozenset(),
    ) -> Snapshot:
        """Indexes plain API objects. Lists are flattened, and items without a kind get their list's.

        `missing` maps a resource such as "pods" or "deployments.apps" to the reason it was not listed,
        `listed` names those that were.
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
        by_owner: dict[ObjectRef, list[Obj]] = {}
        by_uid = {uid: obj for obj in by_ref.values() if (uid := uid_of(obj))}
        for ref, obj in by_ref.items():
            by_kind.setdefault(ref.kind, []).append(obj)
            if owner := controller_of(obj):
                by_owner.setdefault(_owner_ref(owner, ref.namespace, by_uid, by_ref), []).append(obj)
        newest = {
            about: sorted(found.values(), key=lambda e: e.last, reverse=True)
            for about, found in events.items()
        }
        return cls(dict(missing or {}), listed, by_ref, by_kind, by_uid, by_owner, newest)

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
        return self._by_owner.get(ref_of(obj), ())

    def kinds(self) -> Iterable[str]:
        return self._by_kind.keys()

    def events(self, obj: Obj, *reasons: str) -> list[Event]:
        """The events about this very object (not an earlier one of its name), newest first.

        Where no event has its uid, those of its name count: objects restored from a backup have new uids, and the
        kubelet's events about a static pod or a node have another uid than the API's object.
        """
        uid, found = uid_of(obj), self._events.get(ref_of(obj), ())
        if uid and text(obj, "kind") != "Node" and any(event.uid == uid for event in found):
            found = [event for event in found if event.uid in ("", uid)]
        return [event for event in found if not reasons or event.reason in reasons]

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
            parent = self.find(_owner_ref(owner, namespace_of(obj), self._by_uid, self._by_ref))
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

    def selected(self, selector: Mapping[str, Any], namespace: str) -> list[Obj]:
        """The pods of the namespace that a Service with this selector would choose."""
        pools = [self._pods_by_label.get((namespace, str(k), str(v)), []) for k, v in selector.items()]
        # The smallest pool has them all.
        return [pod for pod in min(pools, key=len, default=[]) if matches(selector, labels(pod))]

    def services_for(self, carried: Mapping[str, Any], namespace: str) -> list[Obj]:
        """The Services of the namespace whose selector chooses pods with these labels."""
        pools = [self._services_by_label.get((namespace, str(k), str(v)), ()) for k, v in carried.items()]
        return [one for pool in pools for one in pool if matches(mapping(one, "spec", "selector"), carried)]

    def slices(self, service: Obj) -> Sequence[Obj]:
        """The EndpointSlices of a Service."""
        return self._slices.get((namespace_of(service), name_of(service)), ())

    def users(self, claim: Obj) -> Sequence[Obj]:
        """The pods that mount a claim."""
        return self._pods_by_claim.get((namespace_of(claim), name_of(claim)), ())

    def templated(self, service: Obj, *kinds: str) -> list[Obj]:
        """The workloads of these kinds whose pod template a Service would choose."""
        selector, namespace = mapping(service, "spec", "selector"), namespace_of(service)
        pools = [self._templates_by_label.get((namespace, str(k), str(v)), []) for k, v in selector.items()]
        pool = [one for one in min(pools, key=len, default=[]) if text(one, "kind") in kinds]
        return [one for one in pool if matches(selector, mapping(one, *_TEMPLATE_LABELS))]

    def scalers(self, target: ObjectRef) -> Sequence[Obj]:
        """The autoscalers of a workload."""
        return self._scalers.get(target, ())

    @cached_property
    def _templates_by_label(self) -> Mapping[tuple[str, str, str], list[Obj]]:
        found: dict[tuple[str, str, str], list[Obj]] = {}
        for one in self.kind("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
            for key, value in mapping(one, *_TEMPLATE_LABELS).items():
                found.setdefault((namespace_of(one), str(key), str(value)), []).append(one)
        return found

    @cached_property
    def _scalers(self) -> Mapping[ObjectRef, list[Obj]]:
        found: dict[ObjectRef, list[Obj]] = {}
        for hpa in self.kind("HorizontalPodAutoscaler"):
            target = mapping(hpa, "spec", "scaleTargetRef")
            ref = ObjectRef(text(target, "kind"), namespace_of(hpa), text(target, "name"))
            found.setdefault(ref, []).append(hpa)
        return found

    @cached_property
    def pod_labels(self) -> Mapping[str, Mapping[str, str]]:
        """`key=value` to the name of a pod that carries it, by namespace, sorted."""
        found: dict[str, dict[str, str]] = {}
        for namespace, key, value in sorted(self._pods_by_label):
            pods = self._pods_by_label[namespace, key, value]
            found.setdefault(namespace, {})[f"{key}={value}"] = name_of(pods[-1])
        return {namespace: dict(sorted(pairs.items())) for namespace, pairs in found.items()}

    @cached_property
    def _pods_by_label(self) -> Mapping[tuple[str, str, str], list[Obj]]:
        found: dict[tuple[str, str, str], list[Obj]] = {}
        for pod in self.kind("Pod"):
            for key, value in labels(pod).items():
                found.setdefault((namespace_of(pod), key, value), []).append(pod)
        return found

    @cached_property
    def _services_by_label(self) -> Mapping[tuple[str, str, str], list[Obj]]:
        """Each Service under the first pair of its selector."""
        found: dict[tuple[str, str, str], list[Obj]] = {}
        for one in self.kind("Service"):
            for key, value in list(mapping(one, "spec", "selector").items())[:1]:
                found.setdefault((namespace_of(one), str(key), str(value)), []).append(one)
        return found

    @cached_property
    def _slices(self) -> Mapping[tuple[str, str], list[Obj]]:
        found: dict[tuple[str, str], list[Obj]] = {}
        for one in self.kind("EndpointSlice"):
            found.setdefault((namespace_of(one), labels(one).get(_SLICE_OF, "")), []).append(one)
        return found

    def pods_on(self, node: str) -> Sequence[Obj]:
        return self._pods_by_node.get(node, ())

    @cached_property
    def _pods_by_node(self) -> Mapping[str, list[Obj]]:
        found: dict[str, list[Obj]] = {}
        for pod in self.kind("Pod"):
            found.setdefault(text(pod, "spec", "nodeName"), []).append(pod)
        return found

    @cached_property
    def _pods_by_claim(self) -> Mapping[tuple[str, str], list[Obj]]:
        found: dict[tuple[str, str], list[Obj]] = {}
        for pod in self.kind("Pod"):
            for name in dict.fromkeys(claims(pod)):
                found.setdefault((namespace_of(pod), name), []).append(pod)
        return found

    def recent(self, obj: Obj, now: datetime, seconds: float, *reasons: str) -> list[Event]:
        """Its events of the last `seconds`, counted from now, or from its last event when that is longer ago: then
        nothing newer has taken the place of what they say."""
        every = self.events(obj)
        until = min([now, *(event.last for event in every[:1])])
        chosen = [event for event in every if not reasons or event.reason in reasons]
        return [event for event in chosen if event.age(until) < seconds]

    @cached_property
    def _by_namespace(self) -> Mapping[tuple[str, str], list[Obj]]:
        found: dict[tuple[str, str], list[Obj]] = {}
        for kind, objects in self._by_kind.items():
            for obj in objects:
                found.setdefault((kind, namespace_of(obj)), []).append(obj)
        return found
