"""Attacks on which objects may be acted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opswarm.errors import PermissionDenied
from opswarm.guard.denials import Limit
from opswarm.guard.limits import PROTECTED_NAMESPACES, ROOT_OBJECTS, Limits
from opswarm.guard.targets import Named, Target, Verb
from tests.opswarm.guard.disguises import Disguise, disguised, disguises

LIMITS = Limits(
    namespaces=frozenset({"databases"}),
    objects=frozenset({Named("Deployment", "media", "plex"), Named("Node", "", "pi-1")}),
)
RESTART = Target("restart", "Deployment", "web", "shop")
SCALE = Target("scale", "Deployment", "web", "shop", replicas=2, current=1)
NODE = Target("cordon", "Node", "pi-2", namespaced=False)
EVICT = Target("evict", "Pod", "coredns-abc", "kube-system")

NAMESPACES = st.sampled_from(sorted(PROTECTED_NAMESPACES | {"databases"}))
VERBS = st.sampled_from([v for v in Verb if v not in (Verb.CORDON, Verb.UNCORDON, Verb.DRAIN, Verb.EVICT)])
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
WAYS: tuple[Disguise, ...] = (
    str.upper,
    str.title,
    lambda n: f"{n}/",
    lambda n: f"/{n}",
    lambda n: f"../{n}",
    lambda n: f"shop/../{n}",
    lambda n: f"{n},shop",
    lambda n: f"shop,{n}",
    lambda n: f"{n}.",
    lambda n: f"{n}?x=1",
    lambda n: f"{n}#",
    lambda n: f"{n}%00",
    lambda n: f"{n[:-1]}*",
    lambda n: f"{n[0]}?{n[2:]}",
)


def rule(target: Target, limits: Limits = LIMITS) -> str:
    """The rule that refuses a target; "" when it passes unchanged."""
    try:
        assert limits.target(target) is target
    except PermissionDenied as error:
        assert error.rule and error.message.isascii()
        return error.rule
    return ""


@given(NAMESPACES, VERBS, st.sampled_from(["Deployment", "Pod", "ConfigMap", "HelmRelease", "Widget"]), LABEL)
def test_nothing_is_done_in_a_protected_namespace(namespace: str, verb: Verb, kind: str, name: str) -> None:
    assume(not (kind == "HelmRelease" and verb in (Verb.RECONCILE, Verb.SUSPEND, Verb.RESUME)))
    assert rule(Target(verb, kind, name, namespace, replicas=2, current=1)) == Limit.NAMESPACE_PROTECTED


@given(NAMESPACES, disguises(*WAYS))
def test_a_protected_namespace_is_refused_in_a_disguise(namespace: str, ways: list[Disguise]) -> None:
    assert rule(replace(RESTART, namespace=disguised(namespace, ways))).startswith("limit.namespace.")


@given(LABEL, LABEL, VERBS)
def test_an_object_of_ones_own_passes_unchanged(namespace: str, name: str, verb: Verb) -> None:
    assume(namespace not in LIMITS.namespaces)
    assert rule(Target(verb, "Deployment", name, namespace, replicas=2, current=1)) == ""


@given(st.text(max_size=70), st.text(max_size=70))
def test_whatever_passes_is_the_name_of_one_object_in_one_namespace(namespace: str, name: str) -> None:
    if rule(Target("restart", "Deployment", name, namespace)) == "":
        for part in (namespace, name):
            assert part.isascii() and part == part.lower() and part.replace("-", "").replace(".", "").isalnum()


@pytest.mark.parametrize("namespace", ["", " ", "*", "_all", "-A", "a,b", "a b", "a/b", "Shop", "-shop", "a" * 64, "."])
def test_what_is_not_the_name_of_one_namespace_is_refused(namespace: str) -> None:
    assert rule(replace(RESTART, namespace=namespace)) == Limit.NAMESPACE_SPELLING


@pytest.mark.parametrize(
    "selecting",
    [
        {"label_selector": "app=web"},
        {"label_selector": "app in (web, db)"},
        {"label_selector": "!x"},
        {"label_selector": " "},
        {"label_selector": "*"},
        {"field_selector": "metadata.namespace!=kube-public"},
        {"field_selector": "spec.nodeName=pi-1"},
        {"all_namespaces": True},
    ],
)
def test_what_selects_is_refused(selecting: dict[str, Any]) -> None:
    assert rule(replace(RESTART, **selecting)) == Limit.SELECTOR
    assert rule(replace(NODE, **selecting)) == Limit.SELECTOR


@pytest.mark.parametrize("name", ["", "*", "web*", "web,db", "web db", "web/scale", "Web", "../x", "web\n", "--all"])
def test_what_is_not_the_name_of_one_object_is_refused(name: str) -> None:
    assert rule(replace(RESTART, name=name)) == Limit.NAME


@pytest.mark.parametrize(
    "kind",
    [
        "", "*", "all", "All", "List", "PodList", "DeploymentList", "DeploymentLIST", "pods", "Pods", "Deployments",
        "pod,deployment", "deployment.apps", "pods/exec", "Pod/log", "deploy", "Secrets", "Namespaces", "Ingresses",
        "Deployment\u200b", "Pod ",
    ],
)  # fmt: skip
def test_what_is_not_the_kind_of_one_object_is_refused(kind: str) -> None:
    assert rule(replace(RESTART, kind=kind)) == Limit.KIND


@pytest.mark.parametrize(
    "kind",
    ["Namespace", "CustomResourceDefinition", "PersistentVolume", "ClusterRole", "Widget", "APIService"],
)
@pytest.mark.parametrize("verb", list(Verb))
def test_nothing_is_done_to_what_belongs_to_the_whole_cluster(kind: str, verb: Verb) -> None:
    assert rule(Target(verb, kind, "x", namespaced=False)) in (Limit.CLUSTER_SCOPED, Limit.VERB)


@pytest.mark.parametrize("kind", ["Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"])
def test_what_does_not_come_back_is_never_deleted(kind: str) -> None:
    claim = kind == "PersistentVolumeClaim"
    target = Target("delete", kind, "x", "shop" if claim else "", namespaced=claim)
    assert rule(target) == Limit.VERB
    assert rule(replace(target, namespace="shop", namespaced=True)) in (Limit.VERB, Limit.KIND)


def test_a_node_is_cordoned_and_drained_and_never_deleted() -> None:
    for verb in ("cordon", "uncordon", "drain", "label", "annotate"):
        assert rule(replace(NODE, verb=verb)) == ""
    for verb in ("delete", "restart", "apply", "scale"):
        assert rule(replace(NODE, verb=verb)) == Limit.CLUSTER_SCOPED
    assert rule(replace(NODE, namespace="shop")) == Limit.NAMESPACE_SPELLING
    assert rule(replace(NODE, namespace="shop", namespaced=True)) == Limit.KIND
    assert rule(replace(NODE, name="pi-1")) == Limit.OBJECT_PROTECTED


def test_a_kind_that_is_in_a_namespace_does_not_pass_for_one_that_is_not() -> None:
    assert rule(replace(RESTART, namespaced=False)) == Limit.KIND
    assert rule(replace(RESTART, namespaced=False, namespace="")) == Limit.KIND


@pytest.mark.parametrize(
    "verb",
    [
        "exec", "EXEC", "ex-ec", "e\u200bxec", "attach", "port-forward", "portforward", "proxy", "debug", "cp",
        "deletecollection", "delete-collection", "impersonate", "escalate", "bind", "approve", "token",
    ],
)  # fmt: skip
def test_forbidden_verbs_are_refused(verb: str) -> None:
    assert rule(Target(verb, "Pod", "web-1", "shop")) == Limit.VERB


@pytest.mark.parametrize("verb", ["", "get", "patch", "*", "Delete", "delete ", "create", "update", "rest\u0430rt"])
def test_a_verb_that_is_not_ours_is_refused(verb: str) -> None:
    assert rule(replace(RESTART, verb=verb)) == Limit.VERB


def test_secrets_are_neither_read_nor_changed() -> None:
    for verb in ("read-secret", "secret_values", "decode"):
        assert rule(Target(verb, "Secret", "db", "shop")) == Limit.SECRET
    for verb in Verb:
        for kind in ("Secret", "ServiceAccount", "Role", "RoleBinding"):
            assert rule(Target(verb, kind, "db", "shop")) in (Limit.SECRET, Limit.VERB)


def test_only_a_drain_evicts_from_a_protected_namespace() -> None:
    assert rule(EVICT) == Limit.NAMESPACE_PROTECTED
    assert rule(replace(EVICT, draining=True)) == ""
    assert rule(replace(EVICT, draining=True, kind="Deployment")) == Limit.VERB
    assert rule(replace(EVICT, draining=True, verb="delete")) == Limit.VERB
    assert rule(replace(RESTART, draining=True, namespace="kube-system")) == Limit.VERB
    assert rule(replace(EVICT, verb="drain")) == Limit.VERB


@pytest.mark.parametrize("root", sorted(ROOT_OBJECTS, key=str), ids=str)
@pytest.mark.parametrize("verb", list(Verb))
def test_nothing_is_done_to_the_root_of_flux(root: Named, verb: Verb) -> None:
    assert rule(Target(verb, root.kind, root.name, root.namespace)) in (Limit.OBJECT_PROTECTED, Limit.VERB)
    assert rule(Target(verb, root.kind.upper(), root.name, root.namespace)) != ""


def test_other_objects_of_flux_are_protected_by_what_they_write_to() -> None:
    apps = Target("reconcile", "Kustomization", "apps", "flux-system")
    for verb in ("reconcile", "suspend", "resume"):
        assert rule(replace(apps, verb=verb)) == ""
        assert rule(replace(apps, verb=verb, applies_to=("shop", "media"))) == ""
        assert rule(replace(apps, verb=verb, applies_to=("shop", "kube-system"))) == Limit.NAMESPACE_PROTECTED
        assert rule(replace(apps, verb=verb, applies_to=("Kube-System",))) == Limit.NAMESPACE_PROTECTED
        assert rule(replace(apps, verb=verb, applies_to=("",))) == Limit.NAMESPACE_PROTECTED
    for verb in ("delete", "apply", "label", "annotate"):
        assert rule(replace(apps, verb=verb)) == Limit.NAMESPACE_PROTECTED


def test_an_object_that_the_policy_names_is_protected_in_any_spelling_of_its_kind() -> None:
    plex = Target("restart", "Deployment", "plex", "media")
    assert rule(plex) == Limit.OBJECT_PROTECTED
    assert rule(replace(plex, kind="DEPLOYMENT")) == Limit.OBJECT_PROTECTED
    assert rule(replace(plex, namespace="Media")) == Limit.OBJECT_PROTECTED
    assert rule(replace(plex, namespace="other")) == "" == rule(replace(plex, kind="StatefulSet"))


def test_however_limits_are_made_the_hard_ones_are_in_them() -> None:
    none = Limits(namespaces=frozenset(), branches=frozenset(), objects=frozenset())
    for limits in (none, replace(none, namespaces=frozenset()), none.narrowed(())):
        assert limits.namespaces == PROTECTED_NAMESPACES and limits.branches == {"main", "master"}
        assert limits.objects == ROOT_OBJECTS


@pytest.mark.parametrize(
    ("current", "wanted", "passes"),
    [
        (1, 3, True), (1, 4, False), (3, 1, True), (4, 1, False), (3, 0, True), (4, 0, False), (0, 3, True),
        (0, 4, False), (10, 11, False), (5, 10, True), (1, -1, False), (-1, 1, False), (None, 1, False),
        (1, None, False), (1, True, False), (True, 1, False),
    ],
)  # fmt: skip
def test_scaling_keeps_within_its_bounds(current: int | None, wanted: int | None, passes: bool) -> None:
    assert rule(replace(SCALE, current=current, replicas=wanted)) == ("" if passes else Limit.SCALE)


def test_what_the_policy_says_of_scaling_counts() -> None:
    limits = Limits(fewest_replicas=2, most_replicas=50, factor=10)
    assert rule(replace(SCALE, current=5, replicas=50), limits) == ""
    assert rule(replace(SCALE, current=2, replicas=1), limits) == Limit.SCALE
    assert rule(replace(SCALE, current=5, replicas=51), limits) == Limit.SCALE
