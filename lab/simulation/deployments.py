"""The Deployment controller: one ReplicaSet a template, rollouts between them, and the conditions."""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, condition, name_of, namespace_of, owner_reference, uid_of
from lab.simulation.replicasets import active, owned_pods, ready
from lab.store import Store
from lab.times import parse_instant, rfc3339

_SOURCE = Source("deployment-controller")
_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Obj) -> str:
    """A short hash of the pod template, in the letters that Kubernetes uses."""
    # Labels or annotations that are empty are as none.
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    text = json.dumps({**template, "metadata": metadata}, sort_keys=True).encode()
    number = int.from_bytes(hashlib.sha256(text).digest()[:6], "big")
    letters = ""
    while len(letters) < 9:
        number, place = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[place]
    return letters


def new_replica_set(deployment: Obj, revision: int, replicas: int, at: datetime) -> Obj:
    template = copy.deepcopy(deployment["spec"]["template"])
    digest = template_hash(template)
    template["metadata"].setdefault("labels", {})[_HASH] = digest
    selector = copy.deepcopy(deployment["spec"]["selector"])
    selector.setdefault("matchLabels", {})[_HASH] = digest
    wanted = deployment["spec"].get("replicas", 1)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{digest}",
            "namespace": namespace_of(deployment),
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": str(wanted),
                "deployment.kubernetes.io/max-replicas": str(wanted + 1),
                _REVISION: str(revision),
            },
            "creationTimestamp": rfc3339(at),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
        "status": {"replicas": 0},
    }


class Deployments:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._seen: dict[str, tuple[str, ...]] = {}
        self._hashes: dict[tuple[str, int], str] = {}

    def step(self, now: datetime) -> None:
        for found in self._store.all("deployments.apps"):
            self._sync(found, now)

    def _settled(self, deployment: Obj) -> bool:
        """Whether a finished rollout has seen no change since it was last looked at."""
        progress = condition(deployment, "Progressing")
        if progress is None or progress["reason"] != "NewReplicaSetAvailable":
            return False
        versions = [str(deployment["metadata"]["resourceVersion"])]
        for one in self._owned(deployment):
            versions.append(one["metadata"]["resourceVersion"])
            versions += [pod["metadata"]["resourceVersion"] for pod in owned_pods(self._store, one)]
        seen = self._seen.get(uid_of(deployment))
        self._seen[uid_of(deployment)] = tuple(versions)
        return seen == tuple(versions)

    def _hash(self, deployment: Obj) -> str:
        key = (uid_of(deployment), deployment["metadata"]["generation"])
        if key not in self._hashes:
            self._hashes[key] = template_hash(deployment["spec"]["template"])
        return self._hashes[key]

    def _owned(self, deployment: Obj) -> list[Obj]:
        return self._store.controlled_by("replicasets.apps", uid_of(deployment))

    def _sync(self, deployment: Obj, now: datetime) -> None:
        if deployment["spec"].get("paused"):
            self._hold(deployment, now)
            return
        if self._settled(deployment):
            return
        digest = self._hash(deployment)
        owned = self._owned(deployment)
        current = next((one for one in owned if name_of(one) == f"{name_of(deployment)}-{digest}"), None)
        old = [one for one in owned if one is not current]
        wanted = deployment["spec"].get("replicas", 1)
        recreate = deployment["spec"].get("strategy", {}).get("type") == "Recreate"
        newest = max((int(one["metadata"]["annotations"][_REVISION]) for one in owned), default=0)
        if recreate and any(owned_pods(self._store, one) for one in old):
            for one in old:
                self._scale(deployment, one, 0, now)
            self._write_status(deployment, current, now)
            return
        if current is None:
            made = new_replica_set(deployment, newest + 1, 0, now)
            current = self._store.add("replicasets.apps", made)
            self._annotate(deployment, newest + 1)
        elif old and int(current["metadata"]["annotations"][_REVISION]) < newest:
            annotations = {**current["metadata"]["annotations"], _REVISION: str(newest + 1)}
            metadata = {**current["metadata"], "annotations": annotations}
            current = self._store.replace("replicasets.apps", {**current, "metadata": metadata})
            self._annotate(deployment, newest + 1)
        current = self._scale(deployment, current, wanted, now)
        up = len(ready(active(owned_pods(self._store, current))))
        for one in old:
            if up >= wanted:
                self._scale(deployment, one, 0, now)
        latest = self._store.get("deployments.apps", namespace_of(deployment), name_of(deployment))
        self._write_status(latest or deployment, current, now)

    def _hold(self, deployment: Obj, now: datetime) -> None:
        """A paused deployment is still scaled, and rolls out nothing."""
        owned = self._owned(deployment)
        newest = max(owned, key=lambda one: int(one["metadata"]["annotations"][_REVISION]), default=None)
        others = sum(one["spec"]["replicas"] for one in owned if one is not newest)
        if newest is not None and not others:
            newest = self._scale(deployment, newest, deployment["spec"].get("replicas", 1), now)
        fresh = newest if newest is not None and name_of(newest).endswith(self._hash(deployment)) else None
        self._write_status(deployment, fresh, now)

    def _annotate(self, deployment: Obj, revision: int) -> None:
        annotations = {**(deployment["metadata"].get("annotations") or {}), _REVISION: str(revision)}
        metadata = {**deployment["metadata"], "annotations": annotations}
        self._store.replace("deployments.apps", {**deployment, "metadata": metadata})

    def _scale(self, deployment: Obj, one: Obj, replicas: int, now: datetime) -> Obj:
        before = one["spec"]["replicas"]
        if before == replicas:
            return one
        word = "up" if replicas > before else "down"
        message = f"Scaled {word} replica set {name_of(one)} from {before} to {replicas}"
        self._recorder.record(deployment, _SOURCE, "Normal", "ScalingReplicaSet", message, now)
        return self._store.replace("replicasets.apps", {**one, "spec": {**one["spec"], "replicas": replicas}})

    def _write_status(self, deployment: Obj, current: Obj | None, now: datetime) -> None:
        pods = [pod for one in self._owned(deployment) for pod in active(owned_pods(self._store, one))]
        updated = active(owned_pods(self._store, current)) if current else []
        up, wanted = len(ready(pods)), deployment["spec"].get("replicas", 1)
        status: Obj = {"observedGeneration": deployment["metadata"].get("generation", 1)}
        counts = {
            "replicas": len(pods),
            "updatedReplicas": len(updated),
            "readyReplicas": up,
            "availableReplicas": up,
            "unavailableReplicas": max(0, wanted - up),
        }
        status |= {key: value for key, value in counts.items() if value}
        status["conditions"] = self._conditions(deployment, current, up, len(ready(updated)), now)
        if status != deployment.get("status"):
            self._store.replace("deployments.apps", {**deployment, "status": status})

    def _conditions(
        self, deployment: Obj, current: Obj | None, up: int, updated: int, now: datetime
    ) -> list[Obj]:
        wanted = deployment["spec"].get("replicas", 1)
        unavailable = (
            deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable", "25%")
        )
        share = int(str(unavailable).rstrip("%")) if str(unavailable).endswith("%") else None
        slack = wanted * share // 100 if share is not None else int(unavailable)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            slack = 0
        found = []
        if up >= wanted - slack:
            found.append(
                _condition(
                    deployment,
                    "Available",
                    "True",
                    "MinimumReplicasAvailable",
                    "Deployment has minimum availability.",
                    now,
                )
            )
        else:
            found.append(
                _condition(
                    deployment,
                    "Available",
                    "False",
                    "MinimumReplicasUnavailable",
                    "Deployment does not have minimum availability.",
                    now,
                )
            )
        failure = condition(current, "ReplicaFailure") if current else None
        if failure:
            found.append(
                _condition(deployment, "ReplicaFailure", "True", failure["reason"], failure["message"], now)
            )
        found.append(self._progress(deployment, current, updated >= wanted, now))
        return found

    def _progress(self, deployment: Obj, current: Obj | None, complete: bool, now: datetime) -> Obj:
        named = f'ReplicaSet "{name_of(current)}"' if current else f'Deployment "{name_of(deployment)}"'
        before = condition(deployment, "Progressing")
        if deployment["spec"].get("paused"):
            return _condition(deployment, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
        same = before is not None and before["message"].startswith(named)
        # A rollout that was complete stays so while its pods fail: only a new template restarts the clock.
        if complete or (before is not None and same and before["reason"] == "NewReplicaSetAvailable"):
            message = f"{named} has successfully progressed."
            return _condition(deployment, "Progressing", "True", "NewReplicaSetAvailable", message, now)
        deadline = timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))
        late = before is not None and same and now - parse_instant(before["lastUpdateTime"]) >= deadline
        if late or (before is not None and same and before["reason"] == "ProgressDeadlineExceeded"):
            message = f"{named} has timed out progressing."
            return _condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", message, now)
        return _condition(
            deployment, "Progressing", "True", "ReplicaSetUpdated", f"{named} is progressing.", now
        )


def _condition(deployment: Obj, kind: str, status: str, reason: str, message: str, now: datetime) -> Obj:
    before = condition(deployment, kind)
    made = {"type": kind, "status": status, "reason": reason, "message": message}
    moved = updated = rfc3339(now)
    if before is not None and before["status"] == status:
        moved = before["lastTransitionTime"]
        if before["reason"] == reason and before["message"] == message:
            updated = before["lastUpdateTime"]
    return {**made, "lastUpdateTime": updated, "lastTransitionTime": moved}
