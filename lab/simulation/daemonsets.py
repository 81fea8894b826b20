"""The DaemonSet controller: one pod on every node that accepts it."""

from __future__ import annotations

import random
from datetime import datetime

from lab.events import Recorder, Source
from lab.objects import Obj, is_deleting, name_of
from lab.simulation.pods import new_pod, suffix
from lab.simulation.replicasets import active, mark_deleted, owned_pods, ready
from lab.simulation.scheduler import node_accepts
from lab.simulation.statefulsets import REVISION, keep_revision
from lab.store import Store

_SOURCE = Source("daemonset-controller")
_TOLERATED = ("not-ready", "unreachable")
_PRESSURE = ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


def _tolerations() -> list[Obj]:
    ones = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in _TOLERATED
    ]
    ones += [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoSchedule"}
        for key in _PRESSURE
    ]
    return ones


class DaemonSets:
    def __init__(self, store: Store, recorder: Recorder, rng: random.Random) -> None:
        self._store, self._recorder, self._rng = store, recorder, rng

    def step(self, now: datetime) -> None:
        for found in self._store.all("daemonsets.apps"):
            self._sync(found, now)

    def _sync(self, found: Obj, now: datetime) -> None:
        revision = keep_revision(self._store, found, now)
        digest = revision.rsplit("-", 1)[1]
        pods = owned_pods(self._store, found)
        by_node = {pod["spec"].get("nodeName"): pod for pod in pods if not is_deleting(pod)}
        wanted = 0
        template = found["spec"]["template"]["spec"]
        probe = {"spec": {**template, "tolerations": [*(template.get("tolerations") or []), *_tolerations()]}}
        for node in self._store.all("nodes"):
            if node_accepts(probe, node):
                continue
            wanted += 1
            pod = by_node.get(name_of(node))
            if pod is None and not any(p["spec"].get("nodeName") == name_of(node) for p in pods):
                self._create(found, node, digest, now)
            elif pod is not None and pod["metadata"]["labels"].get(REVISION) != digest:
                mark_deleted(self._store, pod, now)
        self._write_status(found, wanted, digest)

    def _create(self, found: Obj, node: Obj, digest: str, now: datetime) -> None:
        name = f"{name_of(found)}-{suffix(self._rng)}"
        labels = {REVISION: digest, "pod-template-generation": str(found["metadata"].get("generation", 1))}
        pod = new_pod(found, found["spec"]["template"], name, now, labels)
        kept = [item for item in pod["spec"]["tolerations"] if "tolerationSeconds" not in item]
        pod["spec"]["tolerations"] = [*kept, *_tolerations()]
        # The real one goes through the scheduler with a node affinity; the result is the same.
        pod["spec"]["nodeName"] = name_of(node)
        pod["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": pod["metadata"]["creationTimestamp"],
            }
        ]
        self._store.add("pods", pod)
        self._recorder.record(found, _SOURCE, "Normal", "SuccessfulCreate", f"Created pod: {name}", now)

    def _write_status(self, found: Obj, wanted: int, digest: str) -> None:
        pods = active(owned_pods(self._store, found))
        up = len(ready(pods))
        fresh = sum(1 for pod in pods if pod["metadata"]["labels"].get(REVISION) == digest)
        status = {
            "observedGeneration": found["metadata"].get("generation", 1),
            "desiredNumberScheduled": wanted,
            "currentNumberScheduled": len(pods),
            "numberReady": up,
            "numberAvailable": up,
            "updatedNumberScheduled": fresh,
            "numberMisscheduled": 0,
        }
        if wanted - up:
            status["numberUnavailable"] = wanted - up
        if status != found.get("status"):
            self._store.replace("daemonsets.apps", {**found, "status": status})
