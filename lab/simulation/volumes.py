"""The volume controllers: claims are bound to new volumes where their class has a provisioner."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, name_of, namespace_of, uid_of
from lab.store import Store
from lab.times import rfc3339

_SOURCE = Source("persistentvolume-controller")
RESYNC = timedelta(seconds=15)
"""kube-controller-manager's default --pvclaimbinder-sync-period."""


class Volumes:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._told: dict[str, datetime] = {}

    def step(self, now: datetime) -> None:
        for claim in self._store.all("persistentvolumeclaims"):
            if claim.get("status", {}).get("phase") != "Bound":
                self._bind(claim, now)

    def _bind(self, claim: Obj, now: datetime) -> None:
        wanted = claim["spec"].get("storageClassName", "")
        found = self._store.get("storageclasses.storage.k8s.io", "", wanted)
        if found is None:
            self._tell(
                claim,
                "Warning",
                "ProvisioningFailed",
                f'storageclass.storage.k8s.io "{wanted}" not found',
                now,
            )
            return
        node = self._consumer_node(claim)
        if not node:
            message = "waiting for first consumer to be created before binding"
            self._tell(claim, "Normal", "WaitForFirstConsumer", message, now)
            return
        volume = new_volume(claim, found, node, rfc3339(now))
        self._store.add("persistentvolumes", volume)
        bind(self._store, claim, volume)

    def _tell(self, claim: Obj, type_: str, reason: str, message: str, now: datetime) -> None:
        if now - self._told.get(uid_of(claim), now - RESYNC) >= RESYNC:
            self._told[uid_of(claim)] = now
            self._recorder.record(claim, _SOURCE, type_, reason, message, now)

    def _consumer_node(self, claim: Obj) -> str:
        for pod in self._store.all("pods", namespace_of(claim)):
            for volume in pod["spec"].get("volumes") or []:
                if volume.get("persistentVolumeClaim", {}).get("claimName") == name_of(claim):
                    return str(pod["spec"].get("nodeName", ""))
        return ""


def new_volume(claim: Obj, storage_class: Obj, node: str, at: str) -> Obj:
    """The volume that the class's provisioner makes for the claim, on `node` if it is a local one."""
    size = claim["spec"]["resources"]["requests"]["storage"]
    name = f"pvc-{uid_of(claim)}"
    spec: Obj = {
        "capacity": {"storage": size},
        "accessModes": claim["spec"]["accessModes"],
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace_of(claim),
            "name": name_of(claim),
            "uid": uid_of(claim),
        },
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
        "storageClassName": name_of(storage_class),
        "volumeMode": "Filesystem",
    }
    if "nfs" in storage_class["provisioner"]:
        share = f"/volume1/k8s/{namespace_of(claim)}-{name_of(claim)}-{name}"
        spec["nfs"] = {"server": "192.168.10.5", "path": share}
    else:
        spec["hostPath"] = {
            "path": f"/var/lib/local-path/{name}_{namespace_of(claim)}_{name_of(claim)}",
            "type": "DirectoryOrCreate",
        }
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "creationTimestamp": at,
            "annotations": {"pv.kubernetes.io/provisioned-by": storage_class["provisioner"]},
            "finalizers": ["kubernetes.io/pv-protection"],
        },
        "spec": spec,
        "status": {"phase": "Bound", "lastPhaseTransitionTime": at},
    }


def bind(store: Store, claim: Obj, volume: Obj) -> None:
    """Writes the claim's side of the binding."""
    metadata = {
        **claim["metadata"],
        "annotations": {
            **(claim["metadata"].get("annotations") or {}),
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
            "volume.kubernetes.io/storage-provisioner": volume["metadata"]["annotations"][
                "pv.kubernetes.io/provisioned-by"
            ],
        },
        "finalizers": ["kubernetes.io/pvc-protection"],
    }
    status = {
        "phase": "Bound",
        "accessModes": claim["spec"]["accessModes"],
        "capacity": volume["spec"]["capacity"],
    }
    spec = {**claim["spec"], "volumeName": name_of(volume), "volumeMode": "Filesystem"}
    store.replace("persistentvolumeclaims", {**claim, "metadata": metadata, "spec": spec, "status": status})
