"""What a diagnosis found, as text for a model and a person, and as data for code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_servers.cluster.finding import Finding, ObjectRef, Severity, one_line
from opswarm.mcp.text import counted

_MOST_AFFECTED = 8
_MOST_AFFECTED_DATA = 50


@dataclass(frozen=True, slots=True)
class Scope:
    """What to diagnose: everything, a namespace, or an object. A name without a kind is searched for."""

    namespace: str = ""
    kind: str = ""
    name: str = ""

    def __str__(self) -> str:
        place = f"namespace {self.namespace}" if self.namespace else "the cluster"
        if self.name:
            return f"{self.kind} {self.name} in {place}".strip()
        return f"{self.kind} in {place}" if self.kind else place


@dataclass(frozen=True, slots=True)
class Report:
    """`checked`: how many objects of each kind were looked at. `not_checked`: resource to the reason."""

    findings: tuple[Finding, ...]
    scope: Scope = field(default_factory=Scope)
    checked: Mapping[str, int] = field(default_factory=dict)
    namespaces: int = 0
    not_checked: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: str = ""
    """What was looked at, where that is not the cluster's own objects."""

    absent: str = ""
    """Why there is nothing to look at, in a sentence."""

    @property
    def objects(self) -> int:
        return sum(self.checked.values())


def _checked(report: Report) -> str:
    return f"checked {counted(report.objects, 'object')} in {counted(report.namespaces, 'namespace')}"


def headline(report: Report) -> str:
    """`3 problems: 1 critical, 2 high (checked 143 objects in 9 namespaces)`."""
    return f"{report.about}: {_headline(report)}" if report.about else _headline(report)


def _headline(report: Report) -> str:
    if not report.findings and not report.objects and report.scope.name:
        return "Nothing was checked."
    if report.absent:
        return report.absent
    if not report.findings:
        return f"No problems found ({_checked(report)})."
    by_severity = Counter(finding.severity for finding in report.findings)
    parts = ", ".join(f"{by_severity[severity]} {severity}" for severity in Severity if by_severity[severity])
    return f"{counted(len(report.findings), 'problem')}: {parts} ({_checked(report)})"


def render(report: Report, limit: int = 10) -> str:
    """The report as compact Markdown, the worst `limit` findings first; a cut says so."""
    lines = [headline(report)]
    lines += [f"Note: {one_line(note, 600)}" for note in report.notes]
    shown = report.findings[: max(limit, 0)]
    for place, finding in enumerate(shown, 1):
        lines += ["", *_finding_lines(place, finding)]
    if len(shown) < len(report.findings):
        lines += ["", f"showing {len(shown)} of {len(report.findings)} findings; narrow by namespace or name"]
    if report.not_checked:
        told = "; ".join(
            f"{_short(name)} ({one_line(why, 200)})" for name, why in sorted(report.not_checked.items())
        )
        lines += ["", f"Not checked: {told}."]
    return "\n".join(lines)


def _short(resource: str) -> str:
    return one_line(resource.partition(".")[0], 60)


def _ref(ref: ObjectRef) -> str:
    return one_line(str(ref), 300)


def _finding_lines(place: int, finding: Finding) -> list[str]:
    times = f" ({finding.count} pods)" if finding.count > 1 else ""
    lines = [f"{place}. [{finding.severity.upper()}] {_ref(finding.object)}: {finding.title}{times}"]
    lines.append(f"   cause: {finding.cause}")
    lines.append(f"   why {finding.severity}: {finding.why}")
    if finding.evidence:
        lines.append("   evidence:")
        lines += [f"   - {line}" for line in finding.evidence]
    if finding.affects:
        named = ", ".join(_ref(ref) for ref in finding.affects[:_MOST_AFFECTED])
        more = len(finding.affects) - _MOST_AFFECTED
        lines.append(f"   affects: {named}" + (f" and {more} more" if more > 0 else ""))
    lines.append(f"   next: {finding.next_step}")
    if finding.managed_by:
        lines.append(f"   managed by {one_line(finding.managed_by, 200)}: fix it in Git")
    return lines


def _ref_data(ref: ObjectRef) -> dict[str, str]:
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def to_data(report: Report, limit: int = 10) -> dict[str, Any]:
    """The report as JSON, the worst `limit` findings first; `total` says how many there are."""
    shown = report.findings[: max(limit, 0)]
    return {
        "scope": {"namespace": report.scope.namespace, "kind": report.scope.kind, "name": report.scope.name},
        "summary": headline(report),
        "total": len(report.findings),
        "shown": len(shown),
        "findings": [
            {
                "object": _ref_data(finding.object),
                "severity": str(finding.severity),
                "why": finding.why,
                "cause": finding.cause,
                "title": finding.title,
                "evidence": [{"source": line.source, "text": line.text} for line in finding.evidence],
                "next_step": finding.next_step,
                "affects": [_ref_data(ref) for ref in finding.affects[:_MOST_AFFECTED_DATA]],
                "affects_total": len(finding.affects),
                "count": finding.count,
                "managed_by": finding.managed_by,
            }
            for finding in shown
        ],
        "checked": dict(report.checked),
        "namespaces": report.namespaces,
        "not_checked": dict(report.not_checked),
        "notes": list(report.notes),
    }
