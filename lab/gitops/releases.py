"""helm-controller: a release's values become its workload's image and replicas, in the shape of the app-template chart.

No chart is fetched or rendered. It upgrades when the spec of a release changes, or when its failures are forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lab.events import Recorder, Source
from lab.gitops.marks import (
    RESET,
    digest,
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
from lab.objects import Obj, labels_of, meta, name_of, namespace_of
from lab.registry import by_kind
from lab.seed.workloads import grow
from lab.simulation.world import World
from lab.store import Store
from lab.times import rfc3339

RELEASES = "helmreleases.helm.toolkit.fluxcd.io"
_SOURCE = Source("helm-controller")
_KINDS = ("deployments.apps", "statefulsets.apps", "daemonsets.apps")


def workloads_of(store: Store, release: Obj) -> Iterator[tuple[str, Obj]]:
    """The workloads that a release has installed, with the storage of each."""
    for storage in _KINDS:
        for obj in store.all(storage, namespace_of(release)):
            if labels_of(obj).get("helm.toolkit.fluxcd.io/name") == name_of(release):
                yield storage, obj


class Releases:
    def __init__(self, store: Store, recorder: Recorder, world: World) -> None:
        self._store, self._recorder, self._world = store, recorder, world

    def step(self, now: datetime) -> None:
        for found in self._store.all(RELEASES):
            if is_suspended(found):
                continue
            fault = self._world.fault(found)
            if fault is not None:
                if fails_anew(found, fault) or is_behind(found) or requested(found):
                    self._recorder.record(found, _SOURCE, "Warning", fault.reason, fault.message, now)
                    self._store.replace(RELEASES, failed(found, fault, now, upgradeFailures=3))
            elif is_behind(found) or _is_new(found) or _forgets(found):
                self._store.replace(RELEASES, self._upgrade(found, now))
            elif requested(found):
                self._store.replace(RELEASES, handled(found, status_of(found)))

    def _upgrade(self, found: Obj, now: datetime) -> Obj:
        name, namespace = name_of(found), namespace_of(found)
        spec = ((spec_of(found).get("chart") or {}).get("spec")) or {}
        chart, version = str(spec.get("chart", "")), str(spec.get("version", ""))
        image = _at(spec_of(found), "values", "controllers", "main", "containers", "app", "image")
        if not chart or not isinstance(image, dict) or not image.get("repository"):
            message = f"Helm upgrade failed for release {namespace}/{name}: values have no image of a container 'app'"
            self._recorder.record(found, _SOURCE, "Warning", "UpgradeFailed", message, now)
            return judged(found, False, "UpgradeFailed", message, now)
        whole = f"{image['repository']}:{image.get('tag', 'latest')}"
        replicas = _at(spec_of(found), "values", "controllers", "main", "replicas")
        owned = list(workloads_of(self._store, found))
        for storage, obj in owned:
            self._store.replace(storage, _with(obj, whole, replicas, f"{chart}-{version}"))
        if not owned:
            self._install(found, whole, f"{chart}@{version}", now)
        history = list(status_of(found).get("history") or [])
        number = history[0]["version"] + 1 if history else 1
        verb = "upgrade" if history else "install"
        message = f"Helm {verb} succeeded for release {namespace}/{name}.v{number} with chart {chart}@{version}"
        reason = f"{verb.title()}Succeeded"
        self._recorder.record(found, _SOURCE, "Normal", reason, message, now)
        values = digest(json.dumps(spec_of(found).get("values"), sort_keys=True))
        release = {
            "appVersion": str(image.get("tag", "")).partition("@")[0],
            "chartName": chart,
            "chartVersion": version,
            "configDigest": values,
            "digest": digest(f"{values}{number}"),
            "firstDeployed": history[-1]["firstDeployed"] if history else rfc3339(now),
            "lastDeployed": rfc3339(now),
            "name": name,
            "namespace": namespace,
            "status": "deployed",
            "version": number,
        }
        history = [release, *({**one, "status": "superseded"} for one in history)][:5]
        source = spec.get("sourceRef") or {}
        done = judged(
            found, True, reason, message, now,
            history=history, lastAttemptedConfigDigest=values, lastAttemptedGeneration=generation_of(found),
            lastAttemptedReleaseAction=verb, lastAttemptedRevision=version, storageNamespace=namespace,
            helmChart=f"{source.get('namespace') or namespace}/{namespace}-{name}",
        )  # fmt: skip
        forgotten = (meta(found).get("annotations") or {}).get(RESET)
        return {**done, "status": {**done["status"], **({"lastHandledResetAt": forgotten} if forgotten else {})}}

    def _install(self, found: Obj, image: str, chart: str, now: datetime) -> None:
        item = {"name": name_of(found), "namespace": namespace_of(found), "chart": chart, "image": image, "age": "0s"}
        grown = grow(item, now)
        for obj in (grown.controller, *grown.beside):
            resource = by_kind(obj["apiVersion"], obj["kind"])
            assert resource is not None
            if self._store.get(resource.storage, namespace_of(obj), name_of(obj)) is None:
                self._store.add(resource.storage, obj)


def _is_new(found: Obj) -> bool:
    return not status_of(found).get("history") and "observedGeneration" not in status_of(found)


def _forgets(found: Obj) -> bool:
    asked = (meta(found).get("annotations") or {}).get(RESET)
    return bool(asked and requested(found) == asked)


def _with(workload: Obj, image: str, replicas: Any, chart: str) -> Obj:
    spec = workload["spec"]
    first, *rest = spec["template"]["spec"]["containers"]
    pod = {**spec["template"]["spec"], "containers": [{**first, "image": image}, *rest]}
    spec = {**spec, "template": {**spec["template"], "spec": pod}}
    if isinstance(replicas, int) and "replicas" in spec:
        spec["replicas"] = replicas
    metadata = {**workload["metadata"], "labels": {**labels_of(workload), "helm.sh/chart": chart}}
    return {**workload, "metadata": metadata, "spec": spec}


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
