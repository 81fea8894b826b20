"""Nodes from their compact form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lab.objects import Obj
from lab.quantities import bytes_text, parse_quantity
from lab.times import parse_age, rfc3339, rfc3339_micro

_HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def _conditions(seen: str, since: str) -> list[Obj]:
    return [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": seen,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
        for kind, status, reason, message in _HEALTHY
    ]


def _status(item: dict[str, Any], conditions: list[Obj]) -> Obj:
    capacity = {
        "cpu": item["cpu"],
        "memory": item["memory"],
        "pods": "110",
        "ephemeral-storage": item["disk"],
        "hugepages-2Mi": "0",
    }
    # The kubelet keeps 100Mi and a tenth of the disk for itself.
    memory = parse_quantity(item["memory"]) - parse_quantity("100Mi")
    disk = int(parse_quantity(item["disk"]) * 9 / 10)
    return {
        "capacity": capacity,
        "allocatable": {**capacity, "memory": bytes_text(memory), "ephemeral-storage": str(disk)},
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": item["ip"]},
            {"type": "Hostname", "address": item["name"]},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": item["machine_id"],
            "systemUUID": item["machine_id"],
            "bootID": item["machine_id"],
            "kernelVersion": item["kernel"],
            "osImage": item["os"],
            "containerRuntimeVersion": "containerd://2.1.4",
            "kubeletVersion": "v1.34.2",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": item["arch"],
        },
    }


def grow_node(item: dict[str, Any], now: datetime, seen: datetime) -> list[Obj]:
    """A Node and its Lease, last heard of at `seen`."""
    name, created = item["name"], rfc3339(now - parse_age(item["age"]))
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": item["arch"],
        "beta.kubernetes.io/arch": item["arch"],
        "beta.kubernetes.io/os": "linux",
        **item.get("labels", {}),
    }
    annotations = {
        "node.alpha.kubernetes.io/ttl": "0",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
    }
    spec: Obj = {"podCIDR": item["pod_cidr"], "podCIDRs": [item["pod_cidr"]]}
    if "taints" in item:
        spec["taints"] = item["taints"]
    up = rfc3339(now - parse_age(item.get("up", "41d")))
    node: Obj = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "creationTimestamp": created,
            "annotations": annotations,
        },
        "spec": spec,
        "status": _status(item, _conditions(rfc3339(seen), up)),
    }
    lease: Obj = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease", "creationTimestamp": created},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": rfc3339_micro(seen)},
    }
    return [node, lease]
