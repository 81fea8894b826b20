from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    ago,
    causes,
    deployment,
    event,
    healthy,
    meta,
    node,
    only,
    run,
    service,
    stack,
    status,
    told,
)


def hpa(*rows: dict[str, Any], target: str = "sonarr", current: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta("sonarr"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": 1,
            "maxReplicas": 4,
        },
        "status": {"currentReplicas": current, "conditions": list(rows)},
    }


BLIND = {
    "type": "ScalingActive",
    "status": "False",
    "reason": "FailedGetResourceMetric",
    "message": "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get "
    "metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not "
    "find the requested resource",
}


def metrics_api() -> dict[str, Any]:
    row = {
        "type": "Available",
        "status": "False",
        "reason": "MissingEndpoints",
        "lastTransitionTime": ago(900),
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": meta("v1beta1.metrics.k8s.io", ""),
        "spec": {"service": {"name": "metrics-server", "namespace": "media"}},
        "status": {"conditions": [{**row, "message": "endpoints for service/metrics-server have no addresses"}]},
    }


def test_a_node_that_is_silent_takes_its_pods_with_it() -> None:
    objects = stack(status(), node="worker-2")
    objects[2]["metadata"]["deletionTimestamp"] = ago(900)
    report = run(objects, service(), node("worker-2", ready="Unknown"), node(), node("worker-3"))
    finding = only(report)
    assert (str(finding.object), finding.cause, finding.severity) == ("Node worker-2", "NodeNotReady", "high")
    assert {"Deployment media/sonarr", "Service media/sonarr"} <= set(map(str, finding.affects))
    assert "Unknown, NodeStatusUnknown: Kubelet stopped posting node status. (for 23m)" in told(report)


def test_a_node_that_reports_itself_not_ready_quotes_its_kubelet() -> None:
    report = run(node("worker-2", ready="False"), node(), node("worker-3"))
    assert "NetworkPluginNotReady" in told(report)


def test_events_of_the_kubelet_about_its_node_are_found_by_name() -> None:
    down = node("worker-2", ready="False")
    note = event(down, "NodeNotReady", "Node worker-2 status is now: NodeNotReady")
    note["involvedObject"]["uid"] = "worker-2"
    assert "event NodeNotReady 3m ago: Node worker-2" in told(run(down, note, node()))


def test_no_node_left_is_critical() -> None:
    assert only(run(node(ready="Unknown"))).severity == "critical"


@pytest.mark.parametrize("kind", ["MemoryPressure", "DiskPressure", "PIDPressure"])
def test_pressure_is_reported(kind: str) -> None:
    full = node()
    full["status"]["conditions"].append({"type": kind, "status": "True", "reason": "KubeletHas", "message": "x"})
    assert causes(run(full)) == [f"Node worker-1: {kind}"]


def test_a_cordoned_node_is_only_information() -> None:
    finding = only(run(node(spec={"unschedulable": True})))
    assert (finding.cause, finding.severity) == ("NodeCordoned", "info")


def test_an_autoscaler_without_metrics() -> None:
    report = run(healthy(), hpa(BLIND))
    assert causes(report) == ["HorizontalPodAutoscaler media/sonarr: FailedGetResourceMetric"]
    assert "could not find the requested resource" in told(report)


def test_blind_autoscalers_fold_under_the_metrics_server_that_is_scaled_to_zero() -> None:
    zero = deployment("metrics-server", replicas=0)
    report = run(healthy(), hpa(BLIND), metrics_api(), zero, service("metrics-server"))
    assert causes(report) == ["Deployment media/metrics-server: ScaledToZero"]
    assert "HorizontalPodAutoscaler media/sonarr" in map(str, only(report).affects)


def test_blind_autoscalers_fold_under_the_api_that_does_not_answer() -> None:
    assert causes(run(healthy(), hpa(BLIND), metrics_api())) == [
        "APIService v1beta1.metrics.k8s.io: APIServiceUnavailable"
    ]


def test_a_new_autoscaler_may_wait_for_its_first_metrics() -> None:
    words = "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"
    young = hpa({**BLIND, "message": words})
    young["metadata"]["creationTimestamp"] = ago(30)
    assert causes(run(healthy(), young)) == []


def test_an_autoscaler_at_its_maximum_is_low() -> None:
    row = {
        "type": "ScalingLimited",
        "status": "True",
        "reason": "TooManyReplicas",
        "lastTransitionTime": ago(900),
    }
    finding = only(
        run(
            healthy(),
            hpa({**row, "message": "the desired replica count is more than the maximum"}, current=4),
        )
    )
    assert (finding.cause, finding.severity) == ("AtMaxReplicas", "low")


def test_an_autoscaler_whose_target_is_gone() -> None:
    row = {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale"}
    words = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "gone" not found'
    report = run(healthy(), hpa({**row, "message": words}, target="gone"))
    assert causes(report) == ["HorizontalPodAutoscaler media/sonarr: ScaleTargetMissing"]
    assert causes(run(hpa(target="gone"), missing={"deployments.apps": "forbidden"})) == []


def test_an_autoscaler_of_a_workload_scaled_to_zero_is_in_order() -> None:
    row = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "ScalingDisabled",
        "message": "scaling is disabled",
    }
    assert causes(run(deployment(replicas=0), hpa(row, current=0))) == []
