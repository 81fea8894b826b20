"""API objects as the kubelet and the controllers write them, in a few words each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from mcp_servers.cluster.report import Report, Scope
from mcp_servers.kubernetes.diagnose.engine import diagnose
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot

Obj = dict[str, Any]
NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
HASH = "7d9f8c6b54"
_UIDS = count(1)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    return over


def meta(name: str, namespace: str = "media", age: float = 7200, owner: Obj | None = None, **more: Any) -> Obj:
    found: Obj = {"name": name, "uid": str(UUID(int=next(_UIDS))), "creationTimestamp": ago(age), **more}
    if namespace:
        found["namespace"] = namespace
    if owner is not None:
        found["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
            }
        ]
    return found


def deployment(
    name: str = "sonarr", *, replicas: int = 1, ready: int = 0, namespace: str = "media", **more: Any
) -> Obj:
    base = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace, generation=2, labels={"app": name}),
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name}]}},
        },
        "status": {
            "observedGeneration": 2,
            "replicas": replicas,
            "readyReplicas": ready,
            "updatedReplicas": replicas,
        },
    }
    return merged(base, more)  # type: ignore[no-any-return]


def replicaset(owner: Obj, **more: Any) -> Obj:
    name, space = owner["metadata"]["name"], owner["metadata"]["namespace"]
    base = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": meta(f"{name}-{HASH}", space, owner=owner, labels={"app": name, "pod-template-hash": HASH}),
        "spec": {"replicas": owner["spec"]["replicas"], "template": owner["spec"]["template"]},
        "status": {
            "replicas": owner["spec"]["replicas"],
            "readyReplicas": owner["status"].get("readyReplicas", 0),
        },
    }
    return merged(base, more)  # type: ignore[no-any-return]


def status(
    name: str = "sonarr", *, ready: bool = False, restarts: int = 0, last: Obj | None = None, **state: Any
) -> Obj:
    return {
        "name": name,
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "image": f"docker.io/library/{name}:1",
        "imageID": "",
        "state": state or {"running": {"startedAt": ago(7000)}},
        "lastState": {"terminated": last} if last else {},
    }


def waiting(reason: str, message: str = "", name: str = "sonarr", **more: Any) -> Obj:
    return status(name, waiting={"reason": reason, **({"message": message} if message else {})}, **more)


def ended(code: int, reason: str = "Error", seconds: float = 60, message: str = "") -> Obj:
    found = {"exitCode": code, "reason": reason, "startedAt": ago(seconds + 5), "finishedAt": ago(seconds)}
    return {**found, "containerID": "containerd://1f"} | ({"message": message} if message else {})


def pod(
    *statuses: Obj,
    owner: Obj | None = None,
    name: str = "",
    namespace: str = "media",
    age: float = 7200,
    node: str = "worker-1",
    phase: str = "Running",
    init: tuple[Obj, ...] = (),
    **more: Any,
) -> Obj:
    """A pod with these container statuses; Ready is what they say."""
    ready = bool(statuses) and all(one["ready"] for one in statuses) and phase == "Running"
    stem = owner["metadata"]["name"] if owner else "sonarr"
    app = stem.removesuffix(f"-{HASH}")
    words = {"status": "True" if ready else "False", "lastTransitionTime": ago(age - 5)}
    if not ready:
        names = " ".join(one["name"] for one in statuses)
        words |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{names}]"}
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(age)}] if node else []
    base: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(
            name or f"{stem}-x2k4p", namespace, age, owner, labels={"app": app, "pod-template-hash": HASH}
        ),
        "spec": {
            "restartPolicy": "Always",
            "containers": [{"name": one["name"], "image": one["image"]} for one in statuses],
            "initContainers": [{"name": one["name"], "image": one["image"]} for one in init],
        },
        "status": {
            "phase": phase,
            "startTime": ago(age),
            "conditions": [*conditions, {"type": "Ready", **words}],
            "containerStatuses": list(statuses),
            "initContainerStatuses": list(init),
        },
    }
    if node:
        base["spec"]["nodeName"] = node
    return merged(base, more)  # type: ignore[no-any-return]


def stack(*statuses: Obj, name: str = "sonarr", ready: int = 0, replicas: int = 1, **more: Any) -> list[Obj]:
    """A Deployment with its ReplicaSet and one pod."""
    top = deployment(name, replicas=replicas, ready=ready)
    middle = replicaset(top)
    return [top, middle, pod(*statuses, owner=middle, **more)]


def event(about: Obj, reason: str, message: str, *, seconds: float = 180, count: int = 1, container: str = "") -> Obj:
    where = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{where['name']}.{abs(hash((reason, message))):x}",
            "namespace": where.get("namespace", "default"),
        },
        "involvedObject": {
            "kind": about["kind"],
            "namespace": where.get("namespace", ""),
            "name": where["name"],
            "uid": where["uid"],
            "fieldPath": f"spec.containers{{{container}}}" if container else "",
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": ago(seconds + 600),
        "lastTimestamp": ago(seconds),
    }


def unscheduled(owner: Obj | None = None, message: str = "", *, claim: str = "", name: str = "", **more: Any) -> Obj:
    """A pod that the scheduler finds no node for."""
    found = pod(owner=owner, node="", phase="Pending", name=name, **more)
    found["spec"]["containers"] = [
        {
            "name": "sonarr",
            "image": "docker.io/library/sonarr:1",
            "resources": {"requests": {"memory": "30Gi"}},
        }
    ]
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": ago(300),
    }
    found["status"] = {"phase": "Pending", "conditions": [condition], "qosClass": "Burstable"}
    if claim:
        found["spec"]["volumes"] = [{"name": "config", "persistentVolumeClaim": {"claimName": claim}}]
    return found


def claim(name: str = "sonarr", phase: str = "Pending", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(name),
        "spec": {"storageClassName": "local-path", "accessModes": ["ReadWriteOnce"], **spec},
        "status": {"phase": phase},
    }


def storage_class(name: str = "local-path", mode: str = "WaitForFirstConsumer") -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": meta(name, ""),
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": mode,
    }


def node(name: str = "worker-1", *, ready: str = "True", taints: tuple[Obj, ...] = (), **more: Any) -> Obj:
    word = {"True": "KubeletReady", "False": "KubeletNotReady", "Unknown": "NodeStatusUnknown"}[ready]
    told = {
        "True": "kubelet is posting ready status",
        "False": "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady",
        "Unknown": "Kubelet stopped posting node status.",
    }[ready]
    row = {"type": "Ready", "status": ready, "reason": word, "message": told, "lastTransitionTime": ago(1380)}
    base = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(name, "", 90000),
        "spec": {"taints": list(taints)} if taints else {},
        "status": {"conditions": [row]},
    }
    return merged(base, more)  # type: ignore[no-any-return]


def service(
    name: str = "sonarr", *, selector: Mapping[str, str] | None = None, target: Any = "http", **spec: Any
) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.43.7.9",
            "selector": dict(selector if selector is not None else {"app": name}),
            "ports": [{"name": "http", "port": 80, "targetPort": target, "protocol": "TCP"}],
            **spec,
        },
    }


def ingress(name: str = "sonarr", *, backend: str = "sonarr", port: Obj | None = None, **spec: Any) -> Obj:
    path = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": backend, "port": port or {"name": "http"}}},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta(name),
        "spec": {"rules": [{"host": "sonarr.home.example", "http": {"paths": [path]}}], **spec},
    }


def healthy(name: str = "sonarr") -> list[Obj]:
    """A workload with everything around it in order."""
    objects = stack(status(name, ready=True), name=name, ready=1)
    objects[2]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8989, "protocol": "TCP"}]
    return [*objects, service(name), ingress(name, backend=name), node(), storage_class()]


def snap(*objects: Obj | list[Obj], missing: Mapping[str, str] | None = None) -> Snapshot:
    flat = [one for item in objects for one in (item if isinstance(item, list) else [item])]
    return Snapshot.from_objects(flat, missing)


def run(*objects: Obj | list[Obj], scope: Scope | None = None, missing: Mapping[str, str] | None = None) -> Report:
    return diagnose(snap(*objects, missing=missing), scope or Scope(), NOW)


def causes(report: Report) -> list[str]:
    """`Deployment media/sonarr: OOMKilled` of each finding, in order."""
    return [f"{finding.object}: {finding.cause}" for finding in report.findings]


def only(report: Report) -> Any:
    assert len(report.findings) == 1, causes(report)
    return report.findings[0]


def told(report: Report) -> str:
    return "\n".join(str(line) for finding in report.findings for line in finding.evidence)
