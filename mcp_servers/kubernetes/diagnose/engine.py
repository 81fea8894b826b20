"""`diagnose`: every analyzer over a snapshot, correlated, and cut to a scope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from mcp_servers.cluster.finding import Finding, ObjectRef
from mcp_servers.cluster.report import Report, Scope
from mcp_servers.kubernetes.diagnose import (
    autoscaling,
    conditions,
    images,
    ingresses,
    jobs,
    nodes,
    pods,
    probes,
    scheduling,
    services,
    termination,
    volumes,
    workloads,
)
from mcp_servers.kubernetes.diagnose.correlate import correlate
from mcp_servers.kubernetes.diagnose.fields import namespace_of, text
from mcp_servers.kubernetes.diagnose.scoping import kind_named, related, resolve
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot

Analyzer: TypeAlias = Callable[[Snapshot, datetime], list[Finding]]

ANALYZERS: tuple[Analyzer, ...] = (
    termination.crashes,
    images.image_pulls,
    pods.waiting_containers,
    pods.slow_starts,
    probes.failing_probes,
    scheduling.pending_pods,
    volumes.mounts,
    pods.evictions,
    pods.stuck_terminating,
    volumes.unbound_claims,
    workloads.refused_pods,
    workloads.short_of_replicas,
    jobs.failed_jobs,
    jobs.broken_schedules,
    services.unanswered_services,
    services.unmatched_ports,
    ingresses.broken_backends,
    ingresses.missing_certificates,
    ingresses.missing_classes,
    nodes.nodes_down,
    nodes.pressures,
    nodes.cordoned,
    autoscaling.autoscalers,
    autoscaling.unavailable_apis,
    conditions.other_kinds,
)


def diagnose(snapshot: Snapshot, scope: Scope, now: datetime) -> Report:
    """What is wrong in `scope`, as of `now`. Pure: it reads only the snapshot."""
    findings = correlate(snapshot, [one for analyze in ANALYZERS for one in analyze(snapshot, now)])
    notes: list[str] = []
    checked = [obj for obj in snapshot.objects() if text(obj, "kind") != "Secret"]
    if scope.name:
        chosen, notes = resolve(snapshot, scope)
        near = {ref for ref in chosen for ref in related(snapshot, ref)}
        findings = [one for one in findings if _touches(one, near)]
        checked = [obj for obj in checked if ObjectRef(text(obj, "kind"), *_place(obj)) in near]
    elif scope.namespace:
        findings = [one for one in findings if _in_namespace(one, scope.namespace)]
        checked = [obj for obj in checked if namespace_of(obj) in ("", scope.namespace)]
    if scope.kind and not scope.name:
        findings = [one for one in findings if _of_kind(one, scope.kind)]
    counted = Counter(text(obj, "kind") for obj in checked)
    return Report(
        findings=tuple(findings),
        scope=scope,
        checked=dict(sorted(counted.items())),
        namespaces=len({namespace_of(obj) for obj in checked} - {""}),
        not_checked=dict(snapshot.missing),
        notes=tuple(notes),
    )


def _place(obj: object) -> tuple[str, str]:
    return namespace_of(obj), text(obj, "metadata", "name")


def _touches(finding: Finding, near: set[ObjectRef]) -> bool:
    mine = {finding.object, *finding.affects}
    if finding.subject is not None:
        mine.add(finding.subject)
    return bool(mine & near)


def _in_namespace(finding: Finding, namespace: str) -> bool:
    refs = (finding.object, *finding.affects)
    return any(ref.namespace == namespace for ref in refs)


def _of_kind(finding: Finding, kind: str) -> bool:
    refs = (finding.object, *finding.affects, *((finding.subject,) if finding.subject else ()))
    return kind_named(kind) in {ref.kind for ref in refs}
