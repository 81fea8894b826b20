"""An API server with 5,000 pods of 500 workloads, as large on the wire as real ones: `uvicorn bench.cluster:app`.

The objects carry what real ones do (managed fields, volumes, environment, conditions). Pages are encoded before
anybody asks, so that what is measured is the tool server and not this.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

WORKLOADS, PODS_EACH, NODES, NAMESPACES = 500, 10, 100, 25
BROKEN = 12
"""Workloads with one pod that crashes; their truth is that the container was killed for its memory."""

_PAGE = 500
_TIME = "2026-11-01T08:00:00Z"
_KINDS: Mapping[str, tuple[str, str, bool]] = {
    "pods": ("v1", "Pod", True),
    "services": ("v1", "Service", True),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", True),
    "events": ("v1", "Event", True),
    "namespaces": ("v1", "Namespace", False),
    "nodes": ("v1", "Node", False),
    "deployments": ("apps/v1", "Deployment", True),
    "replicasets": ("apps/v1", "ReplicaSet", True),
    "statefulsets": ("apps/v1", "StatefulSet", True),
    "daemonsets": ("apps/v1", "DaemonSet", True),
    "jobs": ("batch/v1", "Job", True),
    "cronjobs": ("batch/v1", "CronJob", True),
    "ingresses": ("networking.k8s.io/v1", "Ingress", True),
    "ingressclasses": ("networking.k8s.io/v1", "IngressClass", False),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice", True),
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler", True),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass", False),
    "apiservices": ("apiregistration.k8s.io/v1", "APIService", False),
}


def _meta(name: str, namespace: str, labels: Mapping[str, str], owner: tuple[str, str] | None = None) -> dict[str, Any]:
    fields = {f"f:field{n}": {"f:value": {}, "f:type": {}} for n in range(24)}
    meta: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": f"{abs(hash((name, namespace))):032x}",
        "resourceVersion": "1000",
        "creationTimestamp": _TIME,
        "labels": dict(labels),
        "annotations": {"checksum/config": "c" * 64},
        "managedFields": [
            {"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": _TIME, "fieldsV1": fields}
        ],
    }
    if owner:
        meta["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": True}
        ]
    return meta


def _template(app: str) -> dict[str, Any]:
    container = {
        "name": app,
        "image": f"registry.lan/{app}:1.2.3",
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(12)],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 10},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/token", "readOnly": True}],
    }
    volume = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    return {"containers": [container], "volumes": [volume], "serviceAccountName": "default", "restartPolicy": "Always"}


def _pod(app: str, namespace: str, index: int, node: str, broken: bool) -> dict[str, Any]:
    state: dict[str, Any] = {"name": app, "image": "i", "imageID": "i@sha256:" + "0" * 64, "ready": not broken}
    if broken:
        killed = {"reason": "OOMKilled", "exitCode": 137, "startedAt": _TIME, "finishedAt": _TIME}
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
        state |= {"restartCount": 40, "state": {"waiting": waiting}, "lastState": {"terminated": killed}}
    else:
        state |= {"restartCount": 0, "started": True, "state": {"running": {"startedAt": _TIME}}}
    ready = "False" if broken else "True"
    conditions = [
        {"type": kind, "status": "True" if kind in ("PodScheduled", "Initialized") else ready,
         "lastTransitionTime": _TIME, **({"reason": "ContainersNotReady"} if broken and "Ready" in kind else {})}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]  # fmt: skip
    owner = ("ReplicaSet", f"{app}-6d5f")
    return {
        "metadata": _meta(f"{app}-6d5f-{index:05d}", namespace, {"app": app, "pod-template-hash": "6d5f"}, owner),
        "spec": {**_template(app), "nodeName": node},
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.1.0.1", "startTime": _TIME, "qosClass": "Burstable",
            "conditions": conditions, "containerStatuses": [state],
        },
    }  # fmt: skip


def _workload(kind: str, app: str, namespace: str, broken: bool) -> dict[str, Any]:
    ready = PODS_EACH - broken
    name, owner = (app, None) if kind == "Deployment" else (f"{app}-6d5f", ("Deployment", app))
    available = {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}
    status: dict[str, Any] = {"replicas": PODS_EACH, "observedGeneration": 1}
    status |= {"readyReplicas": ready, "availableReplicas": ready}
    spec: dict[str, Any] = {"replicas": PODS_EACH, "selector": {"matchLabels": {"app": app}}}
    spec["template"] = {"metadata": {"labels": {"app": app}}, "spec": _template(app)}
    meta = {**_meta(name, namespace, {"app": app}, owner), "generation": 1}
    status |= {"updatedReplicas": PODS_EACH}
    return {"metadata": meta, "spec": spec, "status": {**status, "conditions": [available]}}


def _node(index: int) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True" if kind == "Ready" else "False", "lastHeartbeatTime": _TIME}
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    size = {"cpu": "16", "memory": "64Gi", "pods": "110"}
    info = {"kubeletVersion": "v1.34.0", "architecture": "arm64", "operatingSystem": "linux"}
    status = {"conditions": conditions, "capacity": size, "allocatable": size, "nodeInfo": info}
    return {"metadata": _meta(f"node-{index:03d}", "", {"kubernetes.io/arch": "arm64"}), "spec": {}, "status": status}


def objects() -> dict[str, list[dict[str, Any]]]:
    """The cluster, by plural."""
    chance = random.Random(7)
    found: dict[str, list[dict[str, Any]]] = {plural: [] for plural in _KINDS}
    found["nodes"] = [_node(n) for n in range(NODES)]
    found["namespaces"] = [
        {"metadata": _meta(f"team-{n:02d}", "", {}), "status": {"phase": "Active"}} for n in range(NAMESPACES)
    ]
    sick = set(chance.sample(range(WORKLOADS), BROKEN))
    for number in range(WORKLOADS):
        app, namespace = f"app-{number:03d}", f"team-{number % NAMESPACES:02d}"
        broken = number in sick
        found["deployments"].append(_workload("Deployment", app, namespace, broken))
        found["replicasets"].append(_workload("ReplicaSet", app, namespace, broken))
        ports = [{"name": "http", "port": 80, "targetPort": "http"}]
        service = {"selector": {"app": app}, "ports": ports, "type": "ClusterIP"}
        found["services"].append({"metadata": _meta(app, namespace, {"app": app}), "spec": service, "status": {}})
        endpoints = []
        for index in range(PODS_EACH):
            ill = broken and index == 0
            node = f"node-{chance.randrange(NODES):03d}"
            pod = _pod(app, namespace, number * PODS_EACH + index, node, ill)
            found["pods"].append(pod)
            target = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": namespace}
            endpoints.append({"addresses": ["10.0.0.1"], "conditions": {"ready": not ill}, "targetRef": target})
            if ill:
                found["events"].append(_event(pod, namespace))
        labels = {"kubernetes.io/service-name": app}
        found["endpointslices"].append(
            {"metadata": _meta(f"{app}-abc", namespace, labels), "addressType": "IPv4", "endpoints": endpoints,
             "ports": [{"name": "http", "port": 8080}]}
        )  # fmt: skip
    return found


def _event(pod: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    name = pod["metadata"]["name"]
    involved = {"kind": "Pod", "name": name, "namespace": namespace, "uid": pod["metadata"]["uid"]}
    return {
        "metadata": _meta(f"{name}.1", namespace, {}), "involvedObject": involved, "type": "Warning", "count": 40,
        "reason": "BackOff", "message": "Back-off restarting failed container", "lastTimestamp": _TIME,
        "firstTimestamp": _TIME, "source": {"component": "kubelet"},
    }  # fmt: skip


def _pages(version: str, kind: str, items: Sequence[Mapping[str, Any]]) -> list[bytes]:
    pages = []
    for start in range(0, max(1, len(items)), _PAGE):
        left = len(items) - start - _PAGE
        meta: dict[str, Any] = {"resourceVersion": "1000"}
        if left > 0:
            meta |= {"continue": f"page-{start + _PAGE}", "remainingItemCount": left}
        body = {"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": items[start : start + _PAGE]}
        pages.append(json.dumps(body, separators=(",", ":")).encode())
    return pages


_OBJECTS = objects()
_PAGES = {plural: _pages(version, kind, _OBJECTS[plural]) for plural, (version, kind, _) in _KINDS.items()}


def _discovery(core: bool) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for plural, (version, kind, namespaced) in _KINDS.items():
        if ("/" not in version) is core:
            resource = {
                "resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced" if namespaced else "Cluster",
                "singularResource": kind.lower(), "verbs": ["get", "list", "watch"],
            }  # fmt: skip
            groups.setdefault(version, []).append(resource)
    items = [
        {"metadata": {"name": version.rpartition("/")[0]},
         "versions": [{"version": version.rpartition("/")[2], "resources": resources, "freshness": "Current"}]}
        for version, resources in groups.items()
    ]  # fmt: skip
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


async def _serve(request: Request) -> Response:
    path = request.url.path.strip("/").split("/")
    if path in (["api"], ["apis"]):
        return JSONResponse(_discovery(path == ["api"]))
    if path == ["healthz"] or path[0] in ("readyz", "livez", "version"):
        return JSONResponse({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
    if path[-1] == "log":
        return Response("starting\nallocating\n", media_type="text/plain")
    if (pages := _PAGES.get(path[-1])) is None or "namespaces" in path[:-1]:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        return JSONResponse({**status, "message": "not found"}, status_code=404)
    limit = int(request.query_params.get("limit", "0")) or _PAGE
    start = int(request.query_params.get("continue", "page-0").removeprefix("page-"))
    if limit == _PAGE and start % _PAGE == 0:
        return Response(pages[start // _PAGE], media_type="application/json")
    version, kind, _ = _KINDS[path[-1]]
    items = _OBJECTS[path[-1]]
    left = len(items) - start - limit
    more = {"continue": f"page-{start + limit}", "remainingItemCount": left} if left > 0 else {}
    body = {"kind": f"{kind}List", "apiVersion": version, "metadata": more, "items": items[start : start + limit]}
    return JSONResponse(body)


app = Starlette(routes=[Route("/{path:path}", _serve)])
