"""New pods as controllers make them, with what admission adds."""

from __future__ import annotations

import copy
import random
from datetime import datetime

from lab.objects import Obj, name_of, namespace_of, owner_reference
from lab.times import rfc3339

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_PATIENCE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def suffix(rng: random.Random, length: int = 5) -> str:
    """Random letters as the API server appends to a generateName."""
    return "".join(rng.choice(_ALPHABET) for _ in range(length))


def qos_class(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits."""
    resources = [
        c.get("resources") or {} for c in spec.get("containers", []) + spec.get("initContainers", [])
    ]
    if not any(item.get("requests") or item.get("limits") for item in resources):
        return "BestEffort"
    complete = all(
        set(item.get("limits") or {}) >= {"cpu", "memory"}
        and (item.get("requests") or item["limits"]) == item["limits"]
        for item in resources
    )
    return "Guaranteed" if complete else "Burstable"


def admitted_spec(spec: Obj) -> Obj:
    """The spec with the API server's defaults, the token volume and the default tolerations."""
    spec = copy.deepcopy(spec)
    mount = {
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "name": "kube-api-access",
        "readOnly": True,
    }
    for container in spec["containers"] + spec.get("initContainers", []):
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        container.setdefault("volumeMounts", []).append(dict(mount))
    spec.setdefault("volumes", []).append(
        {
            "name": "kube-api-access",
            "projected": {
                "defaultMode": 420,
                "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}],
            },
        }
    )
    defaults: Obj = {
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
    }
    for key, value in defaults.items():
        spec.setdefault(key, value)
    spec["serviceAccount"] = spec["serviceAccountName"]
    tolerations = spec.setdefault("tolerations", [])
    for key in _PATIENCE:
        if not any(item.get("key") in (key, None) for item in tolerations):
            tolerations.append(
                {"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300}
            )
    return spec


def new_pod(owner: Obj, template: Obj, name: str, at: datetime, labels: dict[str, str] | None = None) -> Obj:
    """A pending pod of `owner`, from its template."""
    metadata = copy.deepcopy(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **(labels or {})}
    metadata |= {
        "name": name,
        "namespace": namespace_of(owner),
        "creationTimestamp": rfc3339(at),
        "ownerReferences": [owner_reference(owner)],
    }
    if owner["kind"] == "ReplicaSet":
        metadata["generateName"] = f"{name_of(owner)}-"
    metadata["managedFields"] = [
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "apiVersion": "v1",
            "time": rfc3339(at),
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}, "f:spec": {"f:containers": {}}},
        }
    ]
    spec = admitted_spec(template["spec"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Pending", "qosClass": qos_class(spec)},
    }
