"""Services that lead nowhere: a selector that matches no pod, a port that no container has."""

from __future__ import annotations

import difflib
from bisect import bisect
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.fields import (
    Obj,
    at,
    mapping,
    name_of,
    namespace_of,
    rows,
    text,
)
from mcp_servers.kubernetes.diagnose.impact import wanted
from mcp_servers.kubernetes.diagnose.podstate import is_ready, live
from mcp_servers.kubernetes.diagnose.probes import is_starting
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of

_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
_TEMPLATED_RESOURCES = ("deployments.apps", "statefulsets.apps", "daemonsets.apps", "pods")
_NEAR = 30
"""Comparing texts is slow, and a Service of a large namespace must not be compared with all of its pods."""
_WHY = "whoever calls the Service gets no answer"


def has_selector(service: Obj) -> bool:
    return bool(mapping(service, "spec", "selector")) and text(service, "spec", "type") != "ExternalName"


def selected(snapshot: Snapshot, service: Obj) -> list[Obj]:
    """The live pods that the Service selects."""
    return live(snapshot.selected(mapping(service, "spec", "selector"), namespace_of(service)))


def backing(snapshot: Snapshot, service: Obj) -> list[Obj]:
    """The workloads whose pods the Service would select."""
    found = snapshot.templated(service, *_TEMPLATED)
    return [one for one in found if not (text(one, "kind") == "ReplicaSet" and controller_of(one))]


def unanswered_services(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Services with a selector that no ready pod answers. Silent when pods or slices were not listed."""
    if not snapshot.listed("pods") or not snapshot.listed("endpointslices.discovery.k8s.io"):
        return []
    found: list[Finding] = []
    for service in snapshot.kind("Service"):
        if not has_selector(service) or _ready_endpoints(snapshot, service):
            continue
        pods = selected(snapshot, service)
        if not pods:
            found += _selects_nothing(snapshot, service)
        elif not any(is_ready(pod) for pod in pods) and not _publishes_unready(service):
            found += _none_ready(snapshot, service, pods, now)
    return found


def _publishes_unready(service: Obj) -> bool:
    return bool(at(service, "spec", "publishNotReadyAddresses"))


def _ready_endpoints(snapshot: Snapshot, service: Obj) -> int:
    """Addresses that take traffic, by the slices or the older Endpoints object."""
    count = 0
    for part in snapshot.slices(service):
        count += sum(at(row, "conditions", "ready") is not False for row in rows(part, "endpoints"))
    legacy = snapshot.get("Endpoints", namespace_of(service), name_of(service))
    return count + sum(len(rows(subset, "addresses")) for subset in rows(legacy, "subsets"))


def _selector_text(service: Obj) -> str:
    return ",".join(f"{key}={value}" for key, value in mapping(service, "spec", "selector").items())


def _selects_nothing(snapshot: Snapshot, service: Obj) -> list[Finding]:
    ref, owners = ref_of(service), backing(snapshot, service)
    evidence = [Evidence(f"service {ref.name} selector", f"{_selector_text(service)} (matches 0 pods)")]
    if owners:
        roots = tuple(ref_of(owner) for owner in owners if wanted(owner))
        return [_symptom(ref, roots, evidence)] if roots else []
    if not all(snapshot.listed(resource) for resource in _TEMPLATED_RESOURCES) or _owned_elsewhere(service):
        return []
    if close := _closest(snapshot, service):
        evidence.append(Evidence("closest labels in the namespace", close))
    elif not snapshot.kind("Pod", *_TEMPLATED, namespace=ref.namespace):
        evidence.append(Evidence(f"namespace {ref.namespace}", "has no pods and no workloads"))
    return [
        Finding(
            ref,
            *_weigh(service),
            "ServiceSelectorMatchesNothing",
            f"the Service has no endpoints: its selector {_selector_text(service)} matches no pod",
            tuple(evidence),
            "Correct the selector to the labels of the pods it should reach, or delete a leftover Service.",
        )
    ]


def _weigh(service: Obj) -> tuple[Severity, str]:
    if text(service, "spec", "clusterIP") == "None":
        return Severity.LOW, "it is headless, so it only names pods, and there are none to name"
    return Severity.HIGH, _WHY


def _owned_elsewhere(service: Obj) -> bool:
    """A controller made it, for pods that come and go as it decides (ACME solvers, operators' replicas)."""
    return bool(at(service, "metadata", "ownerReferences"))


def _closest(snapshot: Snapshot, service: Obj) -> str:
    """The pod labels of the namespace that look most like the selector."""
    wanted_pairs = [f"{key}={value}" for key, value in mapping(service, "spec", "selector").items()]
    pairs = snapshot.pod_labels.get(namespace_of(service), {})
    every = list(pairs) if wanted_pairs else []
    lines: list[str] = []
    for pair in wanted_pairs:
        if pair in pairs:
            continue
        for close in difflib.get_close_matches(pair, _neighbours(every, pair), n=1, cutoff=0.75):
            lines.append(f"{close} (pod {pairs[close]})")
    return ", ".join(lines)


def _neighbours(ordered: list[str], pair: str) -> list[str]:
    """What to compare a label with: all of a few, of many those that sort next to it."""
    if len(ordered) <= 2 * _NEAR:
        return ordered
    place = bisect(ordered, pair)
    return ordered[max(place - _NEAR, 0) : place + _NEAR]


def _symptom(ref: ObjectRef, suspects: tuple[ObjectRef, ...], evidence: list[Evidence]) -> Finding:
    return Finding(
        ref,
        Severity.HIGH,
        _WHY,
        "ServiceWithoutEndpoints",
        "the Service has no ready endpoints",
        tuple(evidence),
        f"Bring up {suspects[0]}.",
        symptom=True,
        suspects=suspects,
    )


def _none_ready(snapshot: Snapshot, service: Obj, pods: list[Obj], now: datetime) -> list[Finding]:
    if all(is_starting(pod, now) for pod in pods):
        return []
    roots = tuple(dict.fromkeys(snapshot.root(pod) for pod in pods))
    told = f"{_selector_text(service)} (matches {len(pods)} pods, 0 of them ready)"
    return [_symptom(ref_of(service), roots, [Evidence(f"service {name_of(service)} selector", told)])]


def unmatched_ports(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Service ports whose target no selected pod has: a name for certain, a number only as a hint."""
    found: list[Finding] = []
    for service in snapshot.kind("Service") if snapshot.listed("pods") else ():
        if not has_selector(service) or text(service, "spec", "clusterIP") == "None":
            continue
        if pods := selected(snapshot, service):
            for port in rows(service, "spec", "ports"):
                found += _unmatched(service, port, pods)
    return found


def _container_ports(pod: Obj) -> list[Obj]:
    every = [*rows(pod, "spec", "initContainers"), *rows(pod, "spec", "containers")]
    return [port for container in every for port in rows(container, "ports")]


def _unmatched(service: Obj, port: Obj, pods: list[Obj]) -> list[Finding]:
    target = port.get("targetPort", port.get("port"))
    protocol = text(port, "protocol") or "TCP"
    declared = [
        [one for one in _container_ports(pod) if (text(one, "protocol") or "TCP") == protocol] for pod in pods
    ]
    named = isinstance(target, str) and not target.isdigit()
    key = "name" if named else "containerPort"
    if any(str(one.get(key)) == str(target) for ports in declared for one in ports):
        return []
    if not named and (not all(declared) or at(pods[0], "spec", "hostNetwork")):
        return []
    have = ", ".join(f"{text(p, 'name') or '-'}:{text(p, 'containerPort')}" for p in declared[0]) or "none"
    told = f"{text(port, 'name') or text(port, 'port')} -> targetPort {target}/{protocol}"
    evidence = (
        Evidence(f"service {name_of(service)} port", told),
        Evidence(f"pod {name_of(pods[0])} container ports", have),
    )
    step = "Set targetPort to a port of the container."
    if named:
        title = f"the Service's target port {target} is not the name of any container port"
        return [Finding(ref_of(service), Severity.HIGH, _WHY, "TargetPortMissing", title, evidence, step)]
    why = "containers may listen on ports that they do not declare, so this is only likely"
    title = f"the Service's target port {target} is none that its pods declare"
    return [Finding(ref_of(service), Severity.LOW, why, "TargetPortUndeclared", title, evidence, step)]
