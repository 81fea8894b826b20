"""The StatefulSet controller: numbered pods in order, each with its own claims."""

from __future__ import annotations

import copy
from datetime import datetime

from lab.events import Recorder, Source
from lab.objects import Obj, condition_is, is_deleting, name_of, namespace_of, owner_reference
from lab.simulation.deployments import template_hash
from lab.simulation.pods import new_pod
from lab.simulation.replicasets import active, mark_deleted, owned_pods, ready
from lab.store import Store
from lab.times import rfc3339

_SOURCE = Source("statefulset-controller")
REVISION = "controller-revision-hash"


def revision_name(owner: Obj) -> str:
    return f"{name_of(owner)}-{template_hash(owner['spec']['template'])}"


def keep_revision(store: Store, owner: Obj, now: datetime) -> str:
    """Stores the ControllerRevision of the owner's present template, if it is new; returns its name."""
    name = revision_name(owner)
    found = store.get("controllerrevisions.apps", namespace_of(owner), name)
    earlier = store.controlled_by("controllerrevisions.apps", owner["metadata"]["uid"])
    newest = max((r["revision"] for r in earlier), default=0)
    if found is not None and found["revision"] < newest:
        # A rollback: the template's old revision becomes the newest one.
        store.replace("controllerrevisions.apps", {**found, "revision": newest + 1})
    if found is None:
        store.add(
            "controllerrevisions.apps",
            {
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {
                    "name": name,
                    "namespace": namespace_of(owner),
                    "labels": dict(owner["spec"]["template"]["metadata"].get("labels") or {}),
                    "creationTimestamp": rfc3339(now),
                    "ownerReferences": [owner_reference(owner)],
                },
                "data": {"spec": {"template": copy.deepcopy(owner["spec"]["template"])}},
                "revision": newest + 1,
            },
        )
    return name


class StatefulSets:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder

    def step(self, now: datetime) -> None:
        for found in self._store.all("statefulsets.apps"):
            self._sync(found, now)

    def _sync(self, found: Obj, now: datetime) -> None:
        revision = keep_revision(self._store, found, now)
        wanted = found["spec"].get("replicas", 1)
        named = {name_of(pod): pod for pod in owned_pods(self._store, found)}
        if self._is_complete(found, named, revision, now):
            self._update(found, named, revision, now)
        for name, pod in named.items():
            if int(name.rsplit("-", 1)[1]) >= wanted and not is_deleting(pod):
                mark_deleted(self._store, pod, now)
        self._write_status(found, revision)

    def _is_complete(self, found: Obj, named: dict[str, Obj], revision: str, now: datetime) -> bool:
        """Makes the lowest pod that is missing. Says whether all are there and, kept in order, up.

        So one that never gets ready holds everything up, a rollback too, until somebody deletes it: as in the real one.
        """
        ordered = found["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        for number in range(found["spec"].get("replicas", 1)):
            pod = named.get(f"{name_of(found)}-{number}")
            if pod is None:
                self._create(found, number, revision, now)
                return False
            if is_deleting(pod) or (ordered and not condition_is(pod, "Ready")):
                return False
        return True

    def _update(self, found: Obj, named: dict[str, Obj], revision: str, now: datetime) -> None:
        """Replaces the highest pod of an old revision, once those above it are up; none below the partition."""
        strategy = found["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        first = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
        for number in reversed(range(first, found["spec"].get("replicas", 1))):
            pod = named[f"{name_of(found)}-{number}"]
            if is_deleting(pod):
                return
            if pod["metadata"]["labels"].get(REVISION) != revision:
                mark_deleted(self._store, pod, now)
                return
            if not condition_is(pod, "Ready"):
                return

    def _create(self, found: Obj, number: int, revision: str, now: datetime) -> None:
        name = f"{name_of(found)}-{number}"
        labels = {
            REVISION: revision,
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(number),
        }
        pod = new_pod(found, found["spec"]["template"], name, now, labels)
        pod["spec"] |= {"hostname": name, "subdomain": found["spec"].get("serviceName", "")}
        for claim in found["spec"].get("volumeClaimTemplates") or []:
            claim_name = f"{name_of(claim)}-{name}"
            volume = {"name": name_of(claim), "persistentVolumeClaim": {"claimName": claim_name}}
            pod["spec"]["volumes"].insert(0, volume)
            if self._store.get("persistentvolumeclaims", namespace_of(found), claim_name) is None:
                made = copy.deepcopy(claim) | {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
                made["metadata"] |= {"name": claim_name, "namespace": namespace_of(found)}
                self._store.add("persistentvolumeclaims", {**made, "status": {"phase": "Pending"}})
        self._store.add("pods", pod)
        message = f"create Pod {name} in StatefulSet {name_of(found)} successful"
        self._recorder.record(found, _SOURCE, "Normal", "SuccessfulCreate", message, now)

    def _write_status(self, found: Obj, revision: str) -> None:
        pods = active(owned_pods(self._store, found))
        up, wanted = len(ready(pods)), found["spec"].get("replicas", 1)
        fresh = sum(1 for pod in pods if pod["metadata"]["labels"].get(REVISION) == revision)
        before = (found.get("status") or {}).get("currentRevision", revision)
        current = revision if fresh == len(pods) == wanted and up == wanted else before
        status = {
            "observedGeneration": found["metadata"].get("generation", 1),
            "replicas": len(pods),
            "readyReplicas": up,
            "availableReplicas": up,
            "currentReplicas": sum(1 for pod in pods if pod["metadata"]["labels"].get(REVISION) == current),
            "updatedReplicas": fresh,
            "currentRevision": current,
            "updateRevision": revision,
            "collisionCount": 0,
        }
        if status != found.get("status"):
            self._store.replace("statefulsets.apps", {**found, "status": status})
