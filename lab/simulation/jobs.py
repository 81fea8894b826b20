"""The Job controller, and the part of CronJobs that counts their Jobs (the lab fires none by itself)."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, condition_is, controller_uid, name_of, namespace_of, uid_of
from lab.simulation.pods import new_pod, suffix
from lab.simulation.replicasets import active, owned_pods
from lab.store import Store
from lab.times import parse_instant, rfc3339

_SOURCE = Source("job-controller")


def ended_at(pod: Obj) -> datetime | None:
    """When the pod's last container ended."""
    stamps = [
        status["state"]["terminated"]["finishedAt"]
        for status in pod["status"].get("containerStatuses") or []
        if "terminated" in status["state"]
    ]
    return parse_instant(max(stamps)) if stamps else None


class Jobs:
    def __init__(self, store: Store, recorder: Recorder, rng: random.Random) -> None:
        self._store, self._recorder, self._rng = store, recorder, rng

    def step(self, now: datetime) -> None:
        for job in self._store.all("jobs.batch"):
            if not (condition_is(job, "Complete") or condition_is(job, "Failed")):
                self._sync(job, now)
        for cron in self._store.all("cronjobs.batch"):
            self._count(cron)

    def _sync(self, job: Obj, now: datetime) -> None:
        pods = owned_pods(self._store, job)
        failed = [pod for pod in pods if pod["status"].get("phase") == "Failed"]
        succeeded = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
        running = active(pods)
        limit = job["spec"].get("backoffLimit", 6)
        status: Obj = {k: v for k, v in (job.get("status") or {}).items() if k in ("startTime", "conditions")}
        status.setdefault("startTime", rfc3339(now))
        if succeeded:
            at = max(filter(None, map(ended_at, succeeded)), default=now)
            status |= {
                "conditions": _ended(
                    "Complete", "CompletionsReached", "Reached expected number of succeeded pods", at
                ),
                "completionTime": rfc3339(at),
            }
            self._record(job, "Normal", "Completed", "Job completed", at)
        elif len(failed) > limit:
            at = max(filter(None, map(ended_at, failed)), default=now)
            message = "Job has reached the specified backoff limit"
            status["conditions"] = _ended("Failed", "BackoffLimitExceeded", message, at)
            self._record(job, "Warning", "BackoffLimitExceeded", message, at)
        elif not running and self._may_retry(failed, now):
            made = new_pod(job, job["spec"]["template"], f"{name_of(job)}-{suffix(self._rng)}", now)
            self._store.add("pods", made)
            self._record(job, "Normal", "SuccessfulCreate", f"Created pod: {name_of(made)}", now)
            running = [made]
        counts = {"active": len(running), "failed": len(failed), "succeeded": len(succeeded)}
        status |= {key: value for key, value in counts.items() if value}
        status |= {
            "ready": sum(1 for pod in running if condition_is(pod, "Ready")),
            "uncountedTerminatedPods": {},
        }
        status["terminating"] = 0
        if status != job.get("status"):
            self._store.replace("jobs.batch", {**job, "status": status})

    def _may_retry(self, failed: list[Obj], now: datetime) -> bool:
        if not failed:
            return True
        last = max(filter(None, map(ended_at, failed)), default=now)
        return now >= last + timedelta(seconds=min(10 * 2 ** (len(failed) - 1), 600))

    def _record(self, job: Obj, type_: str, reason: str, message: str, at: datetime) -> None:
        self._recorder.record(job, _SOURCE, type_, reason, message, at)

    def _count(self, cron: Obj) -> None:
        jobs = self._store.all("jobs.batch", namespace_of(cron))
        owned = [job for job in jobs if controller_uid(job) == uid_of(cron)]
        running = [job for job in owned if not (condition_is(job, "Complete") or condition_is(job, "Failed"))]
        status: Obj = {}
        if running:
            status["active"] = [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": name_of(job),
                    "namespace": namespace_of(job),
                    "uid": uid_of(job),
                }
                for job in running
            ]
        if owned:
            status["lastScheduleTime"] = max(job["metadata"]["creationTimestamp"] for job in owned)
        finished = [job["status"]["completionTime"] for job in owned if condition_is(job, "Complete")]
        earlier = (cron.get("status") or {}).get("lastSuccessfulTime")
        if finished or earlier:
            status["lastSuccessfulTime"] = max([*finished, *([earlier] if earlier else [])])
        if status != cron.get("status"):
            self._store.replace("cronjobs.batch", {**cron, "status": status})


def _ended(kind: str, reason: str, message: str, at: datetime) -> list[Obj]:
    first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
    stamp = rfc3339(at)
    return [
        {
            "type": one,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastProbeTime": stamp,
            "lastTransitionTime": stamp,
        }
        for one in (first, kind)
    ]
