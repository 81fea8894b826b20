"""Jobs and CronJobs."""

from __future__ import annotations

from typing import Any

from tests.mcp_servers.kubernetes.diagnose.build import (
    ago,
    causes,
    ended,
    event,
    meta,
    only,
    pod,
    run,
    status,
    told,
)

LIMIT = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}


def cron(**spec: Any) -> dict[str, Any]:
    base = {"schedule": "0 3 * * *", "jobTemplate": {}, **spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": meta("backup"),
        "spec": base,
        "status": {},
    }


def job(name: str = "backup-1", owner: Any = None, age: float = 3600, **state: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(name, owner=owner, age=age),
        "spec": {"backoffLimit": 2},
        "status": {"startTime": ago(age), **state},
    }


def failed(**words: str) -> dict[str, Any]:
    row = {"type": "Failed", "status": "True", **LIMIT, **words}
    return {"failed": 3, "conditions": [{**row, "type": "FailureTarget"}, row]}


def complete() -> dict[str, Any]:
    return {"succeeded": 1, "failed": 1, "conditions": [{"type": "Complete", "status": "True"}]}


def attempt(owner: dict[str, Any], code: int = 1) -> dict[str, Any]:
    return pod(status(terminated=ended(code)), owner=owner, phase="Failed")


def test_a_failed_job_of_a_cron_job_is_the_cron_jobs_finding() -> None:
    top = cron()
    run_ = job(owner=top, **failed())
    report = run(top, run_, attempt(run_))
    assert causes(report) == ["CronJob media/backup: BackoffLimitExceeded"]
    assert "container sonarr exits with code 1" in only(report).title
    assert "Job backup-1 condition Failed: BackoffLimitExceeded: Job has reached" in told(report)
    assert only(report).logs.pod.startswith("backup-1")


def test_a_job_over_its_deadline_says_so() -> None:
    words = {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
    assert causes(run(job(**failed(**words)))) == ["Job media/backup-1: DeadlineExceeded"]


def test_a_job_that_failed_days_ago_is_low() -> None:
    assert only(run(job(**failed(lastTransitionTime=ago(200000))))).severity == "low"


def test_a_newer_run_that_ended_well_settles_an_older_failure() -> None:
    top = cron()
    assert causes(run(top, job("backup-1", top, 7200, **failed()), job("backup-2", top, 3600, **complete()))) == []


def test_a_newer_run_that_is_still_going_settles_nothing() -> None:
    top = cron()
    report = run(top, job("backup-1", top, 7200, **failed()), job("backup-2", top, 30, active=1))
    assert causes(report) == ["CronJob media/backup: BackoffLimitExceeded"]


def test_a_job_that_failed_once_and_then_completed_is_in_order() -> None:
    done = job(**complete())
    assert causes(run(done, attempt(done))) == []


def test_suspended_cron_jobs_and_jobs_are_left_alone() -> None:
    top = cron(suspend=True)
    assert causes(run(top, job(owner=top, **failed()))) == []
    waiting = job(failed=1)
    waiting["spec"]["suspend"] = True
    assert causes(run(waiting)) == []


def test_a_job_that_still_tries_is_low() -> None:
    trying = job(failed=1, active=1)
    finding = only(run(trying, attempt(trying, 137)))
    assert (finding.cause, finding.severity) == ("JobRetrying", "low")


def test_a_cron_job_that_can_not_be_scheduled_is_told() -> None:
    top = cron()
    words = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
    assert causes(run(top, event(top, "TooManyMissedTimes", words))) == ["CronJob media/backup: TooManyMissedTimes"]
