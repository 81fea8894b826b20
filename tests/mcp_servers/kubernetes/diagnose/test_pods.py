from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    ago,
    causes,
    ended,
    event,
    ingress,
    node,
    only,
    pod,
    run,
    service,
    stack,
    status,
    told,
    waiting,
)


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("CreateContainerConfigError", 'secret "sonarr" not found', "MissingSecret"),
        ("CreateContainerConfigError", 'configmap "sonarr-env" not found', "MissingConfigMap"),
        ("CreateContainerConfigError", "couldn't find key db-password in Secret media/sonarr", "MissingKey"),
        ("CreateContainerConfigError", "couldn't find key x in ConfigMap media/sonarr", "MissingKey"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root (pod: sonarr, container: sonarr)",
            "RunAsNonRoot",
        ),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (node), cannot verify user is non-root",
            "RunAsNonRoot",
        ),
        ("CreateContainerError", "failed to generate container spec: no command specified", "NoCommand"),
        ("CreateContainerError", "context deadline exceeded", "RuntimeTimeout"),
        (
            "CreateContainerError",
            "container create failed: executable file `/bin/nope` not found in $PATH: No such file or directory",
            "CommandNotFound",
        ),
        (
            "RunContainerError",
            "failed to start container 5f: Error response from daemon: failed to create task: exec: "
            '"/start": permission denied: unknown',
            "CommandNotExecutable",
        ),
        ("PostStartHookError", "", "PostStartHookError"),
    ],
)
def test_containers_that_can_not_be_created_say_why(reason: str, message: str, cause: str) -> None:
    objects = stack(waiting(reason, message), phase="Pending")
    report = run(objects)
    assert causes(report) == [f"Deployment media/sonarr: {cause}"]
    assert f"container sonarr waiting: {reason}" in told(report)


def test_a_runtime_error_without_a_message_is_read_from_the_last_exit() -> None:
    last = ended(128, "StartError", message='exec: "x": executable file not found in $PATH: unknown')
    assert only(run(stack(waiting("RunContainerError", last=last)))).cause == "CommandNotFound"


def test_a_sandbox_that_can_not_be_made_is_a_network_problem() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    message = 'Failed to create pod sandbox: rpc error: plugin type="flannel" failed (add): open /run/subnet.env'
    assert only(run(objects, event(objects[2], "FailedCreatePodSandBox", message))).cause == "SandboxFailed"


def test_a_sandbox_that_its_nodes_network_prevents_belongs_to_the_node() -> None:
    objects = stack(waiting("ContainerCreating"), phase="Pending")
    message = "network is not ready: container runtime network not ready: NetworkReady=false"
    report = run(objects, event(objects[2], "NetworkNotReady", message), node(ready="False"), node("worker-2"))
    assert causes(report) == ["Node worker-1: NodeNotReady"]


def test_young_pods_may_be_starting() -> None:
    for state in (waiting("ContainerCreating"), status(running={"startedAt": ago(40)})):
        objects = stack(state, age=60, phase="Pending")
        objects[0]["status"]["conditions"] = [
            {
                "type": "Progressing",
                "status": "True",
                "reason": "ReplicaSetUpdated",
                "lastUpdateTime": ago(60),
            }
        ]
        assert causes(run(objects)) == []


def test_a_pod_that_should_be_gone_is_stuck() -> None:
    gone = {"deletionTimestamp": ago(600), "finalizers": ["example.com/hold"]}
    objects = stack(status(ready=True), ready=1, metadata=gone)
    finding = only(run(objects))
    assert finding.cause == "StuckTerminating"
    assert "finalizer" in finding.title
    assert "finalizers example.com/hold" in told(run(objects))
    objects[2]["metadata"]["deletionTimestamp"] = ago(-20)
    assert causes(run(objects)) == []


def evicted(objects: list[Any], seconds: float) -> dict[str, Any]:
    message = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 800Mi. "
    words = {"reason": "Evicted", "message": message, "containerStatuses": None, "startTime": ago(seconds)}
    row = {"type": "Ready", "status": "False", "lastTransitionTime": ago(seconds)}
    return pod(owner=objects[1], name="sonarr-old", phase="Failed", status={**words, "conditions": [row]})


def test_evictions_are_counted_and_old_ones_are_history() -> None:
    objects = stack(status(ready=True), ready=1)
    finding = only(run(objects, evicted(objects, 300)))
    assert (finding.cause, finding.severity) == ("Evicted", "low")
    assert "low on resource: ephemeral-storage" in finding.evidence[0].text
    assert causes(run(objects, evicted(objects, 9000))) == []


def test_an_eviction_under_disk_pressure_belongs_to_the_node() -> None:
    objects = stack(status(ready=True), ready=1)
    full = node()
    full["status"]["conditions"].append(
        {
            "type": "DiskPressure",
            "status": "True",
            "reason": "KubeletHasDiskPressure",
            "message": "kubelet has disk pressure",
        }
    )
    finding = only(run(objects, evicted(objects, 300), full))
    assert (str(finding.object), finding.cause) == ("Node worker-1", "DiskPressure")
    assert "Deployment media/sonarr" in map(str, finding.affects)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Readiness probe failed: HTTP probe failed with statuscode: 404", "ReadinessProbeFailed"),
        (
            "Readiness probe failed: dial tcp 10.42.0.9:8989: connect: connection refused",
            "ReadinessProbeFailed",
        ),
        ("Startup probe failed: HTTP probe failed with statuscode: 503", "StartupProbeFailed"),
        (
            "Readiness probe errored: rpc error: code = NotFound desc = container is not created",
            "ReadinessProbeFailed",
        ),
    ],
)
def test_a_container_that_runs_but_is_not_ready_shows_its_probe(message: str, cause: str) -> None:
    objects = stack(status())
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "failureThreshold": 3}
    objects[2]["spec"]["containers"][0] |= {"readinessProbe": probe, "startupProbe": probe}
    report = run(objects, event(objects[2], "Unhealthy", message, container="sonarr", count=30))
    assert causes(report) == [f"Deployment media/sonarr: {cause}"]
    assert f"event Unhealthy 3m ago (x30): {message}" in told(report)
    assert "http-get :http/healthz, every 10s" in told(report)


def test_a_slow_start_is_given_the_time_its_startup_probe_gives() -> None:
    objects = stack(status(running={"startedAt": ago(300)}), age=320)
    slow = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 10, "failureThreshold": 60}
    objects[2]["spec"]["containers"][0]["startupProbe"] = slow
    objects[0]["status"]["conditions"] = [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": ago(300)}
    ]
    assert causes(run(objects, service(target=80), ingress())) == []


def test_old_probe_failures_of_a_ready_pod_are_noise() -> None:
    objects = stack(status(ready=True), ready=1)
    assert causes(run(objects, event(objects[2], "Unhealthy", "Readiness probe failed: x", container="sonarr"))) == []


def test_a_readiness_gate_that_is_not_met_is_told() -> None:
    objects = stack(status(ready=True))
    words = 'the status of pod readiness gate "target-health" is not "True", but False'
    objects[2]["status"]["conditions"][-1] |= {
        "status": "False",
        "reason": "ReadinessGatesNotReady",
        "message": words,
    }
    assert only(run(objects)).cause == "ReadinessGatesNotReady"
