"""The status that Flux's controllers leave on their objects."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from lab.objects import Obj, condition, meta
from lab.simulation.world import Fault
from lab.times import parse_age, rfc3339

REQUESTED = "reconcile.fluxcd.io/requestedAt"
RESET = "reconcile.fluxcd.io/resetAt"


def digest(text: str) -> str:
    """As Flux writes the digest of what it has stored or applied."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def requested(obj: Obj) -> str:
    """The request to be reconciled that the object carries, "" once it was handled."""
    asked = str((meta(obj).get("annotations") or {}).get(REQUESTED, ""))
    return "" if asked == status_of(obj).get("lastHandledReconcileAt") else asked


def status_of(obj: Obj) -> Obj:
    return dict(obj.get("status") or {})


def generation_of(obj: Obj) -> int:
    return int(meta(obj).get("generation", 1))


def is_behind(obj: Obj) -> bool:
    """Whether the spec has changed since the controller looked at it."""
    return bool(generation_of(obj) != status_of(obj).get("observedGeneration", generation_of(obj)))


def spec_of(obj: Obj) -> Obj:
    return dict(obj.get("spec") or {})


def every(obj: Obj, *fields: str) -> timedelta:
    """The first of these durations that the spec has; an hour where it has none that can be read."""
    for field in fields:
        try:
            return parse_age(str(spec_of(obj)[field]))
        except (KeyError, ValueError):
            continue
    return timedelta(hours=1)


def is_suspended(obj: Obj) -> bool:
    return spec_of(obj).get("suspend") is True


def handled(obj: Obj, status: Obj) -> Obj:
    """The object with this status, and its request answered."""
    asked = (meta(obj).get("annotations") or {}).get(REQUESTED)
    return {**obj, "status": {**status, **({"lastHandledReconcileAt": asked} if asked else {})}}


def judged(obj: Obj, ready: bool, reason: str, message: str, now: datetime, **more: Any) -> Obj:
    """The object looked at: Ready or not. A generation counts as observed when it is, as the controllers have it."""
    before = condition(obj, "Ready") or {}
    status = "True" if ready else "False"
    since = before.get("lastTransitionTime") if before.get("status") == status else rfc3339(now)
    new = {
        "type": "Ready",
        "status": status,
        "observedGeneration": generation_of(obj),
        "lastTransitionTime": since or rfc3339(now),
        "reason": reason,
        "message": message,
    }
    kept = [c for c in status_of(obj).get("conditions") or [] if c["type"] not in ("Ready", "Reconciling", "Stalled")]
    found = {**status_of(obj), **more, "conditions": [new, *kept]}
    if ready:
        found["observedGeneration"] = generation_of(obj)
    return handled(obj, found)


def failed(obj: Obj, fault: Fault, now: datetime, **more: Any) -> Obj:
    """The object with the status that a fault leaves; a controller that has given up says so in a condition more."""
    found = judged(obj, False, fault.reason, fault.message, now, **more)
    if not fault.stalled:
        return found
    (ready, *rest) = found["status"]["conditions"]
    stalled = {**ready, "type": "Stalled", "status": "True", "reason": "RetriesExceeded"}
    return {**found, "status": {**found["status"], "conditions": [ready, stalled, *rest]}}


def fails_anew(obj: Obj, fault: Fault | None) -> bool:
    """Whether a fault has come since the controller looked."""
    return fault is not None and not is_suspended(obj) and (condition(obj, "Ready") or {}).get("reason") != fault.reason
