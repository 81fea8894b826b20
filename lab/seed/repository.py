"""The Git repository that the lab's cluster follows: what Flux has applied there, as files."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import yaml

from lab.github.git import Person, Repository
from lab.gitops.kustomizations import KUSTOMIZATIONS, inventory
from lab.managers import Manager, applied
from lab.objects import Obj, meta, name_of, namespace_of
from lab.registry import RESOURCES, by_kind
from lab.seed.flux import REVISION
from lab.simulation.cluster import Cluster
from lab.store import Store

_FLUX = "toolkit.fluxcd.io"
_APPS, _ROOT = "kubernetes/apps", "kubernetes/flux"
_APPLIED = timedelta(hours=8, minutes=57)
"""So long ago the cluster applied the newest commit."""

_README = """\
# home-ops

A home cluster that Flux keeps as this repository says. `kubernetes/apps/<namespace>/<app>` has a `ks.yaml`, which is
the Flux Kustomization, and an `app/` folder with what it applies.
"""
_RENOVATE = {"extends": ["config:recommended"], "flux": {"managerFilePatterns": ["/kubernetes/.+\\.ya?ml$/"]}}


def plant_repository(cluster: Cluster, git: Repository, author: Person, at: datetime) -> None:
    """Commits to `main` of an empty repository what the cluster has applied, and lets the cluster follow it."""
    files = _files(cluster.store)
    sha = git.commit_files("main", files, "Begin", author, at=at)
    for resource in RESOURCES:
        if resource.group.endswith(_FLUX):
            for obj in cluster.store.all(resource.storage):
                text = json.dumps(obj)
                if REVISION in text:
                    moved = text.replace(REVISION, f"main@sha1:{sha}").replace(REVISION.rpartition(":")[2], sha)
                    cluster.store.replace(resource.storage, json.loads(moved))
    for text in files.values():
        _own(cluster.store, text, at)
    cluster.follow(git)
    cluster.kustomizations.settle(at - _APPLIED)


def _own(store: Store, text: str, at: datetime) -> None:
    """Gives what a file says to kustomize-controller, as if it had always applied it."""
    config = yaml.safe_load(text) if text.startswith("---") else {}
    resource = by_kind(str(config.get("apiVersion")), str(config.get("kind")))
    obj = store.get(resource.storage, namespace_of(config), name_of(config)) if resource else None
    if resource is None or obj is None:
        return
    labels = {k: v for k, v in (meta(obj).get("labels") or {}).items() if k.startswith("kustomize.")}
    config["metadata"]["labels"] = {**(config["metadata"].get("labels") or {}), **labels}
    by = Manager("kustomize-controller", "Apply")
    mine = applied(None, config, by, resource, at, force=True)["metadata"]["managedFields"]
    others = [e for e in meta(obj).get("managedFields") or () if e["manager"] != by.name or e.get("subresource")]
    created = meta(obj)["creationTimestamp"]
    fields = [*({**one, "time": created} for one in mine), *others]
    store.replace(resource.storage, {**obj, "metadata": {**obj["metadata"], "managedFields": fields}})


def _files(store: Store) -> dict[str, str]:
    files = {"README.md": _README, ".github/renovate.json": json.dumps(_RENOVATE, indent=2) + "\n"}
    listed: dict[str, list[str]] = {}
    for made in store.all(KUSTOMIZATIONS):
        folder = str(made["spec"]["path"]).removeprefix("./")
        if name_of(made) == "flux-system":
            continue
        if folder == _APPS:
            files[f"{_ROOT}/apps.yaml"] = _text(made)
            continue
        above = folder.removesuffix("/app")
        namespace, _, app = above.removeprefix(f"{_APPS}/").partition("/")
        listed.setdefault(namespace, []).append(f"./{app}/ks.yaml")
        files[f"{above}/ks.yaml"] = _text(made)
        for _, _, obj in inventory(store, made):
            files[f"{folder}/{obj['kind'].lower()}.yaml"] = _text(obj)
    for namespace, names in listed.items():
        files[f"{_APPS}/{namespace}/kustomization.yaml"] = _dump({"resources": sorted(names)})
    for repository in store.all("helmrepositories.source.toolkit.fluxcd.io"):
        files[f"{_ROOT}/repositories/{name_of(repository)}.yaml"] = _text(repository)
    return files


def _text(obj: Obj) -> str:
    """The object as a person would have written it: without what the cluster added."""
    labels = {k: v for k, v in (meta(obj).get("labels") or {}).items() if not k.startswith("kustomize.")}
    metadata: dict[str, Any] = {"name": name_of(obj), "namespace": namespace_of(obj)}
    metadata |= {"labels": labels} if labels else {}
    return _dump({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "spec": obj["spec"]})


def _dump(value: Any) -> str:
    return "---\n" + str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
