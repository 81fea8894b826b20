"""In what state an object of Flux's is, by its conditions: pure, from the object alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mcp_servers.flux.fields import (
    Obj,
    Ref,
    at,
    changed_at,
    condition,
    is_true,
    managed_at,
    mapping,
    ref_of,
    rows,
    seconds_of,
    short,
    text,
    when,
    whole,
)
from mcp_servers.flux.kinds import STATELESS

_GRACE = 300.0
"""Seconds that a reconciliation may take at least before it is said to be stuck; Helm's default timeout."""

_SLACK = 60.0


class Health(StrEnum):
    """The worst first. `stuck` is what has been reconciling for longer than its own timeout allows."""

    STALLED = "stalled"
    FAILING = "failing"
    STUCK = "stuck"
    RECONCILING = "reconciling"
    DELETING = "deleting"
    SUSPENDED = "suspended"
    READY = "ready"
    STATIC = "static"

    @property
    def rank(self) -> int:
        return list(Health).index(self)

    @property
    def broken(self) -> bool:
        return self in (Health.STALLED, Health.FAILING, Health.STUCK)


@dataclass(frozen=True, slots=True)
class State:
    """The state of one object. `since` is a timestamp ("" where it is not told), `revision` what is in the cluster or
    in the store, `attempted` what was tried last where that is another one. `under` is what the conditions alone say of
    something suspended. `retried`: it failed before and is being tried again."""

    ref: Ref
    health: Health
    reason: str
    message: str
    since: str
    revision: str
    attempted: str
    under: Health
    retried: str = ""

    @property
    def key(self) -> str:
        """What lists are ordered by: the worst first, then by name."""
        kind, namespace, name = self.ref
        return f"{self.health.rank}|{kind}|{namespace}|{name}"

    def data(self) -> dict[str, Any]:
        kind, namespace, name = self.ref
        return {
            "kind": kind, "namespace": namespace, "name": name, "state": str(self.health), "reason": self.reason,
            "message": self.message, "since": self.since, "revision": self.revision, "attempted": self.attempted,
            "suspended": self.health is Health.SUSPENDED,
        }  # fmt: skip


def state_of(obj: Obj, now: datetime) -> State:
    """The state as of `now`."""
    ready = condition(obj, "Ready")
    health, since = _health(obj, ready, now)
    reason, message = text(ready, "reason"), text(ready, "message")
    if health is Health.STALLED:
        stalled = condition(obj, "Stalled")
        reason, since = text(stalled, "reason"), text(stalled, "lastTransitionTime")
        if text(stalled, "message") not in message:
            message = f"{text(stalled, 'message')} ({message})" if message else text(stalled, "message")
    elif health in (Health.RECONCILING, Health.STUCK):
        reconciling = condition(obj, "Reconciling")
        message = text(reconciling, "message") or message or "waiting for its controller"
        reason = text(reconciling, "reason") or reason or "Progressing"
    under = health
    if text(obj, "metadata", "deletionTimestamp"):
        health, since = Health.DELETING, text(obj, "metadata", "deletionTimestamp")
    elif is_suspended(obj):
        health, since = Health.SUSPENDED, managed_at(obj, "spec", "suspend")
    revision = _revision(obj)
    attempted = text(obj, "status", "lastAttemptedRevision")
    return State(
        ref_of(obj), health, reason, message, since, short(revision),
        short(attempted) if attempted and attempted != revision else "", under, _retried(obj, under),
    )  # fmt: skip


def is_suspended(obj: Obj) -> bool:
    return at(obj, "spec", "suspend") is True


def _health(obj: Obj, ready: Obj, now: datetime) -> tuple[Health, str]:
    since = text(ready, "lastTransitionTime")
    if is_true(obj, "Stalled") and not _is_behind(obj, condition(obj, "Stalled")):
        return Health.STALLED, since
    if not ready and (text(obj, "kind") in STATELESS or is_only_an_address(obj)):
        return Health.STATIC, ""
    if _is_behind(obj, ready):
        since = changed_at(obj)
    elif ready.get("status") == "False":
        return Health.FAILING, since
    elif ready.get("status") == "True":
        return Health.READY, since
    began = when(since)
    if began and (now - began).total_seconds() > grace(obj):
        return Health.STUCK, since
    return Health.RECONCILING, since


def is_only_an_address(obj: Obj) -> bool:
    """An OCI HelmRepository has no status: its charts are fetched when they are needed."""
    return text(obj, "kind") == "HelmRepository" and text(obj, "spec", "type") == "oci"


def _is_behind(obj: Obj, ready: Obj) -> bool:
    """Whether the controller has not judged the present spec yet.

    Controllers raise status.observedGeneration only when they succeed or give up, so a failure counts by the
    generation that its own condition names.
    """
    if is_suspended(obj):
        return False  # Nobody looks at it, and suspending is itself a change.
    generation = whole(obj, "metadata", "generation")
    seen = max(whole(ready, "observedGeneration"), whole(obj, "status", "observedGeneration"))
    if (
        ready.get("type") == "Ready"
        and ready.get("status") == "True"
        and "observedGeneration" in mapping(obj, "status")
    ):
        seen = whole(obj, "status", "observedGeneration")
    if not ready and not seen:
        return True
    return 0 < seen < generation if ready else True


def grace(obj: Obj) -> float:
    """Seconds for which a reconciliation may go on: its own timeout and a minute; twice that for a release, which may
    be rolled back after it failed."""
    timeout = seconds_of(text(obj, "spec", "timeout"), _GRACE)
    if text(obj, "kind") == "HelmRelease":
        timeout *= 2
    return max(timeout, _GRACE) + _SLACK


def _revision(obj: Obj) -> str:
    """What is applied (a Kustomization's revision, a release's chart version), stored, or chosen."""
    match text(obj, "kind"):
        case "HelmRelease":
            latest = next(iter(rows(obj, "status", "history")), {})
            return text(latest, "chartVersion") or text(obj, "status", "lastAppliedRevision")
        case "ImagePolicy":
            tag = text(obj, "status", "latestRef", "tag")
            return tag or text(obj, "status", "latestImage").rpartition(":")[2]
        case "ImageUpdateAutomation":
            return text(obj, "status", "lastPushCommit")
        case "ImageRepository":
            tags = whole(obj, "status", "lastScanResult", "tagCount")
            return f"{tags} tags" if tags else ""
        case _:
            return text(obj, "status", "lastAppliedRevision") or text(obj, "status", "artifact", "revision")


def _retried(obj: Obj, health: Health) -> str:
    """How the last reconciliation ended where it failed and another is under way: a Kustomization says so only in its
    history, as each new try makes it Ready=Unknown."""
    if text(obj, "kind") != "Kustomization" or health not in (Health.RECONCILING, Health.STUCK):
        return ""
    last = max(rows(obj, "status", "history"), key=lambda h: text(h, "lastReconciled"), default={})
    status = text(last, "lastReconciledStatus")
    return status if status and status != "ReconciliationSucceeded" else ""
