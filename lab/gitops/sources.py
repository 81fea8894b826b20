"""source-controller: Git repositories that are fetched, and the other sources, which only answer requests."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.gitops.marks import (
    digest,
    every,
    failed,
    fails_anew,
    generation_of,
    handled,
    is_behind,
    is_suspended,
    judged,
    requested,
    spec_of,
    status_of,
)
from lab.gitops.origin import Origin
from lab.objects import Obj, name_of, namespace_of, uid_of
from lab.simulation.world import World
from lab.store import Store
from lab.times import rfc3339

GIT = "gitrepositories.source.toolkit.fluxcd.io"
_OTHERS = ("buckets", "helmcharts", "helmrepositories", "ocirepositories")
_SOURCE = Source("source-controller")


class Sources:
    """`origin` is where every GitRepository of the cluster comes from; without one nothing new is ever fetched."""

    def __init__(self, store: Store, recorder: Recorder, world: World) -> None:
        self._store, self._recorder, self._world = store, recorder, world
        self._fetched: dict[str, datetime] = {}
        self.origin: Origin | None = None

    def follow(self, origin: Origin) -> None:
        """Fetches from there, at the next step already."""
        self.origin = origin
        self._fetched.clear()

    def step(self, now: datetime) -> None:
        for found in self._store.all(GIT):
            if not is_suspended(found) and self._is_due(found, now):
                self._fetched[uid_of(found)] = now
                self._store.replace(GIT, self._fetch(found, now))
        for plural in _OTHERS:
            storage = f"{plural}.source.toolkit.fluxcd.io"
            for found in self._store.all(storage):
                if not is_suspended(found) and (requested(found) or is_behind(found)):
                    status = {**status_of(found), "observedGeneration": generation_of(found)}
                    self._store.replace(storage, handled(found, status))

    def _is_due(self, found: Obj, now: datetime) -> bool:
        interval = every(found, "interval")
        last = self._fetched.setdefault(
            uid_of(found), now - timedelta(minutes=1) if self.origin is None else now - interval
        )
        new = fails_anew(found, self._world.fault(found))
        return new or bool(requested(found)) or is_behind(found) or now - last >= interval

    def _fetch(self, found: Obj, now: datetime) -> Obj:
        if fault := self._world.fault(found):
            self._recorder.record(found, _SOURCE, "Warning", fault.reason, fault.message, now)
            return failed(found, fault, now)
        if self.origin is None:
            return handled(found, {**status_of(found), "observedGeneration": generation_of(found)})
        reference = spec_of(found).get("ref") or {}
        name = reference.get("tag") or reference.get("branch") or "master"
        sha = self.origin.resolve(reference.get("commit") or name)
        if sha is None:
            message = f'failed to checkout and determine revision: couldn\'t find remote ref "refs/heads/{name}"'
            self._recorder.record(found, _SOURCE, "Warning", "GitOperationFailed", message, now)
            return judged(found, False, "GitOperationFailed", message, now)
        revision = f"{name}@sha1:{sha}"
        message = f"stored artifact for revision '{revision}'"
        artifact = status_of(found).get("artifact") or {}
        if artifact.get("revision") != revision:
            artifact = _artifact(found, revision, now)
            said = f"stored artifact for commit '{self.origin.subject(sha)}'"
            self._recorder.record(found, _SOURCE, "Normal", "NewArtifact", said, now)
        return judged(found, True, "Succeeded", message, now, artifact=artifact)


def _artifact(found: Obj, revision: str, now: datetime) -> Obj:
    path = f"gitrepository/{namespace_of(found)}/{name_of(found)}/{revision.rpartition(':')[2]}.tar.gz"
    return {
        "digest": digest(revision),
        "lastUpdateTime": rfc3339(now),
        "path": path,
        "revision": revision,
        "size": 184211,
        "url": f"http://source-controller.flux-system.svc.cluster.local./{path}",
    }
