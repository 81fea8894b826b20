"""The scenarios: each is what it says and touches nothing else; without one all is healthy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.app import Lab, create_lab
from lab.logs import lines_of
from lab.objects import Obj, condition_is, name_of, namespace_of
from lab.registry import RESOURCES
from lab.scenarios import Scenario, ScenarioConflict, UnknownScenario, available
from lab.simulation.podstatus import previous_run
from lab.tables import table
from tests.lab.conftest import START, new_lab

REQUIRED = {
    "oom", "image-typo", "image-auth", "image-rate-limit", "missing-config", "exec-format", "init-failing",
    "probe-failing", "pending-resources", "pvc-pending", "node-not-ready", "service-no-endpoints",
    "ingress-no-backend", "cronjob-failing", "quota-exceeded",
}  # fmt: skip
STORED = [item for item in RESOURCES if "watch" in item.verbs and not item.shared_storage]


def lab_with(*names: str) -> Lab:
    return new_lab(*names)[0]


@pytest.fixture(scope="module")
def base() -> Lab:
    return lab_with()


@pytest.fixture(scope="module")
def healthy_text(base: Lab) -> str:
    return everything_shown(base)


def unhealthy(lab: Lab) -> set[str]:
    """What is not as it should be: pods, workloads, jobs, claims, nodes."""
    found = set()
    for pod in lab.store.all("pods"):
        phase = pod["status"]["phase"]
        job = bool(pod["metadata"]["labels"].get("batch.kubernetes.io/job-name"))
        if not condition_is(pod, "Ready") and not (phase == "Succeeded" or job):
            found.add(f"Pod {namespace_of(pod)}/{pod['metadata']['labels']['app.kubernetes.io/name']}")
    for one in lab.store.all("deployments.apps"):
        status = one["status"]
        complete = status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == one["spec"]["replicas"]
        if not complete or not all(condition_is(one, kind) for kind in ("Available", "Progressing")):
            found.add(f"Deployment {namespace_of(one)}/{name_of(one)}")
    for one in lab.store.all("statefulsets.apps"):
        if one["status"]["readyReplicas"] != one["spec"]["replicas"]:
            found.add(f"StatefulSet {namespace_of(one)}/{name_of(one)}")
    found |= {f"Job {name_of(job)}" for job in lab.store.all("jobs.batch") if not condition_is(job, "Complete")}
    for claim in lab.store.all("persistentvolumeclaims"):
        if claim["status"]["phase"] != "Bound":
            found.add(f"PersistentVolumeClaim {namespace_of(claim)}/{name_of(claim)}")
    return found | {f"Node {name_of(n)}" for n in lab.store.all("nodes") if not condition_is(n, "Ready")}


def everything_shown(lab: Lab, *apps: str) -> str:
    """All text that the API can show: objects, tables, and the logs of these apps (none named: of all)."""
    parts: list[Any] = []
    for resource in STORED:
        objects = lab.store.all(resource.storage)
        parts += objects
        parts += [row["cells"] for row in table(objects, resource, START, {})["rows"]]
    text = [value for part in parts for value in strings(part)]
    for pod in lab.cluster.kubelets.lives.values():
        if apps and pod.pod["metadata"]["labels"]["app.kubernetes.io/name"] not in apps:
            continue
        for life in pod.lives:
            for run in filter(None, (life.run, previous_run(life))):
                text += [line.text for line in lines_of(run, START)]
    return "\n".join(text)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [str(value)]


def test_the_cluster_without_a_scenario_is_healthy(base: Lab) -> None:
    assert unhealthy(base) == set()
    assert not [event for event in base.store.all("events") if event["type"] == "Warning"]
    workloads = sum(len(base.store.all(f"{kind}.apps")) for kind in ("deployments", "statefulsets", "daemonsets"))
    assert workloads >= 40


def test_the_healthy_cluster_holds_benign_noise(base: Lab) -> None:
    phases = {pod["status"]["phase"] for pod in base.store.all("pods")}
    assert phases == {"Running", "Succeeded", "Failed"}
    migrate = base.store.get("jobs.batch", "database", "schema-migrate")
    assert migrate and (migrate["status"]["failed"], migrate["status"]["succeeded"]) == (1, 1)
    assert any(cron["spec"]["suspend"] for cron in base.store.all("cronjobs.batch"))
    assert any(one["spec"]["replicas"] == 0 for one in base.store.all("deployments.apps"))
    kinds = {service["spec"]["type"] for service in base.store.all("services")}
    assert "ExternalName" in kinds
    bare = [s for s in base.store.all("services") if "selector" not in s["spec"] and s["spec"]["type"] == "ClusterIP"]
    assert all(base.store.get("endpoints", namespace_of(service), name_of(service)) for service in bare)


def test_owners_and_uids_are_consistent(base: Lab) -> None:
    known = {obj["metadata"]["uid"]: obj for resource in STORED for obj in base.store.all(resource.storage)}
    for obj in known.values():
        for owner in obj["metadata"].get("ownerReferences") or []:
            found = known[owner["uid"]]
            assert (found["kind"], name_of(found)) == (owner["kind"], owner["name"])


def test_the_fifteen_first_scenarios_are_there() -> None:
    assert {one.name for one in available()} >= REQUIRED


@pytest.mark.parametrize("scenario", available(), ids=lambda one: one.name)
def test_a_scenario_shows_its_evidence_and_harms_nothing_else(scenario: Scenario, base: Lab, healthy_text: str) -> None:
    lab = lab_with(scenario.name)
    truth = scenario.truth
    if truth.object.kind != "Alert":  # Those are Prometheus's.
        resource = next(item for item in STORED if item.kind == truth.object.kind)
        assert lab.store.get(resource.storage, truth.object.namespace, truth.object.name) is not None
    shown = everything_shown(lab, truth.object.name, "ingress-nginx")
    for text in truth.evidence_contains:
        assert text in shown, text
    if truth.evidence_contains:
        assert any(text not in healthy_text for text in truth.evidence_contains)
    if truth.reason:
        assert truth.reason in shown
    if truth.object.kind != "Node":
        app = truth.object.name
        assert {item for item in unhealthy(lab) if app not in item} == set()
    assert spec_changes(base, lab) <= {(ref.kind, ref.namespace, ref.name) for ref in scenario.touched()}


WATCHED = (
    "deployments.apps",
    "statefulsets.apps",
    "cronjobs.batch",
    "services",
    "ingresses.networking.k8s.io",
    "configmaps",
    "secrets",
    "resourcequotas",
    "storageclasses.storage.k8s.io",
)


def spec_changes(before: Lab, after: Lab) -> set[tuple[str, str, str]]:
    """Deployments, services, ingresses, nodes and the like whose spec the scenario made different."""
    changed = set()
    for storage in WATCHED:
        for obj in after.store.all(storage):
            old = before.store.get(storage, namespace_of(obj), name_of(obj))
            if old is None or _content(old) != _content(obj):
                changed.add((obj["kind"], namespace_of(obj), name_of(obj)))
    # A new workload brings its service and ingress with it.
    owners = {(namespace, name) for kind, namespace, name in changed if kind == "Deployment"}
    return {one for one in changed if one[0] not in ("Service", "Ingress") or (one[1], one[2]) not in owners}


def _content(obj: Obj) -> str:
    return json.dumps({key: value for key, value in obj.items() if key not in ("metadata", "status")}, sort_keys=True)


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(UnknownScenario, match=r"unknown scenario 'nope'; known: .*image-typo.*oom"):
        create_lab(["nope"])


def test_scenarios_that_touch_the_same_object_are_refused_together() -> None:
    with pytest.raises(ScenarioConflict, match="Node worker-2"):
        create_lab(["taint", "node-not-ready"])


def test_several_scenarios_can_be_on_at_once() -> None:
    lab = lab_with("oom", "image-typo", "service-no-endpoints")
    assert unhealthy(lab) == {
        "Pod media/sonarr", "Pod media/radarr", "Deployment media/sonarr", "Deployment media/radarr",
    }  # fmt: skip
