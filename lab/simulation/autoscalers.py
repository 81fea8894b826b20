"""The horizontal pod autoscaler: reads utilisation while metrics are served, says so when they are not."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import Obj, namespace_of, uid_of
from lab.simulation.podstatus import set_condition
from lab.store import Store

_SOURCE = Source("horizontal-pod-autoscaler")
_NO_METRICS = (
    "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: "
    "the server is currently unable to handle the request (get pods.metrics.k8s.io)"
)
PERIOD = timedelta(seconds=15)
"""kube-controller-manager's default --horizontal-pod-autoscaler-sync-period."""
UTILISATION = 31
"""Per cent of the request, for every target: the lab's load is steady."""


def metrics_served(store: Store) -> bool:
    """Whether metrics.k8s.io answers: its server is a deployment like any other."""
    server = store.get("deployments.apps", "kube-system", "metrics-server")
    return server is not None and bool((server.get("status") or {}).get("availableReplicas"))


class Autoscalers:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._looked: dict[str, datetime] = {}

    def step(self, now: datetime) -> None:
        for found in self._store.all("horizontalpodautoscalers.autoscaling"):
            if now - self._looked.get(uid_of(found), now - PERIOD) < PERIOD:
                continue
            self._looked[uid_of(found)] = now
            target = self._store.get(
                "deployments.apps", namespace_of(found), found["spec"]["scaleTargetRef"]["name"]
            )
            if target is not None:
                self._sync(found, target, now)

    def _sync(self, found: Obj, target: Obj, now: datetime) -> None:
        replicas = target["spec"].get("replicas", 1)
        conditions = [dict(item) for item in (found.get("status") or {}).get("conditions") or []]
        set_condition(
            conditions,
            "AbleToScale",
            "True",
            now,
            "ReadyForNewScale",
            "recommended size matches current size",
        )
        status: Obj = {"currentReplicas": replicas, "desiredReplicas": replicas}
        if metrics_served(self._store):
            set_condition(
                conditions,
                "ScalingActive",
                "True",
                now,
                "ValidMetricFound",
                "the HPA was able to successfully calculate a replica count from cpu resource "
                "utilization (percentage of request)",
            )
            current = {"averageUtilization": UTILISATION, "averageValue": "31m"}
            status["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
        else:
            cause = f"failed to get cpu utilization: {_NO_METRICS}"
            text = f"the HPA was unable to compute the replica count: {cause}"
            set_condition(conditions, "ScalingActive", "False", now, "FailedGetResourceMetric", text)
            message = f"failed to get cpu utilization: {_NO_METRICS}"
            self._recorder.record(found, _SOURCE, "Warning", "FailedGetResourceMetric", message, now)
        for item in conditions:
            item.pop("lastProbeTime", None)
        status["conditions"] = conditions
        self._store.replace("horizontalpodautoscalers.autoscaling", {**found, "status": status})
