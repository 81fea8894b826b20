"""The ReplicaSet controller: as many pods as the spec asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, condition_is, is_deleting, name_of, uid_of
from lab.simulation.pods import new_pod, suffix
from lab.simulation.podstatus import set_condition
from lab.simulation.quota import quota_refusal
from lab.store import Store
from lab.times import rfc3339

_SOURCE = Source("replicaset-controller")
LONGEST_PAUSE = 1000.0
"""Seconds; the limit of the controller's work queue."""


@dataclass(frozen=True)
class _Refusal:
    why: str
    pause: float
    until: datetime


def owned_pods(store: Store, owner: Obj) -> list[Obj]:
    return store.controlled_by("pods", uid_of(owner))


def active(pods: list[Obj]) -> list[Obj]:
    """The pods that count: not being deleted and not ended."""
    return [p for p in pods if not is_deleting(p) and p["status"].get("phase") not in ("Failed", "Succeeded")]


def ready(pods: list[Obj]) -> list[Obj]:
    return [pod for pod in pods if condition_is(pod, "Ready")]


def mark_deleted(store: Store, pod: Obj, now: datetime) -> Obj:
    """Begins a graceful deletion; the kubelet ends it."""
    grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
    metadata = {**pod["metadata"], "deletionTimestamp": rfc3339(now), "deletionGracePeriodSeconds": grace}
    return store.replace("pods", {**pod, "metadata": metadata})


class ReplicaSets:
    def __init__(self, store: Store, recorder: Recorder, rng: random.Random) -> None:
        self._store, self._recorder, self._rng = store, recorder, rng
        self._refused: dict[str, _Refusal] = {}

    def step(self, now: datetime) -> None:
        for found in self._store.all("replicasets.apps"):
            self._sync(found, now)

    def _sync(self, found: Obj, now: datetime) -> None:
        pods = active(owned_pods(self._store, found))
        wanted = found["spec"].get("replicas", 1)
        refusal = self._fill(found, wanted - len(pods), now)
        # Those that are not ready go first, as in the real controller.
        doomed = sorted(pods, key=lambda pod: (condition_is(pod, "Ready"), name_of(pod)))
        for pod in doomed[: max(0, len(pods) - wanted)]:
            mark_deleted(self._store, pod, now)
            message = f"Deleted pod: {name_of(pod)}"
            self._recorder.record(found, _SOURCE, "Normal", "SuccessfulDelete", message, now)
        self._write_status(found, refusal, now)

    def _fill(self, found: Obj, missing: int, now: datetime) -> str:
        """Creates what is missing; returns why that is refused, tried again after ever longer pauses."""
        last = self._refused.get(uid_of(found))
        if missing > 0 and last is not None and now < last.until:
            return last.why
        for _ in range(missing):
            why = self._create(found, now)
            if why:
                pause = min(last.pause * 2, LONGEST_PAUSE) if last else 1.0
                self._refused[uid_of(found)] = _Refusal(why, pause, now + timedelta(seconds=pause))
                return why
        self._refused.pop(uid_of(found), None)
        return ""

    def _create(self, found: Obj, now: datetime) -> str:
        pod = new_pod(found, found["spec"]["template"], f"{name_of(found)}-{suffix(self._rng)}", now)
        refused = quota_refusal(self._store, pod)
        if refused is not None:
            self._recorder.record(
                found, _SOURCE, "Warning", "FailedCreate", f"Error creating: {refused.message}", now
            )
            return refused.message
        self._store.add("pods", pod)
        self._recorder.record(
            found, _SOURCE, "Normal", "SuccessfulCreate", f"Created pod: {name_of(pod)}", now
        )
        return ""

    def _write_status(self, found: Obj, refusal: str, now: datetime) -> None:
        pods = active(owned_pods(self._store, found))
        up = len(ready(pods))
        status: Obj = {"observedGeneration": found["metadata"].get("generation", 1), "replicas": len(pods)}
        if pods:
            status |= {"fullyLabeledReplicas": len(pods)}
        if up:
            status |= {"readyReplicas": up, "availableReplicas": up}
        if refusal:
            before = (found.get("status") or {}).get("conditions") or []
            conditions = [{k: v for k, v in item.items() if k != "lastProbeTime"} for item in before]
            old = next((item for item in conditions if item["type"] == "ReplicaFailure"), None)
            if old is None:
                set_condition(conditions, "ReplicaFailure", "True", now, "FailedCreate", refusal)
                conditions[-1].pop("lastProbeTime", None)
            status["conditions"] = conditions
        if status != found.get("status"):
            self._store.replace("replicasets.apps", {**found, "status": status})
