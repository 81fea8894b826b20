# ruff: noqa: E501 -- messages are quoted as components write them
from __future__ import annotations

import pytest

from tests.mcp_servers.kubernetes.diagnose.build import (
    ago,
    causes,
    deployment,
    event,
    healthy,
    merged,
    meta,
    only,
    pod,
    replicaset,
    run,
    status,
    told,
    waiting,
)

SHORT = {"status": {"replicas": 0, "updatedReplicas": 0}}
PROGRESS = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": 'ReplicaSet "sonarr-7d9f8c6b54" has timed out progressing.',
}


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            'Error creating: pods "sonarr-7d9-x" is forbidden: exceeded quota: media, requested: limits.memory=4Gi, used: '
            "limits.memory=6Gi, limited: limits.memory=8Gi",
            "QuotaExceeded",
        ),
        (
            'Error creating: pods "sonarr-7d9-x" is forbidden: failed quota: media: must specify limits.memory for: sonarr',
            "QuotaNeedsLimits",
        ),
        (
            'Error creating: pods "sonarr-7d9-x" is forbidden: violates PodSecurity "restricted:latest": '
            'allowPrivilegeEscalation != false (container "sonarr" must set ...)',
            "PodSecurityViolation",
        ),
        (
            'Error creating: pods "sonarr-7d9-" is forbidden: error looking up service account media/sonarr: serviceaccount '
            '"sonarr" not found',
            "ServiceAccountMissing",
        ),
        (
            'Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: policy Pod/media/x',
            "AdmissionDenied",
        ),
        (
            'Error creating: Internal error occurred: failed calling webhook "mutate.example.com": failed to call webhook: '
            "Post ...: connect: connection refused",
            "AdmissionWebhookDown",
        ),
        (
            'Error creating: pods "x" is forbidden: no PriorityClass with name high was found',
            "PriorityClassMissing",
        ),
        (
            'Error creating: pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            "LimitRangeViolation",
        ),
        ('Error creating: Pod "x" is invalid: spec.containers[0].image: Required value', "PodInvalid"),
        ("Error creating: something new", "FailedCreate"),
    ],
)
def test_pods_that_the_api_server_refuses_are_one_finding_at_the_deployment(message: str, cause: str) -> None:
    top = deployment(**SHORT)
    top["status"]["conditions"] = [PROGRESS]
    middle = replicaset(top, status={"replicas": 0})
    report = run(top, middle, event(middle, "FailedCreate", message, count=17))
    assert causes(report) == [f"Deployment media/sonarr: {cause}"]
    assert "event FailedCreate 3m ago (x17): Error creating" in told(report)


def test_the_condition_of_the_replica_set_is_as_good_as_its_event() -> None:
    top = deployment(ready=1)
    row = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'pods "sonarr-x" is forbidden: exceeded quota: media, requested: pods=1, used: pods=5, limited: pods=5',
    }
    middle = replicaset(top, status={"replicas": 0, "conditions": [row]})
    finding = only(run(top, middle))
    assert (finding.cause, finding.severity) == ("QuotaExceeded", "medium")


def test_a_refusal_that_was_overcome_is_over() -> None:
    top = deployment(ready=1)
    middle = replicaset(top)
    old = event(middle, "FailedCreate", "Error creating: exceeded quota: x", seconds=900)
    assert causes(run(top, middle, pod(status(ready=True), owner=middle), old)) == []


def stateful(name: str, kind: str = "StatefulSet") -> dict[str, object]:
    base = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta(name),
        "spec": {"replicas": 2, "template": {}},
    }
    counts = {"replicas": 2, "readyReplicas": 1, "desiredNumberScheduled": 2, "numberReady": 1}
    return merged(base, {"status": {**counts, "currentNumberScheduled": 2}})  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_stateful_sets_and_daemon_sets_are_counted(kind: str) -> None:
    finding = only(run(stateful("db", kind)))
    assert (str(finding.object), finding.cause, finding.severity) == (
        f"{kind} media/db",
        "ReplicasUnavailable",
        "medium",
    )
    assert "1 of 2" in finding.title


def test_a_stateful_set_whose_pod_is_refused_tells_why() -> None:
    broken = stateful("db")
    words = 'create Pod db-1 in StatefulSet db failed error: pods "db-1" is forbidden: exceeded quota: media'
    assert causes(run(broken, event(broken, "FailedCreate", words))) == ["StatefulSet media/db: QuotaExceeded"]


def test_a_pod_its_replica_set_and_its_deployment_are_one_finding() -> None:
    top = deployment(replicas=3)
    top["status"]["conditions"] = [PROGRESS]
    middle = replicaset(top)
    bad = waiting("CreateContainerConfigError", 'secret "sonarr" not found')
    pods = [pod(bad, owner=middle, name=f"sonarr-{i}", phase="Pending") for i in range(3)]
    report = run(top, middle, pods)
    assert causes(report) == ["Deployment media/sonarr: MissingSecret"]
    assert only(report).count == 3
    assert "ProgressDeadlineExceeded" in told(report)


def test_a_missing_replica_set_still_leads_to_the_deployment() -> None:
    top = deployment()
    middle = replicaset(top)
    bad = pod(waiting("CreateContainerConfigError", 'secret "sonarr" not found'), owner=middle)
    report = run(top, bad, missing={"replicasets.apps": "forbidden"})
    assert causes(report) == ["Deployment media/sonarr: MissingSecret"]


def test_a_rollout_within_its_deadline_is_in_order() -> None:
    top = deployment()
    top["status"]["conditions"] = [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": ago(300)}
    ]
    assert causes(run(top, replicaset(top))) == []


def test_what_is_scaled_to_zero_is_not_broken() -> None:
    objects = healthy()
    objects[0]["spec"]["replicas"] = objects[1]["spec"]["replicas"] = 0
    objects[0]["status"] = {"observedGeneration": 2}
    del objects[2]
    assert causes(run(objects)) == []


def test_a_system_workload_that_is_down_is_critical() -> None:
    top = deployment("coredns", namespace="kube-system")
    top["spec"]["template"]["spec"]["priorityClassName"] = "system-cluster-critical"
    middle = replicaset(top)
    bad = pod(waiting("CrashLoopBackOff", name="coredns"), owner=middle, namespace="kube-system")
    assert only(run(top, middle, bad)).severity == "critical"


def test_pods_of_an_operator_lead_to_its_resource() -> None:
    cluster = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": meta("pg")}
    bad = pod(waiting("CrashLoopBackOff"), owner=cluster)
    assert causes(run(bad)) == ["Cluster media/pg: CrashLoopBackOff"]
