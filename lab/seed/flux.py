"""The Flux side of the cluster: sources, one Kustomization an app, and the HelmReleases, all reconciled."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from lab.objects import Obj
from lab.times import parse_age, rfc3339

REVISION = "main@sha1:5b1c7f0d9e2a46b38c0f4d1e7a95be60c2d83f14"


def _ready(reason: str, message: str, at: str, generation: int = 1) -> Obj:
    return {
        "type": "Ready",
        "status": "True",
        "observedGeneration": generation,
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }


def _metadata(name: str, namespace: str, created: str, controller: str, applied_by: str) -> Obj:
    """`applied_by` is the Kustomization that it comes from; the root comes from itself, as `flux bootstrap` has it."""
    labels = {
        "kustomize.toolkit.fluxcd.io/name": applied_by,
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    }
    return {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": created,
        "generation": 1,
        "finalizers": ["finalizers.fluxcd.io"],
        "labels": labels,
        "managedFields": [
            {
                "manager": controller,
                "operation": "Update",
                "subresource": "status",
                "time": created,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:status": {"f:conditions": {}}},
            },
        ],
    }


def git_repository(url: str, now: datetime) -> Obj:
    """The repository that the cluster follows."""
    created, fetched = rfc3339(now - timedelta(days=301)), rfc3339(now - timedelta(hours=9))
    digest = hashlib.sha256(REVISION.encode()).hexdigest()
    message = f"stored artifact for revision '{REVISION}'"
    artifact = {
        "digest": f"sha256:{digest}",
        "lastUpdateTime": fetched,
        "path": f"gitrepository/flux-system/flux-system/{REVISION.split(':')[1]}.tar.gz",
        "revision": REVISION,
        "size": 184211,
        "url": f"http://source-controller.flux-system.svc.cluster.local./gitrepository/flux-system/flux-system/"
        f"{REVISION.split(':')[1]}.tar.gz",
    }
    metadata = _metadata("flux-system", "flux-system", created, "source-controller", "flux-system")
    spec = {
        "interval": "1h",
        "ref": {"branch": "main"},
        "secretRef": {"name": "github-deploy-key"},
        "timeout": "60s",
        "url": url,
        "ignore": "# exclude all\n/*\n# include kubernetes directory\n!/kubernetes\n",
    }
    metadata["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
            {
                "apiVersion": "source.toolkit.fluxcd.io/v1",
                "kind": "GitRepository",
                "metadata": {"name": "flux-system", "namespace": "flux-system"},
                "spec": spec,
            },
            separators=(",", ":"),
        )
        + "\n"
    }
    stored = {
        "type": "ArtifactInStorage",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": fetched,
        "reason": "Succeeded",
        "message": message,
    }
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": metadata,
        "spec": spec,
        "status": {
            "artifact": artifact,
            "conditions": [_ready("Succeeded", message, fetched), stored],
            "observedGeneration": 1,
        },
    }


def helm_repository(name: str, url: str, now: datetime) -> Obj:
    created, fetched = rfc3339(now - timedelta(days=290)), rfc3339(now - timedelta(hours=3))
    spec: Obj = {"interval": "2h", "url": url}
    if url.startswith("oci://"):
        # An OCI HelmRepository is only an address: the controller keeps no status for it.
        spec["type"] = "oci"
        status: Obj = {}
    else:
        digest = hashlib.sha256(url.encode()).hexdigest()
        revision = f"sha256:{digest}"
        message = f"stored artifact: revision '{revision}'"
        artifact = {
            "digest": revision,
            "lastUpdateTime": fetched,
            "revision": revision,
            "size": 81234,
            "path": f"helmrepository/flux-system/{name}/index-{digest}.yaml",
            "url": f"http://source-controller.flux-system.svc.cluster.local./helmrepository/flux-system/"
            f"{name}/index-{digest}.yaml",
        }
        status = {
            "artifact": artifact,
            "observedGeneration": 1,
            "conditions": [_ready("Succeeded", message, fetched)],
        }
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "HelmRepository",
        "spec": spec,
        "status": status,
        "metadata": _metadata(name, "flux-system", created, "source-controller", "flux-system"),
    }


def kustomization(
    name: str,
    path: str,
    now: datetime,
    *,
    target: str = "",
    depends: list[str] | None = None,
    entries: list[str] | None = None,
) -> Obj:
    created, applied = rfc3339(now - timedelta(days=298)), rfc3339(now - timedelta(hours=8, minutes=57))
    message = f"Applied revision: {REVISION}"
    spec: Obj = {
        "interval": "1h",
        "path": path,
        "prune": True,
        "retryInterval": "2m",
        "timeout": "5m",
        "wait": False,
        "sourceRef": {"kind": "GitRepository", "name": "flux-system", "namespace": "flux-system"},
    }
    if target:
        spec["targetNamespace"] = target
    if depends:
        spec["dependsOn"] = [{"name": one} for one in depends]
    status = {
        "conditions": [_ready("ReconciliationSucceeded", message, applied)],
        "inventory": {"entries": [{"id": one, "v": "v2"} for one in entries or []]},
        "lastAppliedRevision": REVISION,
        "lastAttemptedRevision": REVISION,
        "observedGeneration": 1,
    }
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "spec": spec,
        "status": status,
        "metadata": _metadata(
            name,
            "flux-system",
            created,
            "kustomize-controller",
            "flux-system" if name in ("flux-system", "cluster-apps") else "cluster-apps",
        ),
    }


def _helm_status(item: dict[str, Any], created: str, deployed: str) -> Obj:
    chart, version = item["chart"].split("@")
    name, namespace, tag = item["name"], item["namespace"], item["image"].rsplit(":", 1)[1]
    message = f"Helm upgrade succeeded for release {namespace}/{name}.v4 with chart {chart}@{version}"
    ready = _ready("UpgradeSucceeded", message, deployed)
    digest = hashlib.sha256(f"{namespace}/{name}/{tag}".encode()).hexdigest()
    release = {
        "appVersion": tag,
        "chartName": chart,
        "chartVersion": version,
        "configDigest": f"sha256:{digest}",
        "digest": f"sha256:{digest[::-1]}",
        "firstDeployed": created,
        "lastDeployed": deployed,
        "name": name,
        "namespace": namespace,
        "status": "deployed",
        "version": 4,
    }
    return {
        "conditions": [ready, {**ready, "type": "Released"}],
        "helmChart": f"flux-system/{namespace}-{name}",
        "history": [release],
        "lastAttemptedConfigDigest": f"sha256:{digest}",
        "lastAttemptedGeneration": 1,
        "lastAttemptedReleaseAction": "upgrade",
        "lastAttemptedRevision": version,
        "observedGeneration": 1,
        "storageNamespace": namespace,
    }


def helm_release(item: dict[str, Any], now: datetime) -> Obj:
    """The HelmRelease of a workload that came from `chart@version`."""
    chart, version = item["chart"].split("@")
    created = rfc3339(now - parse_age(item.get("age", "120d")))
    deployed = rfc3339(now - parse_age(item.get("pod_age", "20d")))
    name, namespace = item["name"], item["namespace"]
    repository, tag = item["image"].rsplit(":", 1)
    container = {"image": {"repository": repository, "tag": tag}}
    source = {
        "kind": "HelmRepository",
        "name": item.get("repository", "bjw-s"),
        "namespace": "flux-system",
    }
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": _metadata(name, namespace, created, "helm-controller", name),
        "spec": {
            "interval": "30m",
            "chart": {"spec": {"chart": chart, "version": version, "sourceRef": source}},
            # The releases do not wait for their pods: what fails after an upgrade is not rolled back by Flux.
            "install": {"disableWait": True, "remediation": {"retries": 3}},
            "upgrade": {
                "cleanupOnFail": True,
                "disableWait": True,
                "remediation": {"retries": 3, "strategy": "rollback"},
            },
            "values": {"controllers": {"main": {"containers": {"app": container}}}},
        },
        "status": _helm_status(item, created, deployed),
    }
