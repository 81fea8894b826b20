"""Nodes: heartbeats of the living, and what the control plane does about a dead one."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, condition_is, is_deleting, name_of, namespace_of
from lab.simulation.podstatus import set_condition
from lab.simulation.replicasets import mark_deleted
from lab.simulation.scheduler import UNSCHEDULABLE, tolerates
from lab.simulation.world import World
from lab.store import Store
from lab.times import parse_instant, rfc3339, rfc3339_micro

GRACE = timedelta(seconds=50)
"""kube-controller-manager's default --node-monitor-grace-period."""
_SOURCE = Source("node-controller")
_UNREACHABLE = "node.kubernetes.io/unreachable"
_HEARTBEATS = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")


class Nodes:
    def __init__(self, store: Store, recorder: Recorder, world: World) -> None:
        self._store, self._recorder, self._world = store, recorder, world

    def step(self, now: datetime) -> None:
        for node in self._store.all("nodes"):
            died = self._world.dead_nodes.get(name_of(node))
            if died is None:
                self._beat(self._cordon(node, now), now)
            elif now - died >= GRACE:
                self._give_up(node, died + GRACE, now)

    def _cordon(self, node: Obj, now: datetime) -> Obj:
        """A node that takes no new pods has the taint that says so, and no longer when it does again."""
        taints = node["spec"].get("taints") or []
        kept = [one for one in taints if one["key"] != UNSCHEDULABLE["key"]]
        if bool(node["spec"].get("unschedulable")) == (len(kept) < len(taints)):
            return node
        if node["spec"].get("unschedulable"):
            kept = [*taints, {**UNSCHEDULABLE, "timeAdded": rfc3339(now)}]
        spec = {key: value for key, value in node["spec"].items() if key != "taints"}
        return self._store.replace("nodes", {**node, "spec": {**spec, **({"taints": kept} if kept else {})}})

    def _beat(self, node: Obj, now: datetime) -> None:
        lease = self._store.get("leases.coordination.k8s.io", "kube-node-lease", name_of(node))
        if lease is not None:
            renewed = {**lease["spec"], "renewTime": rfc3339_micro(now)}
            if now - parse_instant(lease["spec"]["renewTime"]) >= timedelta(seconds=10):
                self._store.replace("leases.coordination.k8s.io", {**lease, "spec": renewed})
        ready = next(item for item in node["status"]["conditions"] if item["type"] == "Ready")
        if now - parse_instant(ready["lastHeartbeatTime"]) >= timedelta(minutes=5):
            conditions = [
                {**item, "lastHeartbeatTime": rfc3339(now)} if item["type"] in _HEARTBEATS else item
                for item in node["status"]["conditions"]
            ]
            self._store.replace("nodes", {**node, "status": {**node["status"], "conditions": conditions}})

    def _give_up(self, node: Obj, at: datetime, now: datetime) -> None:
        if not any(item["key"] == _UNREACHABLE for item in node["spec"].get("taints") or []):
            self._mark_unknown(node, at)
        for pod in self._store.all("pods"):
            if pod["spec"].get("nodeName") == name_of(node):
                self._abandon(pod, at, now)

    def _mark_unknown(self, node: Obj, at: datetime) -> None:
        conditions = [
            {
                **item,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": rfc3339(at),
            }
            if item["type"] in _HEARTBEATS
            else item
            for item in node["status"]["conditions"]
        ]
        taints = [
            {"key": _UNREACHABLE, "effect": effect, "timeAdded": rfc3339(at)}
            for effect in ("NoSchedule", "NoExecute")
        ]
        spec = {**node["spec"], "taints": [*(node["spec"].get("taints") or []), *taints]}
        status = {**node["status"], "conditions": conditions}
        self._store.replace("nodes", {**node, "spec": spec, "status": status})
        message = f"Node {name_of(node)} status is now: NodeNotReady"
        self._recorder.record(node, _SOURCE, "Normal", "NodeNotReady", message, at)

    def _abandon(self, pod: Obj, at: datetime, now: datetime) -> None:
        """Marks a pod not ready, and deletes it when its patience (300 s by default) is over."""
        if condition_is(pod, "Ready"):
            conditions = [dict(item) for item in pod["status"]["conditions"]]
            set_condition(conditions, "Ready", "False", at)
            pod = self._store.replace("pods", {**pod, "status": {**pod["status"], "conditions": conditions}})
            self._recorder.record(pod, _SOURCE, "Warning", "NodeNotReady", "Node is not ready", at)
        taint = {"key": _UNREACHABLE, "effect": "NoExecute"}
        patience = next(
            (
                t["tolerationSeconds"]
                for t in pod["spec"]["tolerations"]
                if t.get("key") == _UNREACHABLE and "tolerationSeconds" in t
            ),
            None if tolerates(pod, taint) else 0,
        )
        if patience is None or is_deleting(pod) or now < at + timedelta(seconds=patience):
            return
        message = f"Marking for deletion Pod {namespace_of(pod)}/{name_of(pod)}"
        source = Source("taint-eviction-controller")
        self._recorder.record(pod, source, "Normal", "TaintManagerEviction", message, now)
        mark_deleted(self._store, pod, now)
