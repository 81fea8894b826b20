from __future__ import annotations

from mcp_servers.cluster.report import Scope, render
from tests.mcp_servers.kubernetes.diagnose.build import (
    causes,
    claim,
    healthy,
    ingress,
    merged,
    node,
    run,
    stack,
    unscheduled,
    waiting,
)

SONARR = stack(waiting("CrashLoopBackOff"))
RADARR = stack(waiting("CrashLoopBackOff", name="radarr"), name="radarr")


def elsewhere(objects: list[dict[str, object]]) -> list[dict[str, object]]:
    return [merged(one, {"metadata": {"namespace": "other"}}) for one in objects]


def test_a_namespace_shows_its_own_findings_only() -> None:
    report = run(SONARR, elsewhere(RADARR), scope=Scope(namespace="other"))
    assert causes(report) == ["Deployment other/radarr: CrashLoopBackOff"]
    assert report.namespaces == 1


def test_a_name_is_found_without_its_kind() -> None:
    report = run(SONARR, RADARR, scope=Scope(name="radarr"))
    assert causes(report) == ["Deployment media/radarr: CrashLoopBackOff"]
    assert report.notes == ()


def test_the_pod_leads_to_the_workloads_finding() -> None:
    pod = SONARR[2]["metadata"]["name"]
    assert causes(run(SONARR, RADARR, scope=Scope("media", "pod", pod))) == [
        "Deployment media/sonarr: CrashLoopBackOff"
    ]


def test_the_ingress_leads_to_what_is_behind_it() -> None:
    scope = Scope("media", "ingresses", "web")
    report = run(healthy("radarr"), SONARR, ingress("web", backend="gone"), scope=scope)
    assert causes(report) == ["Ingress media/web: BackendServiceMissing"]


def test_a_part_of_a_name_is_enough_and_the_report_says_so() -> None:
    report = run(SONARR, RADARR, scope=Scope(name="sona"))
    assert causes(report) == ["Deployment media/sonarr: CrashLoopBackOff"]
    assert report.notes == ("No object is called exactly 'sona'; this is about Deployment media/sonarr.",)


def test_several_matches_are_all_looked_at_and_named() -> None:
    report = run(SONARR, elsewhere(stack(waiting("CrashLoopBackOff"))), scope=Scope(name="sonarr"))
    assert len(report.findings) == 2
    assert report.notes == ("'sonarr' matches Deployment media/sonarr, Deployment other/sonarr.",)


def test_an_unknown_name_gets_close_ones() -> None:
    report = run(SONARR, RADARR, scope=Scope(name="sonar-r"))
    assert report.findings == ()
    assert "Nothing is called 'sonar-r' in the cluster. Close names: sonarr" in render(report)
    assert "No problems found" not in render(report).splitlines()[0]


def test_a_claim_shows_what_waits_for_it() -> None:
    waits = unscheduled(SONARR[1], "0/1 nodes are available: 1 Insufficient cpu.", claim="sonarr")
    report = run(SONARR[:2], waits, claim(phase="Bound"), RADARR, node(), scope=Scope("media", "pvc", "sonarr"))
    assert causes(report) == ["Deployment media/sonarr: InsufficientResources"]


def test_a_kind_alone_narrows_to_it() -> None:
    report = run(SONARR, ingress("web", backend="gone"), scope=Scope("media", "Ingress"))
    assert causes(report) == ["Ingress media/web: BackendServiceMissing"]
