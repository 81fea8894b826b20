from __future__ import annotations

from tests.mcp_servers.kubernetes.diagnose.build import (
    causes,
    claim,
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
    storage_class,
    told,
    unscheduled,
    waiting,
)


def test_a_chain_of_consequences_ends_at_its_first_cause() -> None:
    top, middle, _ = stack(status())
    pending = unscheduled(
        middle, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", claim="data"
    )
    pending["metadata"]["labels"] = {"app": "sonarr"}
    broken = claim("data", storageClassName="fast-ssd")
    report = run(top, middle, pending, broken, storage_class(), service(), ingress())
    finding = only(report)
    assert str(finding.object) == "PersistentVolumeClaim media/data"
    assert {"Deployment media/sonarr", "Service media/sonarr", "Ingress media/sonarr"} == set(map(str, finding.affects))
    assert "event" not in told(report) and "pod has unbound immediate PersistentVolumeClaims" in told(report)


def test_replicas_with_different_causes_are_told_apart() -> None:
    objects = stack(waiting("CrashLoopBackOff", last=ended(137, "OOMKilled")), replicas=2)
    other = pod(waiting("CreateContainerConfigError", 'secret "x" not found'), owner=objects[1], name="sonarr-other")
    assert set(causes(run(objects, other))) == {
        "Deployment media/sonarr: OOMKilled",
        "Deployment media/sonarr: MissingSecret",
    }


def test_two_containers_with_one_cause_are_one_finding() -> None:
    bad = 'secret "x" not found'
    objects = stack(waiting("CreateContainerConfigError", bad), waiting("CreateContainerConfigError", bad, name="two"))
    finding = only(run(objects))
    assert finding.count == 1
    assert {"container sonarr waiting", "container two waiting"} <= {line.source for line in finding.evidence}


def test_an_outage_goes_before_a_rollout_that_is_stuck() -> None:
    stuck = stack(waiting("CrashLoopBackOff", name="a"), name="a", ready=1)
    down = stack(waiting("CrashLoopBackOff", name="b"), name="b")
    report = run(stuck, down, node(spec={"unschedulable": True}))
    assert [f"{finding.severity}" for finding in report.findings] == ["high", "medium", "info"]
    assert str(report.findings[0].object) == "Deployment media/b"


def test_a_cordoned_node_explains_nothing_by_itself() -> None:
    top, middle, _ = stack(status())
    pending = unscheduled(middle, "0/1 nodes are available: 1 node(s) were unschedulable.")
    report = run(top, middle, pending, node(spec={"unschedulable": True}))
    assert causes(report) == ["Deployment media/sonarr: NodesCordoned", "Node worker-1: NodeCordoned"]


def test_the_pods_of_a_node_that_is_down_are_not_reported_one_by_one() -> None:
    stacks = [one for name in ("a", "b", "c") for one in stack(status(name), name=name, node="worker-2")]
    for one in stacks:
        if one["kind"] == "Pod":
            one["metadata"]["deletionTimestamp"] = "2026-03-05T11:45:00Z"
    report = run(stacks, node("worker-2", ready="Unknown"), node(), node("worker-3"))
    assert causes(report) == ["Node worker-2: NodeNotReady"]
    assert len(only(report).affects) == 3


def test_the_newest_event_is_quoted() -> None:
    objects = stack(waiting("CrashLoopBackOff", last=ended(1)))
    words = "Back-off restarting failed container sonarr in pod sonarr"
    old = event(objects[2], "BackOff", words, seconds=900, count=3, container="sonarr")
    new = event(objects[2], "BackOff", f"{words}-2", seconds=60, count=12, container="sonarr")
    assert "event BackOff 60s ago (x12)" in told(run(objects, old, new))
    assert "(x3)" not in told(run(objects, old, new))
