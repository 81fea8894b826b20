"""Jobs that failed or keep failing, and CronJobs that can't run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, LogSource, Severity
from mcp_servers.kubernetes.diagnose.fields import Obj, at, condition, name_of, namespace_of, number, text
from mcp_servers.kubernetes.diagnose.podstate import Container, containers, since
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, controller_of, ref_of
from mcp_servers.kubernetes.diagnose.termination import exit_evidence, explain, log_source
from mcp_servers.kubernetes.rendering import duration

_DAY = 86400.0
_WEEK = 7 * _DAY


def failed_jobs(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Jobs that gave up or whose attempts fail. Of a CronJob only the latest Job counts."""
    found: list[Finding] = []
    latest = _latest(snapshot)
    for job in snapshot.kind("Job"):
        if at(job, "spec", "suspend") or text(condition(job, "Complete"), "status") == "True":
            continue
        if _superseded(job, latest) or _suspended_cron(snapshot, job):
            continue
        failed = condition(job, "Failed")
        target = condition(job, "FailureTarget")
        if text(failed, "status") == "True" or text(target, "status") == "True":
            found.append(_failed(snapshot, job, failed or target, now))
        elif number(job, "status", "failed") and not number(job, "status", "succeeded"):
            found.append(_retrying(snapshot, job, now))
    return found


def _started(job: Obj) -> str:
    return text(job, "status", "startTime") or text(job, "metadata", "creationTimestamp")


def _latest(snapshot: Snapshot) -> dict[tuple[str, str], tuple[str, str]]:
    """When the latest Job of each CronJob that ended was started, and its name."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for job in snapshot.kind("Job"):
        if (cron := _cron(job)) and _ended(job):
            found[cron] = max(found.get(cron, ("", "")), (_started(job), name_of(job)))
    return found


def _cron(job: Obj) -> tuple[str, str] | None:
    owner = controller_of(job)
    return (namespace_of(job), text(owner, "name")) if text(owner, "kind") == "CronJob" else None


def _superseded(job: Obj, latest: Mapping[tuple[str, str], tuple[str, str]]) -> bool:
    """Whether the same CronJob made a newer Job that ended, well or not: that one tells how things are."""
    cron = _cron(job)
    return cron is not None and latest.get(cron, ("", "")) > (_started(job), name_of(job))


def _ended(job: Obj) -> bool:
    return any(text(condition(job, kind), "status") == "True" for kind in ("Complete", "Failed"))


def _suspended_cron(snapshot: Snapshot, job: Obj) -> bool:
    cron = snapshot.find(snapshot.root(job))
    return text(cron, "kind") == "CronJob" and bool(at(cron, "spec", "suspend"))


def _last_failure(snapshot: Snapshot, job: Obj) -> tuple[Obj, Container] | None:
    """The newest failed pod of the Job and its container that ended badly."""
    pods = [one for one in snapshot.children(job) if text(one, "kind") == "Pod"]
    for pod in sorted(pods, key=lambda p: text(p, "metadata", "creationTimestamp"), reverse=True):
        for container in containers(pod):
            if number(container.last_exit, "exitCode"):
                return pod, container
    return None


def _pod_evidence(
    snapshot: Snapshot, job: Obj, now: datetime
) -> tuple[list[Evidence], str, str, LogSource | None]:
    """Evidence, a phrase, a next step and the log of the attempt that failed last."""
    last = _last_failure(snapshot, job)
    if last is None:
        return [], "", "Read the events and the log of its pods.", None
    pod, container = last
    what = explain(container)
    return (
        exit_evidence(container, now),
        f": {container.label} {what.phrase}",
        what.next_step,
        log_source(pod, container),
    )


def _failed(snapshot: Snapshot, job: Obj, told: Obj, now: datetime) -> Finding:
    root = snapshot.root(job)
    evidence, phrase, step, logs = _pod_evidence(snapshot, job, now)
    reason = text(told, "reason") or "JobFailed"
    evidence.insert(0, Evidence(f"Job {name_of(job)} condition Failed", f"{reason}: {text(told, 'message')}"))
    evidence += [
        event.evidence(now)
        for event in snapshot.events(job, reason)[:1]
        if event.message != text(told, "message")
    ]
    severity, ago = Severity.MEDIUM, since(text(told, "lastTransitionTime"), now)
    if root.kind == "CronJob":
        title, why = (
            f"its last run failed{phrase}",
            "the scheduled work was not done, and the next run will fail too",
        )
    else:
        title, why = f"the Job failed{phrase}", "its work was not done, and it does not try again by itself"
        if ago is not None and ago > _DAY:
            severity, why = Severity.LOW, f"it failed {duration(ago)} ago and does not try again by itself"
    if reason == "DeadlineExceeded":
        step = "Raise activeDeadlineSeconds, or find why it takes so long."
    return Finding(root, severity, why, reason, title, tuple(evidence), step, subject=ref_of(job), logs=logs)


def _retrying(snapshot: Snapshot, job: Obj, now: datetime) -> Finding:
    evidence, phrase, step, logs = _pod_evidence(snapshot, job, now)
    failed, limit = number(job, "status", "failed"), number(job, "spec", "backoffLimit", default=6)
    evidence.insert(
        0, Evidence(f"Job {name_of(job)} status", f"{failed} attempts failed, backoffLimit {limit}")
    )
    return Finding(
        snapshot.root(job),
        Severity.LOW,
        "it still tries again by itself",
        "JobRetrying",
        f"attempts of the Job fail{phrase}",
        tuple(evidence),
        step,
        subject=ref_of(job),
        symptom=True,
        logs=logs,
    )


def broken_schedules(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """CronJobs whose schedule can't be read, that missed too many runs, or whose Jobs can't be created."""
    found: list[Finding] = []
    reasons = (
        "UnparseableSchedule",
        "InvalidSchedule",
        "UnknownTimeZone",
        "TooManyMissedTimes",
        "FailedCreate",
    )
    for cron in snapshot.kind("CronJob"):
        events = snapshot.recent(cron, now, _WEEK, *reasons)
        if at(cron, "spec", "suspend") or not events:
            continue
        if any(event.last > events[0].last for event in snapshot.events(cron, "SuccessfulCreate")):
            continue
        last = text(cron, "status", "lastScheduleTime") or "never"
        told = f"schedule {text(cron, 'spec', 'schedule')}, last scheduled {last}"
        found.append(
            Finding(
                ref_of(cron),
                Severity.MEDIUM,
                "the scheduled work is not started",
                events[0].reason,
                "its Jobs can't be created"
                if events[0].reason == "FailedCreate"
                else "its schedule can't be kept",
                (events[0].evidence(now), Evidence(f"CronJob {name_of(cron)}", told)),
                "Correct what the event names; over 100 missed runs call for startingDeadlineSeconds.",
            )
        )
    return found
