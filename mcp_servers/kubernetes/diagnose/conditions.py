"""Objects of any other kind (Certificates, Kustomizations, HelmReleases, Gateways) whose status says they failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, Severity
from mcp_servers.kubernetes.diagnose.fields import Obj, at, mapping, name_of, rows, text
from mcp_servers.kubernetes.diagnose.podstate import GRACE, is_terminating, since
from mcp_servers.kubernetes.diagnose.snapshot import GROUPS, Snapshot, ref_of
from mcp_servers.kubernetes.rendering import duration

_SELF_ANALYZED = (frozenset(GROUPS) - {"PersistentVolume"}) | {"Secret"}
_GOOD = (
    "Ready",
    "Available",
    "Healthy",
    "Synced",
    "Reconciled",
    "Released",
    "Deployed",
    "Succeeded",
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "Established",
    "NamesAccepted",
)
"""Conditions that should be True, the summary first: cert-manager, Flux, Crossplane, the Gateway API and CRDs."""
_BAD = re.compile(r"^(Stalled|Degraded|Denied|Failing|Invalid\w*|\w*(Failed|Failure|Error))$")
"""Conditions that should not be True."""
_FAILED = frozenset({"Failed", "Error", "Lost", "PartiallyFailed", "FailedValidation"})
_UNHEALTHY = frozenset({"Degraded", "Missing"})
_WORDS = ((("health", "status"), _UNHEALTHY), (("operationState", "phase"), _FAILED), (("phase",), _FAILED))
"""Where Argo CD, Velero, Argo Workflows and PersistentVolumes say in one word how they are."""
_TRIED = frozenset({"Failed", "Error", "Errored", "Invalid", "Denied"})
_UNSETTLED = 600.0
"""Seconds that a condition may be Unknown: Flux and Knative say so while they work."""
_WHY = "its controller says that it failed; what depends on it is not known here"


def other_kinds(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """One finding for each object of a kind without its own analyzer that reports a failure."""
    found: list[Finding] = []
    for kind in snapshot.kinds():
        for obj in snapshot.kind(kind) if kind not in _SELF_ANALYZED else ():
            if not _held(obj) and not is_terminating(obj) and (told := list(_problems(obj, now))):
                found.append(_finding(snapshot, obj, told, now))
    return found


def _held(obj: Obj) -> bool:
    return any(at(obj, "spec", field) is True for field in ("suspend", "suspended", "paused"))


def _conditions(obj: Obj) -> Iterator[Obj]:
    """Those of the object, then those of its parts: a route's parents, a Gateway's listeners."""
    yield from rows(obj, "status", "conditions")
    for part in ("parents", "listeners", "ancestors"):
        for one in rows(obj, "status", part):
            yield from rows(one, "conditions")


def _problems(obj: Obj, now: datetime) -> Iterator[tuple[str, str, str, Evidence]]:
    """Cause, title, message and evidence of all that the status complains about, the summary first."""
    for row in sorted((row for row in _conditions(obj) if _bad(row, now)), key=_rank):
        kind, reason, message = text(row, "type"), text(row, "reason"), text(row, "message")
        lasted = since(text(row, "lastTransitionTime"), now)
        state = text(row, "status") or "set"
        told = f"{state}, {reason}: {message}" if reason else f"{state}: {message}"
        told += f" (for {duration(lasted)})" if lasted is not None else ""
        title = f"it reports {kind} {state}" + (f" ({reason})" if reason else "")
        yield reason or kind, title, message, Evidence(f"{_label(obj)} condition {kind}", told)
    for path, words in _WORDS:
        value = text(obj, "status", *path)
        if value in words:
            holder = mapping(obj, "status", *path[:-1])
            message = text(holder, "message") or text(holder, "reason") or text(holder, "failureReason")
            told = f"{value}: {message}".rstrip(": ")
            yield value, f"its {path[0]} is {value}", message, Evidence(f"{_label(obj)} {path[0]}", told)


def _tried(obj: Obj) -> Iterator[Evidence]:
    """What else its controller says that it failed at, in conditions that are no trouble by themselves: cert-manager
    tells in `Issuing` why there is no certificate."""
    for row in _conditions(obj):
        kind, reason = text(row, "type"), text(row, "reason")
        if kind not in _GOOD and not _BAD.match(kind) and text(row, "status") == "False" and reason in _TRIED:
            yield Evidence(f"{_label(obj)} condition {kind}", f"{reason}: {text(row, 'message')}")


def _label(obj: Obj) -> str:
    return f"{text(obj, 'kind')} {name_of(obj)}"


def _bad(row: Obj, now: datetime) -> bool:
    kind, state = text(row, "type"), text(row, "status")
    lasted = since(text(row, "lastTransitionTime"), now)
    if kind in _GOOD:
        patience = {"False": GRACE, "Unknown": _UNSETTLED}.get(state)
        return patience is not None and (lasted is None or lasted >= patience)
    # Argo CD's conditions have no status: that they are there is the message.
    return state in ("True", "") and bool(_BAD.match(kind))


def _rank(row: Obj) -> int:
    kind = text(row, "type")
    return _GOOD.index(kind) if kind in _GOOD else 1


def _finding(
    snapshot: Snapshot, obj: Obj, told: list[tuple[str, str, str, Evidence]], now: datetime
) -> Finding:
    cause, title, message, _ = told[0]
    evidence = [line for *_, line in told[:3]]
    evidence += list(_tried(obj))[:2]
    evidence += [event.evidence(now) for event in snapshot.events(obj) if event.type == "Warning"][:2]
    return Finding(
        ref_of(obj),
        Severity.MEDIUM,
        _WHY,
        cause,
        f"{title}: {message}" if message else title,
        tuple(evidence),
        "Correct what the message names; where it names nothing, read the log of the controller of this kind.",
        suspects=tuple(ref_of(child) for child in snapshot.children(obj)),
    )
