"""The work grows with the number of objects, not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mcp_servers.cluster.report import Scope
from mcp_servers.kubernetes.diagnose.engine import diagnose
from tests.mcp_servers.kubernetes.diagnose.build import (
    NOW,
    Obj,
    claim,
    deployment,
    ended,
    ingress,
    meta,
    pod,
    replicaset,
    service,
    snap,
    stack,
    status,
    unscheduled,
    waiting,
)


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls: the same on every machine."""
    count = 0

    def seen(_frame: FrameType, what: str, _arg: Any) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def answered(n: int) -> list[Obj]:
    found: list[Obj] = []
    for i in range(n):
        slices: Obj = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": meta(f"web-{i}-x", labels={"kubernetes.io/service-name": f"web-{i}"}),
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        }
        found += [*stack(status(f"web-{i}", ready=True), name=f"web-{i}", ready=1), service(f"web-{i}"), slices]
    return found


def crashing(n: int) -> list[Obj]:
    found: list[Obj] = []
    for i in range(n):
        found += stack(waiting("CrashLoopBackOff", name=f"web-{i}"), name=f"web-{i}")
        found += [service(f"web-{i}"), ingress(f"web-{i}", backend=f"web-{i}")]
    return found


def lost(n: int) -> list[Obj]:
    found: list[Obj] = []
    for i in range(n):
        found += [service(f"web-{i}", selector={"app": f"gone-{i}"}), claim(f"data-{i}", phase="Lost")]
        found.append(unscheduled(message="persistentvolumeclaim not found", claim=f"data-{i}", name=f"web-{i}"))
    return found


def one_workload(n: int) -> list[Obj]:
    top = deployment(replicas=n)
    middle = replicaset(top)
    return [top, middle, *(pod(waiting("CrashLoopBackOff"), owner=middle, name=f"web-{i}") for i in range(n))]


def jobs_of_one_schedule(n: int) -> list[Obj]:
    cron: Obj = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("backup"), "spec": {}}
    found = [cron]
    for i in range(n):
        job: Obj = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": meta(f"backup-{i:04}", owner=cron),
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
        }
        found += [job, pod(status(terminated=ended(1)), owner=job, phase="Failed", name=f"b-{i}")]
    return found


@pytest.mark.parametrize("shape", [answered, crashing, lost, one_workload, jobs_of_one_schedule])
def test_four_times_the_objects_are_about_four_times_the_work(shape: Callable[[int], list[Obj]]) -> None:
    few, many = (snap(shape(n)) for n in (60, 240))
    small = calls(lambda: diagnose(few, Scope(), NOW))
    large = calls(lambda: diagnose(many, Scope(), NOW))
    assert large < 6 * small


def test_a_part_of_many_names_is_looked_up_in_proportion_too() -> None:
    few, many = (snap(crashing(n)) for n in (40, 160))
    small = calls(lambda: diagnose(few, Scope(name="web"), NOW))
    large = calls(lambda: diagnose(many, Scope(name="web"), NOW))
    assert large < 6 * small
