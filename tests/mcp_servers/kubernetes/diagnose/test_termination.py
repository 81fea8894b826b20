from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    causes,
    ended,
    event,
    only,
    pod,
    run,
    stack,
    status,
    told,
    waiting,
)

BACKOFF = "back-off 5m0s restarting failed container=sonarr pod=sonarr-7d9f8c6b54-x2k4p_media(5f1)"


def crashing(last: dict[str, Any]) -> dict[str, Any]:
    return waiting("CrashLoopBackOff", BACKOFF, restarts=12, last=last)


def test_an_out_of_memory_kill_names_the_limit() -> None:
    objects = stack(crashing(ended(137, "OOMKilled")))
    objects[2]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "256Mi"}}
    finding = only(run(objects))
    assert (str(finding.object), finding.cause, finding.severity) == (
        "Deployment media/sonarr",
        "OOMKilled",
        "high",
    )
    assert "limit of 256Mi" in finding.title
    assert "container sonarr last exit: OOMKilled, code 137, memory limit 256Mi, 60s ago, 12 restarts" in told(
        run(objects)
    )


def test_an_out_of_memory_kill_without_a_limit_blames_the_node() -> None:
    finding = only(run(stack(crashing(ended(137, "OOMKilled")))))
    assert "no memory limit" in finding.title


@pytest.mark.parametrize(
    ("code", "cause", "phrase"),
    [
        (0, "CompletedTooSoon", "code 0"),
        (1, "CrashLoopBackOff", "the program reports an error"),
        (2, "CrashLoopBackOff", "code 2"),
        (126, "CommandNotExecutable", "can't be executed"),
        (127, "CommandNotFound", "command not found"),
        (134, "Aborted", "SIGABRT"),
        (137, "Killed", "SIGKILL"),
        (139, "SegmentationFault", "SIGSEGV"),
        (143, "Terminated", "SIGTERM"),
        (136, "CrashLoopBackOff", "signal 8"),
        (78, "CrashLoopBackOff", "code 78"),
    ],
)
def test_exit_codes_are_explained(code: int, cause: str, phrase: str) -> None:
    finding = only(run(stack(crashing(ended(code, "Completed" if code == 0 else "Error")))))
    assert finding.cause == cause
    assert phrase in finding.title


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        (
            "StartError",
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            'failed: unable to start container process: error during container init: exec: "sonar": executable file '
            "not found in $PATH: unknown",
            "CommandNotFound",
        ),
        (
            "StartError",
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            'failed: unable to start container process: exec: "/app/run.sh": permission denied: unknown',
            "CommandNotExecutable",
        ),
        (
            "ContainerCannotRun",
            'OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "/run": '
            "stat /run: no such file or directory: unknown",
            "CommandNotFound",
        ),
        (
            "StartError",
            "container create failed: exec container process `/bin/app`: Exec format error",
            "ExecFormatError",
        ),
        ("StartError", "failed to create shim task: OCI runtime create failed: something new", "StartError"),
    ],
)
def test_containers_that_can_not_be_started_say_why(reason: str, message: str, cause: str) -> None:
    objects = stack(crashing(ended(128, reason, message=message)))
    assert causes(run(objects)) == [f"Deployment media/sonarr: {cause}"]


def test_a_crash_is_seen_between_two_crashes() -> None:
    objects = stack(status(running={"startedAt": "2026-03-05T11:59:50Z"}, restarts=5, last=ended(1, seconds=12)))
    assert only(run(objects)).cause == "CrashLoopBackOff"


def test_a_restart_by_a_failing_liveness_probe_is_not_called_a_crash() -> None:
    objects = stack(crashing(ended(137, "Error")))
    killing = event(
        objects[2], "Killing", "Container sonarr failed liveness probe, will be restarted", container="sonarr"
    )
    unhealthy = event(
        objects[2],
        "Unhealthy",
        'Liveness probe failed: Get "http://10.42.1.7:8989/ping": context deadline exceeded',
    )
    report = run(objects, killing, unhealthy)
    assert only(report).cause == "LivenessProbeFailed"
    assert "event Unhealthy 3m ago: Liveness probe failed" in told(report)


def test_init_containers_and_sidecars_are_named_as_such() -> None:
    first = waiting("CrashLoopBackOff", "back-off 40s", name="migrate", restarts=4, last=ended(1))
    objects = stack(waiting("PodInitializing"), init=(first,), phase="Pending")
    report = run(objects)
    assert only(report).title.startswith("init container migrate exits with code 1")
    assert "init container migrate waiting: Init:CrashLoopBackOff" in told(report)
    objects[2]["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert only(run(objects)).title.startswith("sidecar container migrate")


def test_a_bare_pod_that_failed_is_its_own_root() -> None:
    alone = pod(status(terminated=ended(1)), name="once", phase="Failed")
    assert causes(run(alone)) == ["Pod media/once: CrashLoopBackOff"]


def test_a_recent_restart_of_a_container_that_is_ready_is_low() -> None:
    objects = stack(status(ready=True, restarts=1, last=ended(1, seconds=600)), ready=1)
    finding = only(run(objects))
    assert finding.severity == "low"
    assert "it runs again" in finding.why


@pytest.mark.parametrize(
    "calm",
    [
        status(ready=True, restarts=40, last=ended(1, seconds=7000)),
        status(ready=True, restarts=1, last=ended(0, "Completed", seconds=600)),
        status(ready=True, restarts=1, last=ended(143, seconds=600)),
        status(ready=True, restarts=1, last=ended(255, "Unknown", seconds=600)),
        waiting("ContainerCreating", restarts=1, last=ended(0, "Completed", seconds=30)),
    ],
)
def test_old_or_graceful_restarts_are_no_problem(calm: dict[str, Any]) -> None:
    objects = stack(calm, ready=1)
    assert causes(run(objects)) == []


def test_a_container_that_ends_well_again_and_again_is_told_between_two_runs() -> None:
    objects = stack(status(restarts=8, last=ended(0, "Completed", seconds=20)))
    assert only(run(objects)).cause == "CompletedTooSoon"
