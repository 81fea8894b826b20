"""One compact workload grown into its controller, service, ingress, claims and configuration."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lab.objects import Obj
from lab.times import parse_age, rfc3339

Compact = dict[str, Any]
_CLASSES = {"local-path": "ReadWriteOnce", "nfs": "ReadWriteMany"}


@dataclass(frozen=True)
class Grown:
    """What one workload becomes: its controller, and what stands beside it."""

    controller: Obj
    beside: list[Obj]


def _labels(item: Compact) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/name": item.get("app", item["name"]),
        "app.kubernetes.io/instance": item["name"],
    }
    if item.get("component"):
        labels["app.kubernetes.io/component"] = item["component"]
    return labels


def has_kustomization(item: Compact) -> bool:
    """Whether Flux applies the workload from Git: what belongs to the machines and to Flux itself is not in there."""
    if item.get("kind", "Deployment") in ("Job", "Static"):
        return False
    return item["namespace"] not in ("kube-system", "flux-system") or bool(item.get("chart"))


def _metadata(item: Compact, name: str, created: datetime) -> Obj:
    labels = _labels(item)
    metadata: Obj = {"name": name, "namespace": item["namespace"], "creationTimestamp": rfc3339(created)}
    if item.get("chart"):
        labels |= {
            "app.kubernetes.io/managed-by": "Helm",
            "helm.sh/chart": item["chart"].replace("@", "-"),
            "helm.toolkit.fluxcd.io/name": item["name"],
            "helm.toolkit.fluxcd.io/namespace": item["namespace"],
        }
        metadata["annotations"] = {
            "meta.helm.sh/release-name": item["name"],
            "meta.helm.sh/release-namespace": item["namespace"],
        }
    elif has_kustomization(item):
        labels |= {
            "kustomize.toolkit.fluxcd.io/name": item["name"],
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        }
    metadata["labels"] = labels
    return metadata


def _ports(item: Compact) -> dict[str, int]:
    return dict(item.get("ports") or ({"http": item["port"]} if "port" in item else {}))


def _probe(path: str, port: str, delay: int, period: int, failures: int) -> Obj:
    how: Obj = (
        {"tcpSocket": {"port": port}}
        if path == "tcp"
        else {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}
    )
    return {
        **how,
        "initialDelaySeconds": delay,
        "periodSeconds": period,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _env(item: Compact) -> list[Obj]:
    found: list[Obj] = [{"name": key, "value": str(value)} for key, value in (item.get("env") or {}).items()]
    for field, where in (("secretKeyRef", "secret_env"), ("configMapKeyRef", "config_env")):
        for variable, reference in (item.get(where) or {}).items():
            name, key = reference.split("/")
            found.append({"name": variable, "valueFrom": {field: {"name": name, "key": key}}})
    return found


def container(item: Compact, mounts: list[Obj]) -> Obj:
    """The main container."""
    found: Obj = {"name": item.get("container", "app"), "image": item["image"]}
    for key in ("command", "args", "securityContext"):
        if key in item:
            found[key] = item[key]
    if env := _env(item):
        found["env"] = env
    if item.get("env_from"):
        found["envFrom"] = [{"configMapRef": {"name": name}} for name in item["env_from"]]
    ports = _ports(item)
    if ports:
        found["ports"] = [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in ports.items()]
    if ports and "probe" in item:
        first = next(iter(ports))
        delay = int(item.get("probe_delay", 0))
        found["livenessProbe"] = _probe(item["probe"], first, delay, 10, 3)
        found["readinessProbe"] = _probe(item["probe"], first, delay, 10, 3)
    resources = {key: dict(item[key]) for key in ("requests", "limits") if key in item}
    found["resources"] = resources
    if mounts:
        found["volumeMounts"] = mounts
    return found


def _claim(item: Compact, name: str, volume: Compact, created: datetime) -> Obj:
    storage_class = volume.get("class", "local-path")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(item, name, created),
        "spec": {
            "accessModes": [_CLASSES.get(storage_class, "ReadWriteOnce")],
            "resources": {"requests": {"storage": volume["size"]}},
            "storageClassName": storage_class,
        },
        "status": {"phase": "Pending"},
    }


def _volumes(item: Compact, created: datetime) -> tuple[list[Obj], list[Obj], list[Obj], list[Obj]]:
    """Pod volumes, mounts, claims to store, and claim templates."""
    volumes: list[Obj] = []
    mounts: list[Obj] = []
    claims: list[Obj] = []
    templates: list[Obj] = []
    for name, volume in (item.get("volumes") or {}).items():
        mounts.append({"name": name, "mountPath": volume["path"]})
        if "size" in volume and item.get("kind") == "StatefulSet":
            claim = _claim(item, name, volume, created)
            claim["metadata"] = {"name": name}
            templates.append(claim)
        elif "size" in volume:
            claims.append(
                _claim(item, item["name"] if name == "config" else f"{item['name']}-{name}", volume, created)
            )
            volumes.append(
                {"name": name, "persistentVolumeClaim": {"claimName": claims[-1]["metadata"]["name"]}}
            )
        elif "claim" in volume:
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": volume["claim"]}})
        elif "host" in volume:
            volumes.append({"name": name, "hostPath": {"path": volume["host"], "type": ""}})
        else:
            volumes.append({"name": name, "emptyDir": {}})
    for kind, key in (("configmap", "configMap"), ("secret", "secret")):
        if kind in item:
            name = item.get(f"{kind}_name", item["name"])
            source = {"name": name} if key == "configMap" else {"secretName": name}
            volumes.append({"name": f"{kind}-files", key: {**source, "defaultMode": 420}})
            mounts.append({"name": f"{kind}-files", "mountPath": f"/etc/{item['name']}", "readOnly": True})
    return volumes, mounts, claims, templates


def pod_template(item: Compact, volumes: list[Obj], mounts: list[Obj]) -> Obj:
    spec: Obj = {"containers": [container(item, mounts)]}
    for extra in item.get("sidecars") or []:
        spec["containers"].append(container(extra, []))
    inits = [container({"container": extra["name"], **extra}, mounts) for extra in item.get("init") or []]
    if inits:
        spec["initContainers"] = inits
    if volumes:
        spec["volumes"] = volumes
    for short, key in (
        ("service_account", "serviceAccountName"),
        ("priority_class", "priorityClassName"),
        ("node_selector", "nodeSelector"),
        ("tolerations", "tolerations"),
        ("host_network", "hostNetwork"),
        ("restart_policy", "restartPolicy"),
        ("pull_secrets", "imagePullSecrets"),
    ):
        if short in item:
            spec[key] = item[short]
    metadata: Obj = {"labels": _labels(item)}
    if "configmap" in item:
        digest = hashlib.sha256(str(item["configmap"]).encode()).hexdigest()
        metadata["annotations"] = {"checksum/config": digest}
    return {"metadata": metadata, "spec": spec}


def _controller(item: Compact, template: Obj, templates: list[Obj], created: datetime) -> Obj:
    kind = item.get("kind", "Deployment")
    selector = {"matchLabels": _labels(item)}
    metadata = _metadata(item, item["name"], created)
    metadata["managedFields"] = _managed_fields(item, created)
    if kind in ("Job", "CronJob"):
        return _batch(item, kind, metadata, template)
    spec: Obj = {"selector": selector, "template": template, "revisionHistoryLimit": 10}
    if kind in ("Deployment", "Static"):
        strategy: Obj = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
        }
        if item.get("strategy") == "Recreate":
            strategy = {"type": "Recreate"}
        spec |= {"replicas": item.get("replicas", 1), "strategy": strategy, "progressDeadlineSeconds": 600}
    elif kind == "StatefulSet":
        spec |= {
            "replicas": item.get("replicas", 1),
            "serviceName": item["name"],
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate"},
        }
        if templates:
            spec["volumeClaimTemplates"] = templates
    else:
        spec["updateStrategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        }
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {}}


def _batch(item: Compact, kind: str, metadata: Obj, template: Obj) -> Obj:
    template["spec"].setdefault("restartPolicy", "Never")
    job: Obj = {
        "backoffLimit": item.get("backoff_limit", 6),
        "completions": 1,
        "parallelism": 1,
        "completionMode": "NonIndexed",
        "suspend": False,
        "template": template,
    }
    if kind == "CronJob":
        job.pop("suspend")
        spec: Obj = {
            "schedule": item["schedule"],
            "suspend": item.get("suspend", False),
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"spec": job},
        }
    else:
        names = {"batch.kubernetes.io/job-name": item["name"], "job-name": item["name"]}
        template["metadata"]["labels"] |= names
        spec = {**job, "selector": {"matchLabels": names}}
    return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {}}


def _managed_fields(item: Compact, created: datetime) -> list[Obj]:
    manager = "helm-controller" if item.get("chart") else "kustomize-controller"
    return [
        {
            "manager": manager,
            "operation": "Apply" if manager.startswith("kustomize") else "Update",
            "apiVersion": "apps/v1",
            "time": rfc3339(created),
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {
                    "f:labels": {"f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/instance": {}}
                },
                "f:spec": {"f:template": {"f:spec": {"f:containers": {}}}},
            },
        }
    ]


def _service(item: Compact, created: datetime) -> Obj | None:
    ports = _ports(item)
    if not ports or item.get("service") is False:
        return None
    headless = item.get("service") == "headless"
    number = int(hashlib.sha256(f"{item['namespace']}/{item['name']}".encode()).hexdigest()[:4], 16)
    address = "None" if headless else f"10.43.{number // 250 % 250}.{number % 250 + 2}"
    spec: Obj = {
        "type": item.get("service_type", "ClusterIP"),
        "clusterIP": item.get("cluster_ip", address),
        "clusterIPs": [item.get("cluster_ip", address)],
        "selector": _labels(item),
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [
            {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
            for name, port in ports.items()
        ],
    }
    status: Obj = {"loadBalancer": {}}
    if "load_balancer" in item:
        spec |= {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": True,
            "externalTrafficPolicy": "Cluster",
        }
        for offset, port in enumerate(spec["ports"]):
            port["nodePort"] = 30000 + number % 2700 + offset
        status = {"loadBalancer": {"ingress": [{"ip": item["load_balancer"], "ipMode": "VIP"}]}}
    metadata = _metadata(item, item["name"], created)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status}


def _ingress(item: Compact, created: datetime) -> Obj:
    backend = {"service": {"name": item["name"], "port": {"name": next(iter(_ports(item)))}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    metadata = _metadata(item, item["name"], created)
    metadata.setdefault("annotations", {})["cert-manager.io/cluster-issuer"] = "letsencrypt-production"
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata | {"generation": 1},
        "spec": {
            "ingressClassName": "internal",
            "rules": [{"host": item["ingress"], "http": {"paths": [path]}}],
            "tls": [{"hosts": [item["ingress"]], "secretName": f"{item['name']}-tls"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.168.10.50"}]}},
    }


def _configuration(item: Compact, created: datetime) -> list[Obj]:
    found: list[Obj] = []
    if "configmap" in item:
        metadata = _metadata(item, str(item.get("configmap_name", item["name"])), created)
        found.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": item["configmap"]}
        )
    if "secret" in item:
        data = {key: base64.b64encode(str(value).encode()).decode() for key, value in item["secret"].items()}
        metadata = _metadata(item, str(item.get("secret_name", item["name"])), created)
        found.append(
            {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}
        )
    if "service_account" in item:
        metadata = _metadata(item, item["service_account"], created)
        found.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return found


def grow(item: Compact, now: datetime) -> Grown:
    """The objects of one compact workload; `age` says how long ago they were created."""
    created = now - parse_age(item.get("age", "120d")) - timedelta(seconds=len(item["name"]) * 7)
    volumes, mounts, claims, templates = _volumes(item, created)
    controller = _controller(item, pod_template(item, volumes, mounts), templates, created)
    beside = [*_configuration(item, created), *claims]
    service = _service(item, created)
    if service is not None:
        beside.append(service)
    if "ingress" in item:
        beside.append(_ingress(item, created))
    return Grown(controller, beside)
