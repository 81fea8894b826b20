"""What the API server fills in when an object is created: as far as the simulation goes by it."""

from __future__ import annotations

import random

from lab.objects import Obj, name_of, uid_of

_WORKLOADS: dict[str, Obj] = {
    "Deployment": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    },
    "StatefulSet": {
        "replicas": 1,
        "serviceName": "",
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate"},
        "revisionHistoryLimit": 10,
    },
    "DaemonSet": {
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "revisionHistoryLimit": 10,
    },
    "CronJob": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "Job": {
        "backoffLimit": 6,
        "completions": 1,
        "parallelism": 1,
        "completionMode": "NonIndexed",
        "suspend": False,
    },
    "Service": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
}


def fill(obj: Obj, rng: random.Random) -> None:
    """Fills in the defaults of a new object, in place. It has its uid already."""
    spec = obj.get("spec")
    known = _WORKLOADS.get(obj["kind"])
    if known is None or not isinstance(spec, dict):
        return
    for key, value in known.items():
        spec.setdefault(key, value)
    if obj["kind"] == "Job":
        _label_job(obj, spec)
    if obj["kind"] == "Service" and spec["type"] != "ExternalName" and "clusterIP" not in spec:
        spec["clusterIP"] = f"10.43.{rng.randrange(200, 250)}.{rng.randrange(2, 250)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
        for port in spec.get("ports") or []:
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port"))


def _label_job(job: Obj, spec: Obj) -> None:
    """The labels by which a Job knows its pods, and the selector for them, unless the Job brings its own."""
    if spec.get("manualSelector"):
        return
    uid = {"batch.kubernetes.io/controller-uid": uid_of(job)}
    names = {"batch.kubernetes.io/job-name": name_of(job), "job-name": name_of(job), "controller-uid": uid_of(job)}
    template = spec.setdefault("template", {}).setdefault("metadata", {})
    template["labels"] = {**(template.get("labels") or {}), **uid, **names}
    spec.setdefault("selector", {"matchLabels": uid})
