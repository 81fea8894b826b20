"""kustomize-controller: the files at a path are applied, and what is no longer among them is deleted.

It builds no overlays: of a `kustomization.yaml` only its resources count, each file is applied as it stands, and
nothing is substituted. It does not wait for what it applied to be healthy.
"""

from __future__ import annotations

import json
import posixpath
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import yaml

from lab.events import Recorder, Source
from lab.gitops.marks import (
    digest,
    every,
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
from lab.gitops.releases import workloads_of
from lab.gitops.sources import GIT
from lab.objects import Obj, condition_is, meta, name_of, namespace_of, uid_of
from lab.registry import RESOURCES, Resource, by_key, by_kind
from lab.requests import ResourceRequest
from lab.simulation.world import Fault, World
from lab.status import ApiError
from lab.store import Store
from lab.times import rfc3339
from lab.writes import WriteOptions, Writer

KUSTOMIZATIONS = "kustomizations.kustomize.toolkit.fluxcd.io"
_GROUP = "kustomize.toolkit.fluxcd.io"
_SOURCE = Source("kustomize-controller")
_MANAGER = "kustomize-controller"
_LIST = "kustomization.yaml"
_RETRY = timedelta(seconds=30)
"""What waits for a dependency is looked at again so soon."""

_KEPT = 5
"""Entries of status.history, as the controller keeps."""


class BuildFailed(Exception):
    """What is in Git can't be applied. The reason is Flux's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Kustomizations:
    def __init__(self, store: Store, recorder: Recorder, rng: random.Random, world: World) -> None:
        self._store, self._recorder, self._world = store, recorder, world
        self._writer = Writer(store, rng)
        self._tried: dict[str, datetime] = {}
        self.origin: Origin | None = None

    def settle(self, now: datetime) -> None:
        """Reconciles all of them, as of `now`: what they have applied becomes their history."""
        for found in self._store.all(KUSTOMIZATIONS):
            self._reconcile(found, now)

    def step(self, now: datetime) -> None:
        for found in self._store.all(KUSTOMIZATIONS):
            if not is_suspended(found) and self._is_due(found, now):
                self._reconcile(found, now)

    def _is_due(self, found: Obj, now: datetime) -> bool:
        if requested(found) or is_behind(found) or fails_anew(found, self._trouble(found)):
            return True
        if self.origin is None:
            return False
        if status_of(found).get("lastAttemptedRevision") != self._revision(found):
            return True
        failed = not condition_is(found, "Ready")
        span = min(every(found, "retryInterval", "interval"), _RETRY) if failed else every(found, "interval")
        return now - self._tried.setdefault(uid_of(found), now) >= span

    def _revision(self, found: Obj) -> str:
        source = spec_of(found).get("sourceRef") or {}
        of = self._store.get(GIT, source.get("namespace") or namespace_of(found), str(source.get("name")))
        return str(((of or {}).get("status") or {}).get("artifact", {}).get("revision", ""))

    def _reconcile(self, found: Obj, now: datetime) -> None:
        self._tried[uid_of(found)] = now
        revision = self._revision(found)
        trouble = self._trouble(found)
        if trouble is None and (self.origin is None or not revision):
            status = {**status_of(found), "observedGeneration": generation_of(found)}
            self._store.replace(KUSTOMIZATIONS, handled(found, status))
            return
        began = status_of(found)
        snapshot = digest(revision)
        try:
            if trouble is not None:
                raise BuildFailed(trouble.reason, trouble.message)
            assert self.origin is not None
            wanted = self._build(found, self.origin, revision.rpartition(":")[2])
            snapshot = digest(json.dumps(wanted, sort_keys=True, default=str))
            entries, changed = self._apply(found, wanted, now)
        except BuildFailed as error:
            self._told(found, "Warning", error.reason, str(error), now)
            more = {"lastAttemptedRevision": revision} if error.reason != "DependencyNotReady" else {}
            history = _history(began, snapshot, revision, error.reason, now)
            self._keep(judged(found, False, error.reason, str(error), now, **more, history=history))
            return
        self._prune(found, entries, now)
        if changed:
            self._told(found, "Normal", "Progressing", "\n".join(changed), now)
        message = f"Applied revision: {revision}"
        if began.get("lastAppliedRevision") != revision:
            self._told(found, "Normal", "ReconciliationSucceeded", message, now)
        self._keep(
            judged(
                found, True, "ReconciliationSucceeded", message, now,
                lastAppliedRevision=revision, lastAttemptedRevision=revision,
                inventory={"entries": [{"id": one, "v": entries[one]} for one in sorted(entries)]},
                history=_history(began, snapshot, revision, "ReconciliationSucceeded", now),
            )
        )  # fmt: skip

    def _keep(self, judged_obj: Obj) -> None:
        """Stores the status; applying may have changed the object itself."""
        now_there = self._store.get(KUSTOMIZATIONS, namespace_of(judged_obj), name_of(judged_obj))
        if now_there is not None:
            self._store.replace(KUSTOMIZATIONS, {**now_there, "status": judged_obj["status"]})

    def _told(self, found: Obj, kind: str, reason: str, message: str, now: datetime) -> None:
        self._recorder.record(found, _SOURCE, kind, reason, message, now)

    def _trouble(self, found: Obj) -> Fault | None:
        """Why it can't be applied, before anything is built: a fault of its own, or a dependency that is not ready."""
        if fault := self._world.fault(found):
            return fault
        for one in spec_of(found).get("dependsOn") or []:
            namespace = one.get("namespace") or namespace_of(found)
            other = self._store.get(KUSTOMIZATIONS, namespace, str(one.get("name")))
            if other is None or not condition_is(other, "Ready") or is_behind(other):
                return Fault("DependencyNotReady", f"dependency '{namespace}/{one.get('name')}' is not ready")
        return None

    def _build(self, found: Obj, origin: Origin, sha: str) -> list[Obj]:
        folder = str(spec_of(found).get("path") or "./").removeprefix("./").strip("/")
        files = {p: t for p, t in origin.files(sha, folder).items() if p.endswith((".yaml", ".yml"))}
        if not files:
            where = f"/tmp/kustomization-{uid_of(found)[:8]}/{folder}"
            why = f"kustomization path not found: stat {where}: no such file or directory"
            raise BuildFailed("ArtifactFailed", why)
        built: list[Any] = []
        for path in sorted(_names(files, folder)):
            try:
                built += [one for one in yaml.safe_load_all(files[path]) if one]
            except yaml.YAMLError as error:
                why = " ".join(str(error).split())
                raise BuildFailed(
                    "BuildFailed", f"kustomize build failed: accumulating resources from '{path}': {why}"
                ) from None
        for one in built:
            if not isinstance(one, dict) or by_kind(str(one.get("apiVersion")), str(one.get("kind"))) is None:
                kind = one.get("kind") if isinstance(one, dict) else one
                why = f'no matches for kind "{kind}"' if isinstance(one, dict) else "is no object"
                raise BuildFailed("BuildFailed", f"kustomize build failed: {why}")
        return [_placed(one, found) for one in built]

    def _apply(self, found: Obj, wanted: list[Obj], now: datetime) -> tuple[dict[str, str], list[str]]:
        """Applies all; gives the inventory by id, and what was changed."""
        entries: dict[str, str] = {}
        changed: list[str] = []
        for obj in wanted:
            resource = by_kind(obj["apiVersion"], obj["kind"])
            assert resource is not None
            where = namespace_of(obj) if resource.namespaced else ""
            request = ResourceRequest("patch", resource, where, name_of(obj), "")
            label = f"{obj['kind']}/{where + '/' if where else ''}{name_of(obj)}"
            before = self._store.get(resource.storage, where, name_of(obj))
            try:
                dry, new = self._writer.apply(request, obj, _options(dry=True), now)
                if new or before is None or _differs(before, dry):
                    self._writer.apply(request, obj, _options(dry=False), now)
                    changed.append(f"{label} {'created' if new else 'configured'}")
            except ApiError as error:
                why = f"{label} dry-run failed ({error.reason}): {error.message}"
                raise BuildFailed("ReconciliationFailed", why) from None
            entries[f"{where}_{name_of(obj).replace(':', '__')}_{resource.group}_{obj['kind']}"] = resource.version
        return entries, changed

    def _prune(self, found: Obj, entries: dict[str, str], now: datetime) -> None:
        if not spec_of(found).get("prune"):
            return
        gone = [(resource, obj) for id, resource, obj in inventory(self._store, found) if id not in entries]
        for resource, obj in gone:
            self._told(found, "Normal", "Progressing", f"{obj['kind']}/{name_of(obj)} deleted", now)
            if resource.storage == KUSTOMIZATIONS:
                self._prune(obj, {}, now)
            self._delete(resource, obj, now)

    def _delete(self, resource: Resource, obj: Obj, now: datetime) -> None:
        request = ResourceRequest("delete", resource, namespace_of(obj), name_of(obj), "")
        self._writer.delete(request, {}, _options(dry=False), now)
        if obj["kind"] == "HelmRelease":
            for storage, owned in list(workloads_of(self._store, obj)):
                self._delete(by_key(storage), owned, now)


def inventory(store: Store, found: Obj) -> Iterator[tuple[str, Resource, Obj]]:
    """What a Kustomization has applied and is there: the id of each, its resource, and the object."""
    for entry in (status_of(found).get("inventory") or {}).get("entries") or ():
        namespace, _, rest = entry["id"].partition("_")
        rest, _, kind = rest.rpartition("_")
        name, _, group = rest.rpartition("_")
        resource = next((r for r in RESOURCES if (r.group, r.kind) == (group, kind)), None)
        obj = store.get(resource.storage, namespace, name.replace("__", ":")) if resource else None
        if resource is not None and obj is not None:
            yield entry["id"], resource, obj


def _options(*, dry: bool) -> WriteOptions:
    return WriteOptions(dry, _MANAGER, apply=True, force=True)


def _names(files: dict[str, str], folder: str) -> set[str]:
    """The files that are applied: those that the folder's kustomization.yaml lists; without one all that lie in it,
    and for the folders in it the same."""
    start = f"{folder}/" if folder else ""
    listed = files.get(f"{start}{_LIST}")
    if listed is None:
        here = {path for path in files if path.startswith(start)}
        deeper = {
            start + path.removeprefix(start).partition("/")[0] for path in here if "/" in path.removeprefix(start)
        }
        found = {path for path in here if "/" not in path.removeprefix(start)}
        return found.union(*(_names(files, one) for one in deeper))
    try:
        names = list((yaml.safe_load(listed) or {}).get("resources") or [])
    except (yaml.YAMLError, AttributeError, TypeError):
        raise BuildFailed("BuildFailed", f"kustomize build failed: {start}{_LIST} is not valid") from None
    found = set()
    for name in names:
        path = posixpath.normpath(f"{start}{name}")
        if path in files:
            found.add(path)
        elif path != folder and any(one.startswith(f"{path}/") for one in files):
            found |= _names(files, path)
        else:
            why = f"accumulating resources from '{name}': open {path}: no such file or directory"
            raise BuildFailed("BuildFailed", f"kustomize build failed: {why}")
    return found


def _placed(obj: Obj, by: Obj) -> Obj:
    """As it is applied: in the target namespace, with the labels that say by what."""
    metadata = {**meta(obj)}
    resource = by_kind(obj["apiVersion"], obj["kind"])
    if resource is not None and resource.namespaced:
        metadata["namespace"] = spec_of(by).get("targetNamespace") or metadata.get("namespace") or "default"
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        f"{_GROUP}/name": name_of(by),
        f"{_GROUP}/namespace": namespace_of(by),
    }
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def _differs(before: Obj, after: Obj) -> bool:
    def kept(obj: Obj) -> Any:
        metadata = meta(obj)
        rest = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
        return rest, metadata.get("labels"), metadata.get("annotations")

    return bool(kept(before) != kept(after))


def _history(status: Obj, snapshot: str, revision: str, outcome: str, now: datetime) -> list[Obj]:
    """Newest first; the same resources with the same outcome count up."""
    kept = [dict(one) for one in status.get("history") or []]
    same = next((o for o in kept if o["digest"] == snapshot and o["lastReconciledStatus"] == outcome), None)
    if same is not None:
        kept.remove(same)
        same |= {"lastReconciled": rfc3339(now), "metadata": {"revision": revision}}
        same |= {"totalReconciliations": same["totalReconciliations"] + 1}
    else:
        same = {
            "digest": snapshot,
            "firstReconciled": rfc3339(now),
            "lastReconciled": rfc3339(now),
            "lastReconciledDuration": "312ms",
            "lastReconciledStatus": outcome,
            "totalReconciliations": 1,
            "metadata": {"revision": revision},
        }
    return [same, *kept][:_KEPT]
