"""Services and Ingresses."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_servers.cluster.report import Scope
from mcp_servers.kubernetes.diagnose.engine import diagnose
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot
from tests.mcp_servers.kubernetes.diagnose.build import (
    NOW,
    causes,
    deployment,
    healthy,
    ingress,
    meta,
    only,
    run,
    service,
    stack,
    status,
    told,
    waiting,
)


def slices(name: str, *ready: bool) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(f"{name}-abc", labels={"kubernetes.io/service-name": name}),
        "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": one}} for one in ready] or None,
        "ports": [{"name": "http", "port": 8989}],
    }


def test_a_selector_that_matches_nothing_shows_the_closest_labels() -> None:
    objects = [*healthy(), service("web", selector={"app": "sonar"}), slices("web")]
    report = run(objects)
    assert causes(report) == ["Service media/web: ServiceSelectorMatchesNothing"]
    assert "app=sonar (matches 0 pods)" in told(report)
    assert "app=sonarr (pod sonarr-7d9f8c6b54-x2k4p)" in told(report)


def test_a_service_without_endpoints_folds_into_the_workload_that_is_broken() -> None:
    objects = stack(waiting("CrashLoopBackOff"))
    report = run(objects, service(), slices("sonarr", False), ingress())
    finding = only(report)
    assert str(finding.object) == "Deployment media/sonarr"
    assert list(map(str, finding.affects)) == ["Service media/sonarr", "Ingress media/sonarr"]


@pytest.mark.parametrize("resource", ["pods", "endpointslices.discovery.k8s.io", "endpointslices"])
def test_nothing_is_said_of_endpoints_that_were_not_listed(resource: str) -> None:
    report = run(service("web", selector={"app": "nothing"}), missing={resource: "forbidden"})
    assert causes(report) == []


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "ExternalName", "externalName": "nas.home.example", "selector": {}},
        {"selector": {}},
    ],
)
def test_services_without_a_selector_are_left_alone(spec: dict[str, Any]) -> None:
    assert causes(run(healthy(), service("nas", **spec))) == []


def test_a_headless_service_of_a_workload_scaled_to_zero_is_in_order() -> None:
    zero = deployment(replicas=0)
    assert causes(run(zero, service(clusterIP="None"))) == []


def test_ready_endpoints_are_believed_over_labels() -> None:
    objects = [*healthy(), service("web", selector={"app": "made-by-hand"}), slices("web", True)]
    assert causes(run(objects)) == []


def test_a_target_port_name_that_no_container_has_is_certain() -> None:
    objects = healthy()
    objects[3] = service(target="web")
    report = run(objects)
    assert causes(report) == ["Service media/sonarr: TargetPortMissing"]
    assert only(report).severity == "high"
    assert "http:8989" in told(report)
    assert list(map(str, only(report).affects)) == ["Ingress media/sonarr"]


def test_a_target_port_number_that_no_container_declares_is_a_hint() -> None:
    objects = healthy()
    objects[3] = service(target=9999)
    assert only(run(objects)).severity == "low"
    objects[2]["spec"]["containers"][0]["ports"] = []
    assert causes(run(objects)) == []


def test_an_ingress_to_a_service_that_does_not_exist() -> None:
    report = run(healthy(), ingress("web", backend="sonar"))
    assert causes(report) == ["Ingress media/web: BackendServiceMissing"]
    assert "sonarr.home.example/ -> service sonar:http" in told(report)
    assert causes(run(ingress("web", backend="sonar"), missing={"services": "forbidden"})) == []


def test_an_ingress_to_a_port_that_does_not_exist() -> None:
    report = run(healthy(), ingress("web", port={"number": 8080}))
    assert causes(report) == ["Ingress media/web: BackendPortMissing"]
    assert "http:80" in told(report)


def test_a_missing_certificate_is_only_known_when_secrets_were_listed() -> None:
    broken = ingress("web", tls=[{"hosts": ["sonarr.home.example"], "secretName": "web-tls"}])
    assert causes(run(healthy(), broken)) == []
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("other")}
    assert causes(run(healthy(), broken, other)) == ["Ingress media/web: TLSSecretMissing"]


def test_a_young_pod_does_not_make_its_service_a_problem() -> None:
    objects = stack(status(running={"startedAt": "2026-03-05T11:59:30Z"}), age=40)
    objects[0]["metadata"]["creationTimestamp"] = objects[2]["metadata"]["creationTimestamp"]
    assert causes(run(objects, service(target=8989), ingress())) == []


def ingress_class(name: str = "traefik", *, default: bool = False) -> dict[str, Any]:
    marks = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": meta(name, "", annotations=marks),
        "spec": {"controller": "traefik.io/ingress-controller"},
    }


def test_an_ingress_of_a_class_that_does_not_exist_is_told() -> None:
    lost = ingress(ingressClassName="nginx")
    report = run(healthy()[:4], lost, ingress_class())
    assert causes(report) == ["Ingress media/sonarr: IngressClassMissing"]
    assert "nginx" in only(report).title and "traefik" in told(report)
    assert only(report).severity == "high"


def test_an_ingress_that_a_controller_took_before_its_class_went_weighs_less() -> None:
    taken = {**ingress(ingressClassName="nginx"), "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}}
    assert only(run(healthy()[:4], taken, ingress_class())).severity == "medium"


def test_an_ingress_of_a_class_that_exists_is_in_order() -> None:
    assert causes(run(healthy()[:4], ingress(ingressClassName="traefik"), ingress_class())) == []


def test_nothing_is_said_of_classes_that_were_not_listed() -> None:
    assert causes(run(healthy()[:4], ingress(ingressClassName="nginx"))) == []
    missing = {"ingressclasses.networking.k8s.io": "forbidden"}
    assert causes(run(healthy()[:4], ingress(ingressClassName="nginx"), missing=missing)) == []


def test_a_cluster_without_any_class_lacks_the_one_that_is_named() -> None:
    objects = [*healthy()[:4], ingress(ingressClassName="nginx")]
    snapshot = Snapshot.from_objects(objects, listed=frozenset({"ingressclasses.networking.k8s.io"}))
    report = diagnose(snapshot, Scope(), NOW)
    assert causes(report) == ["Ingress media/sonarr: IngressClassMissing"]


def test_an_ingress_without_a_class_is_only_a_hint_and_only_without_a_default() -> None:
    assert causes(run(healthy(), ingress_class(default=True))) == []
    report = run(healthy(), ingress_class())
    assert causes(report) == ["Ingress media/sonarr: IngressClassUnset"]
    assert only(report).severity == "info"
    taken = {**ingress(), "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}}
    assert causes(run(healthy()[:4], taken, ingress_class())) == []
    old = ingress()
    old["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    assert causes(run(healthy()[:4], old, ingress_class())) == []
