"""The lab's Prometheus: what is exported, the rules, and the real programs over it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lab.beside import Beside
from lab.observing import programs
from lab.observing.exporter import Exporter
from tests.lab.conftest import new_lab
from tests.support.hosting import until

INSTALL = "no prometheus, prometheus-alertmanager here: apt-get install prometheus prometheus-alertmanager"


def exported(exporter: Exporter) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = CollectorRegistry()
    registry.register(exporter)
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: dict[Any, float], name: str, **labels: str) -> list[float]:
    return [
        value for (metric, pairs), value in found.items() if metric == name and labels.items() <= dict(pairs).items()
    ]


def test_it_tells_what_the_cluster_is_like() -> None:
    lab, clock = new_lab("oom", "disk-full")
    found = exported(Exporter(lab.cluster, clock))
    (restarts,) = of(
        found, "kube_pod_container_status_restarts_total", namespace="media", container="app", pod=pod_of(lab, "sonarr")
    )
    assert restarts > 3
    assert of(
        found, "kube_pod_container_status_waiting_reason", pod=pod_of(lab, "sonarr"), reason="CrashLoopBackOff"
    ) == [1.0]
    (full,) = of(found, "kubelet_volume_stats_available_bytes", persistentvolumeclaim="sabnzbd")
    (size,) = of(found, "kubelet_volume_stats_capacity_bytes", persistentvolumeclaim="sabnzbd")
    assert full / size < 0.01
    (limit,) = of(found, "kube_pod_container_resource_limits", pod=pod_of(lab, "jellyfin"), resource="memory")
    (used,) = of(found, "container_memory_working_set_bytes", pod=pod_of(lab, "jellyfin"))
    assert 0 < used < limit
    assert of(found, "kube_node_status_condition", node="worker-1", condition="Ready", status="true") == [1.0]
    assert len(of(found, "node_uname_info")) == 3
    assert all(value >= 0 for value in found.values())


def pod_of(lab: Any, app: str) -> str:
    return next(
        p["metadata"]["name"] for p in lab.store.all("pods", "media") if p["metadata"]["name"].startswith(f"{app}-")
    )


def test_counters_only_rise_and_as_fast_as_a_machine_can() -> None:
    lab, clock = new_lab()
    exporter = Exporter(lab.cluster, clock)
    before = exported(exporter)
    for _ in range(30):
        clock.move(seconds=10)
        lab.tick()
        after = exported(exporter)
        for key, value in before.items():
            if key[0].endswith("_total") and key in after:
                assert after[key] >= value, key
                if key[0] == "node_cpu_seconds_total":
                    assert after[key] - value <= 10.001, key
        before = after


def test_a_node_that_is_down_is_told_by_the_cluster_and_not_by_itself() -> None:
    lab, clock = new_lab("node-not-ready")
    found = exported(Exporter(lab.cluster, clock))
    gone = lab.scenarios[0].truth.object.name
    assert of(found, "kube_node_status_condition", node=gone, condition="Ready", status="true") == [0.0]
    assert of(found, "node_uname_info", nodename=gone) == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason=INSTALL)
def test_prometheus_takes_the_rules() -> None:
    path = str(files("lab.observing").joinpath("rules.yml"))
    told = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.skipif(bool(programs.missing()), reason=INSTALL)
async def test_the_real_programs_run_over_it_and_end_with_it() -> None:
    lab, _ = new_lab("disk-full")
    async with Beside(lab, ("prometheus",)) as around, httpx.AsyncClient(timeout=10, trust_env=False) as http:
        assert around.missing == []
        url, alerts = around.settings["prometheus"]["url"], around.settings["prometheus"]["alertmanager"]["url"]

        async def told() -> bool:
            asked = {"query": 'kubelet_volume_stats_available_bytes{persistentvolumeclaim="sabnzbd"}'}
            return bool((await http.get(f"{url}/api/v1/query", params=asked)).json()["data"]["result"])

        async def alarmed() -> bool:
            names = {one["labels"]["alertname"] for one in (await http.get(f"{alerts}/api/v2/alerts")).json()}
            return {"Watchdog", "KubePersistentVolumeFillingUp"} <= names

        await until(told)
        await until(alarmed)
    for one in (url, alerts):
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                await http.get(f"{one}/-/ready")


async def test_without_the_programs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.observing.programs.shutil.which", lambda name: None)
    lab, _ = new_lab()
    async with Beside(lab, ("prometheus",)) as around:
        assert around.settings == {}
        assert around.missing == ["The lab has no Prometheus: prometheus and prometheus-alertmanager not installed."]


def test_alertmanager_is_known_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"prometheus", "alertmanager"}
    monkeypatch.setattr("lab.observing.programs.shutil.which", lambda name: name if name in there else None)
    assert programs.missing() == []
    there.remove("prometheus")
    assert programs.missing() == ["prometheus"]


@pytest.mark.skipif(bool(programs.missing()), reason=INSTALL)
async def test_one_that_does_not_start_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.beside.files", lambda package: Broken())
    lab, _ = new_lab()
    async with Beside(lab, ("prometheus",)) as around:
        (told,) = around.missing
        assert told.startswith("prometheus did not start in the lab: ") and around.settings == {}
    await asyncio.sleep(0)


class Broken:
    """Rules that no Prometheus takes."""

    def joinpath(self, name: str) -> Broken:
        return self

    def read_text(self, encoding: str) -> str:
        return "groups: [{}]\n"
