"""From many findings to one for each cause: merging, folding under what explains them, and ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.ingresses import routes
from mcp_servers.kubernetes.diagnose.podstate import managed_by
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot

_MOST_EVIDENCE = 6
_PROBES = frozenset({"ReadinessProbeFailed", "LivenessProbeFailed", "StartupProbeFailed"})


def correlate(snapshot: Snapshot, findings: Iterable[Finding]) -> list[Finding]:
    """Each cause once, the worst first."""
    merged = _absorb_symptoms(_merge_equal(_without_echoes(list(findings))))
    folded = _fold(merged)
    leading = routes(snapshot)
    return rank([_finish(snapshot, finding, leading) for finding in folded])


def rank(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; among equals what says why before what says that, then what affects more."""
    return sorted(
        findings,
        key=lambda f: (f.severity.rank, f.symptom, -len(f.affects), -f.count, str(f.object), f.cause),
    )


def _without_echoes(findings: list[Finding]) -> list[Finding]:
    """Without the failing probe of a pod that has another finding: what crashes answers no probe."""
    told = {f.subject for f in findings if f.subject and not f.symptom and f.cause not in _PROBES}
    return [f for f in findings if f.cause not in _PROBES or f.subject not in told]


def _lines(*parts: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Evidence without repetition, by source kind and text, up to the cap."""
    seen: dict[tuple[str, str], Evidence] = {}
    for line in (line for part in parts for line in part):
        seen.setdefault((line.source, line.text), line)
    return tuple(seen.values())[:_MOST_EVIDENCE]


def _refs(*parts: Sequence[ObjectRef], without: ObjectRef) -> tuple[ObjectRef, ...]:
    return tuple(dict.fromkeys(ref for part in parts for ref in part if ref != without))


def _merge_equal(findings: list[Finding]) -> list[Finding]:
    """Findings of one object with one cause become one, counted by pods, with the first pod's evidence."""
    groups: dict[tuple[ObjectRef, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.object, finding.cause), []).append(finding)
    merged: list[Finding] = []
    for group in groups.values():
        first = min(group, key=lambda f: f.severity.rank)
        pods = {f.subject for f in group if f.subject is not None and f.subject.kind == "Pod"}
        same = [f.evidence for f in group if f.subject == first.subject]
        merged.append(
            replace(
                first,
                count=max(1, len(pods)),
                evidence=_lines(first.evidence, *same),
                affects=_refs(*(f.affects for f in group), without=first.object),
                suspects=_refs(*(f.suspects for f in group), without=first.object),
            )
        )
    return merged


def _absorb_symptoms(findings: list[Finding]) -> list[Finding]:
    """A finding that only says that something is wrong with an object joins the one that says what."""
    by_object: dict[ObjectRef, list[Finding]] = {}
    for finding in findings:
        by_object.setdefault(finding.object, []).append(finding)
    result: list[Finding] = []
    for group in by_object.values():
        reasons = [f for f in group if not f.symptom and f.severity is not Severity.INFO]
        symptoms = [f for f in group if f.symptom]
        if not symptoms:
            result += group
            continue
        head = min(reasons or symptoms, key=lambda f: (f.severity.rank, -f.count))
        rest = [f for f in symptoms if f is not head]
        result.append(_absorbed(head, rest))
        result += [f for f in group if f is not head and f not in rest]
    return result


def _absorbed(head: Finding, rest: list[Finding]) -> Finding:
    worst = min([head, *rest], key=lambda f: f.severity.rank)
    severity, why = (
        (worst.severity, worst.why) if worst.severity.rank < head.severity.rank else (head.severity, head.why)
    )
    return replace(
        head,
        severity=severity,
        why=why,
        evidence=_lines(head.evidence, *(f.evidence if head.symptom else f.evidence[:1] for f in rest)),
        affects=_refs(head.affects, *(f.affects for f in rest), without=head.object),
        suspects=_refs(head.suspects, *(f.suspects for f in rest), without=head.object),
    )


def _explanation(finding: Finding, by_object: Mapping[ObjectRef, list[Finding]]) -> Finding | None:
    """The finding about one of the suspects, in the order of suspicion."""
    for suspect in finding.suspects:
        for other in by_object.get(suspect, ()):
            if other is not finding and other.severity is not Severity.INFO:
                return other
    return None


def _fold(findings: list[Finding]) -> list[Finding]:
    """Puts findings under what explains them: a pending pod under its claim, a Service under its workload."""
    by_object: dict[ObjectRef, list[Finding]] = {}
    for finding in findings:
        by_object.setdefault(finding.object, []).append(finding)
    above = {id(f): other for f in findings if (other := _explanation(f, by_object)) is not None}

    def top(finding: Finding) -> Finding:
        seen = {id(finding)}
        while (parent := above.get(id(finding))) is not None and id(parent) not in seen:
            seen.add(id(parent))
            finding = parent
        return finding

    under: dict[int, list[Finding]] = {}
    for finding in findings:
        root = top(finding)
        if root is not finding:
            under.setdefault(id(root), []).append(finding)
    kept = [f for f in findings if top(f) is f]
    return [_gather(f, under.get(id(f), [])) for f in kept]


def _gather(head: Finding, folded: list[Finding]) -> Finding:
    if not folded:
        return head
    worst = min(folded, key=lambda f: f.severity.rank)
    severity, why = head.severity, head.why
    if worst.severity.rank < severity.rank:
        severity, why = worst.severity, f"of {worst.object}: {worst.why}"
    affects = _refs(head.affects, *((f.object, *f.affects) for f in folded), without=head.object)
    evidence = _lines(head.evidence, *(f.evidence[:1] for f in sorted(folded, key=lambda f: f.symptom)))
    return replace(head, severity=severity, why=why, affects=affects, evidence=evidence)


def _finish(
    snapshot: Snapshot, finding: Finding, leading: Mapping[ObjectRef, Sequence[ObjectRef]]
) -> Finding:
    """Adds the Ingresses that lead to affected Services, and who manages the object."""
    services = [ref for ref in (finding.object, *finding.affects) if ref.kind == "Service"]
    found = [route for service in services for route in leading.get(service, ())]
    return replace(
        finding,
        affects=_refs(finding.affects, found, without=finding.object),
        managed_by=managed_by(snapshot.find(finding.object)),
    )
