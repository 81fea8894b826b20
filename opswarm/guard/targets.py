"""Which objects of a cluster may be acted on, and how: one by one, each by its kind, namespace and name.

A tool server fills in a `Target` for each object from what it looked up in the API's discovery, not from words of its
caller's, and acts on exactly that.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from opswarm.guard.denials import Limit, denied
from opswarm.guard.spelling import plain_name, shown


class Verb(StrEnum):
    """All that may ever be done to an object."""

    RESTART = "restart"
    UNDO = "undo"
    PAUSE = "pause"
    RESUME = "resume"
    SCALE = "scale"
    DELETE = "delete"
    EVICT = "evict"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    TRIGGER = "trigger"
    APPLY = "apply"
    LABEL = "label"
    ANNOTATE = "annotate"
    RECONCILE = "reconcile"
    SUSPEND = "suspend"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Named:
    """An object by its kind (in any API group), namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Target:
    """One object, and what is to be done to it.

    `kind` and `namespaced` are as the API's discovery has them. `label_selector`, `field_selector` and
    `all_namespaces` are what the caller asked for, and refused. `draining` is set by a drain for each pod that it
    evicts, `privileged` where what is applied asks for rights on the node, for another ServiceAccount's, or for what a
    controller makes of it. `applies_to` are the namespaces that a Flux object writes to. `replicas` are those that a
    scaling asks for, `current` those that there are.
    """

    verb: str
    kind: str
    name: str
    namespace: str = ""
    namespaced: bool = True
    label_selector: str = ""
    field_selector: str = ""
    all_namespaces: bool = False
    draining: bool = False
    privileged: bool = False
    applies_to: tuple[str, ...] = ()
    replicas: int | None = None
    current: int | None = None

    def __str__(self) -> str:
        return f"{self.verb} of {self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")

_NEVER = {
    "exec": "Nothing is run inside a pod.",
    "attach": "Nothing is attached to a pod.",
    "debug": "No container is added to a pod.",
    "portforward": "No port of a pod is opened.",
    "proxy": "Nothing is called through the API server's proxy.",
    "cp": "No files are copied into or out of a pod.",
    "deletecollection": "Objects are deleted one by one, by name.",
    "impersonate": "Nobody is impersonated.",
    "escalate": "No rights are widened.",
    "bind": "No rights are given.",
    "approve": "No certificates are approved.",
    "token": "No tokens are made.",
}
_SECRET_VERBS = frozenset({"secretvalues", "readsecret", "decode"})
_SECRETS = frozenset({"secret", "serviceaccount", "role", "rolebinding"})
"""Who holds one of these holds more than an agent may: their values are never read, and they are never changed."""

_NOT_DELETED = frozenset(
    {"namespace", "customresourcedefinition", "persistentvolume", "persistentvolumeclaim", "apiservice"}
)
"""What goes with them does not come back. A claim takes its volume along where the storage class says so."""

_CLUSTER_SCOPED = frozenset(
    {
        "node", "namespace", "persistentvolume", "customresourcedefinition", "clusterrole", "clusterrolebinding",
        "storageclass", "priorityclass", "ingressclass", "runtimeclass", "apiservice", "csidriver", "csinode",
        "volumeattachment", "mutatingwebhookconfiguration", "validatingwebhookconfiguration",
        "validatingadmissionpolicy", "validatingadmissionpolicybinding", "certificatesigningrequest",
    }
)  # fmt: skip
_NAMESPACED = frozenset(
    {
        "pod", "deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller", "job", "cronjob",
        "service", "configmap", "secret", "ingress", "persistentvolumeclaim", "horizontalpodautoscaler",
        "poddisruptionbudget", "networkpolicy", "serviceaccount", "role", "rolebinding", "kustomization",
        "helmrelease", "gitrepository", "ocirepository", "helmrepository", "helmchart", "bucket",
    }
)  # fmt: skip
_NODE_VERBS = frozenset({Verb.CORDON, Verb.UNCORDON, Verb.DRAIN, Verb.LABEL, Verb.ANNOTATE})
_FLUX = frozenset(
    {
        "kustomization", "helmrelease", "gitrepository", "ocirepository", "helmrepository", "helmchart", "bucket",
        "fluxinstance", "imageupdateautomation", "imagerepository", "imagepolicy", "receiver", "alert", "provider",
    }
)  # fmt: skip
_FLUX_VERBS = frozenset({Verb.RECONCILE, Verb.SUSPEND, Verb.RESUME})


def check_target(target: Target, namespaces: Collection[str], objects: Collection[Named]) -> Target:
    """`target`, unchanged, when what it says may be done at all.

    `namespaces` and `objects` are those that are protected. Raises `PermissionDenied` with the rule.
    """
    _selects_nothing(target)
    kind = _kind(target)
    verb = _verb(target, kind)
    _is_spelt(target)
    _is_not_protected(target, kind, objects)
    if kind in _SECRETS:
        raise denied(Limit.SECRET, f"A {shown(target.kind)} is not changed by Opswarm: it holds keys or rights.")
    if verb is Verb.DELETE and kind in _NOT_DELETED:
        raise denied(Limit.VERB, f"A {target.kind} is never deleted: what goes with it does not come back.")
    if kind in _CLUSTER_SCOPED or not target.namespaced:
        return _cluster_scoped(target, kind, verb)
    if not _NAMESPACE.fullmatch(target.namespace):
        meant = plain_name(target.namespace)
        if meant in namespaces:
            raise denied(
                Limit.NAMESPACE_PROTECTED, f"{shown(target.namespace)} stands for the protected namespace {meant}."
            )
        raise denied(
            Limit.NAMESPACE_SPELLING,
            f"The namespace {shown(target.namespace)} is not the name of one namespace.",
            "Name the one that the object is in.",
        )
    _is_allowed_in(target, kind, verb, namespaces)
    return target


def _selects_nothing(target: Target) -> None:
    if target.label_selector or target.field_selector or target.all_namespaces:
        what = "a selector" if target.label_selector or target.field_selector else "all namespaces"
        raise denied(Limit.SELECTOR, f"An action names its objects one by one; {what} can't be used.", "List them.")


def _kind(target: Target) -> str:
    """The kind as it is compared: without case or plural."""
    kind = target.kind.casefold()
    if not _KIND.fullmatch(target.kind) or kind.endswith("list") or kind in ("all", "any"):
        raise denied(
            Limit.KIND, f"{shown(target.kind)} is not the kind of one object.", "Give a kind such as Deployment."
        )
    known = _CLUSTER_SCOPED | _NAMESPACED | _SECRETS | _NOT_DELETED | _FLUX
    singular = next((k for k in (kind, kind.removesuffix("s"), kind.removesuffix("es")) if k in known), kind)
    if singular != kind or (kind in _CLUSTER_SCOPED and target.namespaced):
        raise denied(Limit.KIND, f"{shown(target.kind)} is not what the API calls an object of this kind.")
    if kind in _NAMESPACED and not target.namespaced:
        raise denied(Limit.KIND, f"A {target.kind} is in a namespace; this one is said to be in none.")
    return kind


def _verb(target: Target, kind: str) -> Verb:
    said = re.sub(r"[^a-z]", "", plain_name(target.verb))
    if said in _NEVER:
        raise denied(Limit.VERB, f"{_NEVER[said]} It is not among what Opswarm can do.")
    if said in _SECRET_VERBS:
        raise denied(Limit.SECRET, "The values of a Secret are never read.")
    try:
        verb = Verb(target.verb)
    except ValueError:
        raise denied(Limit.VERB, f"{shown(target.verb)} is not something that Opswarm can do.") from None
    if verb is Verb.EVICT and kind != "pod":
        raise denied(Limit.VERB, f"Only a pod is evicted, not a {target.kind}.")
    if target.draining and verb is not Verb.EVICT:
        raise denied(Limit.VERB, "A drain only evicts pods.")
    return verb


def _is_spelt(target: Target) -> None:
    if not _OBJECT.fullmatch(target.name):
        raise denied(
            Limit.NAME, f"{shown(target.name)} is not the name of one object.", "Name each object by its whole name."
        )


def _is_not_protected(target: Target, kind: str, objects: Collection[Named]) -> None:
    for named in objects:
        same_place = plain_name(target.namespace) == named.namespace or not target.namespaced
        if kind == named.kind.casefold() and target.name == named.name and same_place:
            raise denied(Limit.OBJECT_PROTECTED, f"{named} is protected.")


def _cluster_scoped(target: Target, kind: str, verb: Verb) -> Target:
    if target.namespace:
        raise denied(Limit.NAMESPACE_SPELLING, f"A {target.kind} is in no namespace, but one was given.")
    if kind != "node" or verb not in _NODE_VERBS:
        raise denied(
            Limit.CLUSTER_SCOPED,
            f"A {target.kind} belongs to the whole cluster; {verb} is not done to it.",
            "Of what is in no namespace only nodes are touched: cordon, uncordon, drain, label, annotate.",
        )
    return target


def _is_allowed_in(target: Target, kind: str, verb: Verb, namespaces: Collection[str]) -> None:
    if verb in _NODE_VERBS - {Verb.LABEL, Verb.ANNOTATE}:
        raise denied(Limit.VERB, f"{verb} is for nodes, not for a {target.kind}.")
    flux = kind in _FLUX and verb in _FLUX_VERBS
    for namespace in target.applies_to if flux else ():
        if not _NAMESPACE.fullmatch(namespace) or namespace in namespaces:
            raise denied(
                Limit.NAMESPACE_PROTECTED, f"{target} would change the protected namespace {shown(namespace)}."
            )
    if target.namespace in namespaces and not flux and not target.draining:
        raise denied(
            Limit.NAMESPACE_PROTECTED,
            f"The namespace {target.namespace} is protected: nothing is changed in it.",
            "A person with rights of their own can.",
        )
