"""Objects of kinds that have no analyzer of their own, by their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mcp_servers.cluster.report import Scope, render
from mcp_servers.kubernetes.diagnose.collect import collect
from mcp_servers.kubernetes.diagnose.engine import diagnose
from tests.mcp_servers.kubernetes.diagnose.build import NOW, Obj, ago, causes, meta, only, run, stack, told, waiting

SCOPE = Scope("media", "Certificate", "web-tls")


def certificate(name: str = "web-tls", **status: Any) -> Obj:
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": meta(name),
        "spec": {"secretName": name},
        "status": status,
    }


def row(kind: str, status: str, reason: str, message: str, seconds: float = 900) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(seconds)}


ISSUING = row("Ready", "False", "DoesNotExist", "Issuing certificate as Secret does not exist")


class Cluster:
    def __init__(self, *objects: Obj) -> None:
        self.objects = objects
        self.asked: list[tuple[str, str]] = []

    async def list_all(self, resource: str, namespace: str = "") -> list[Mapping[str, Any]]:
        self.asked.append((resource, namespace))
        return list(self.objects) if resource == "certificates.cert-manager.io" else []

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool, tail: int) -> str:
        return ""


async def test_a_named_custom_resource_is_read_and_its_condition_told() -> None:
    cluster = Cluster(certificate(conditions=[ISSUING]), certificate("other", conditions=[ISSUING]))
    snapshot = await collect(cluster, SCOPE, "certificates.cert-manager.io")
    report = diagnose(snapshot, SCOPE, NOW)
    assert causes(report) == ["Certificate media/web-tls: DoesNotExist"]
    assert "Issuing certificate as Secret does not exist" in report.findings[0].title
    assert "False, DoesNotExist: Issuing certificate" in told(report)


async def test_a_kind_that_is_read_anyway_is_not_read_twice() -> None:
    cluster = Cluster()
    await collect(cluster, Scope("media", "Deployment", "web"), "deployments.apps")
    assert [name for name, _ in cluster.asked].count("deployments.apps") == 1
    assert "Deployment" not in [name for name, _ in cluster.asked]


async def test_secrets_are_never_read() -> None:
    cluster = Cluster()
    scope = Scope("media", "Secret", "token")
    snapshot = await collect(cluster, scope, "secrets")
    assert "secrets" not in [name for name, _ in cluster.asked]
    text = render(diagnose(snapshot, scope, NOW))
    assert "Not checked: secrets (never read)" in text and "Nothing is called" not in text


@pytest.mark.parametrize("kind", ["certificate", "certificates", "Certificate"])
def test_the_kind_may_be_written_in_any_way(kind: str) -> None:
    report = run(certificate(conditions=[ISSUING]), scope=Scope("media", kind, "web-tls"))
    assert causes(report) == ["Certificate media/web-tls: DoesNotExist"]


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"conditions": [row("Ready", "True", "Ready", "Certificate is up to date")]}, ""),
        ({"conditions": [row("Released", "False", "a", "b"), row("Ready", "False", "InstallFailed", "x")]},
         "InstallFailed"),
        ({"conditions": [row("Stalled", "True", "RetriesExceeded", "gave up")]}, "RetriesExceeded"),
        ({"conditions": [row("Issuing", "False", "Failed", "x")]}, ""),
        ({"conditions": [row("Ready", "False", "Progressing", "on its way", 20)]}, ""),
        ({"conditions": [{"type": "ComparisonError", "message": "repository not found"}]}, "ComparisonError"),
        ({"health": {"status": "Degraded", "message": "one is down"}}, "Degraded"),
        ({"phase": "Failed", "message": "backup failed"}, "Failed"),
        ({"phase": "Running"}, ""),
        ({"parents": [{"conditions": [row("ResolvedRefs", "False", "BackendNotFound", "no such")]}]},
         "BackendNotFound"),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_a_status_says_is_understood(status: Obj, cause: str) -> None:
    report = run(certificate(**status), scope=SCOPE)
    assert causes(report) == ([f"Certificate media/web-tls: {cause}"] if cause else [])


def test_a_suspended_resource_is_left_alone() -> None:
    held = certificate(conditions=[ISSUING])
    held["spec"]["suspend"] = True
    assert causes(run(held, scope=SCOPE)) == []


def test_a_workload_it_owns_explains_it() -> None:
    objects = stack(waiting("CrashLoopBackOff"))
    owner = certificate(conditions=[row("Ready", "False", "ReconcileError", "deployment not ready")])
    objects[0]["metadata"]["ownerReferences"] = [
        {"kind": "Certificate", "name": "web-tls", "uid": owner["metadata"]["uid"], "controller": True}
    ]
    finding = only(run(owner, objects, scope=SCOPE))
    assert (str(finding.object), finding.cause) == ("Deployment media/sonarr", "CrashLoopBackOff")
    assert "Certificate media/web-tls" in map(str, finding.affects)
