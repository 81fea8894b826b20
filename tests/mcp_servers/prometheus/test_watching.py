"""Rules, alerts and targets of a Prometheus that runs, and what its Alertmanager makes of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from tests.mcp_servers.prometheus.conftest import Live
from tests.mcp_servers.prometheus.stage import Stage, staged
from tests.support.hosting import until


@pytest.fixture
async def stage(live: Live) -> AsyncIterator[Stage]:
    async with staged(live.prometheus, alertmanager=live.alertmanager, clock=time.time) as one:

        async def all_are_known() -> bool:
            targets = (await one.data("targets_list"))["items"]
            rules = (await one.data("rules_list"))["items"]
            alerts = (await one.data("alertmanager_alerts"))["items"]
            known = [t["health"] for t in targets] == ["down", "up"] and rules[0]["health"] == "err"
            return known and len(alerts) == 1 and alerts[0]["state"] == "active"

        await until(all_are_known, 30)
        yield one


async def test_what_is_down_comes_first_with_its_last_error(stage: Stage) -> None:
    answer = await stage.ask("targets_list")
    lines = answer.text.split("\n")
    assert lines[0] == "2 of 2 targets (1 down, 1 up)"
    assert lines[2].startswith("down    gone ") and "connection refused" in lines[2]
    assert answer.data is not None and answer.data["items"][1]["job"] == "prometheus"
    assert (await stage.text("targets_list", health="up")).startswith("1 of 2 targets")
    assert await stage.text("targets_list", keyword="zebra") == "0 of 2 targets (1 down, 1 up)."


async def test_rules_that_fail_come_first_with_why(stage: Stage) -> None:
    lines = (await stage.text("rules_list")).split("\n")
    assert lines[0] == "4 of 4 rules (1 failing, 1 firing)"
    assert lines[2].startswith("FAILING") and "many-to-many matching not allowed" in lines[2]
    assert lines[3].startswith("firing") and "vector(97.5)" in lines[3]
    assert lines[4].startswith("pending") and "60m" in lines[4]
    assert "broken" in await stage.text("rules_list", state="failing")
    assert "job:up:sum" in await stage.text("rules_list", kind="recording", keyword="sum")
    assert "kind" in (await stage.refused("rules_list", kind="both")).message


async def test_alerts_of_rules_are_told_with_value_and_summary(stage: Stage) -> None:
    lines = (await stage.text("alerts_list")).split("\n")
    assert lines[0] == "2 of 2 alerts"
    assert lines[2].startswith("firing   critical  DiskFull") and "97.5" in lines[2]
    assert 'namespace="media"' in lines[2] and lines[2].endswith("The disk is full")
    assert lines[3].startswith("pending  warning   Later")
    assert (await stage.text("alerts_list", state="pending")).startswith("1 of 2 alerts")


async def test_alertmanager_tells_who_is_notified(stage: Stage) -> None:
    text = await stage.text("alertmanager_alerts", filter='severity="critical"')
    assert text.startswith("1 alerts (1 active)") and "DiskFull" in text and "The disk is full" in text
    assert await stage.text("alertmanager_alerts", filter='{severity=~"war.*"}') == "No alerts."
    grouped = await stage.text("alertmanager_alerts", grouped=True)
    assert "nobody" in grouped and '{alertname="DiskFull"}' in grouped
    error = await stage.refused("alertmanager_alerts", filter="severity")
    assert "is not a matcher" in error.message


async def test_metrics_are_found_with_type_and_help(stage: Stage) -> None:
    items = (await stage.data("metrics_find", keyword="samples appended", type="counter"))["items"]
    assert "prometheus_tsdb_head_samples_appended_total" in [i["name"] for i in items]
    assert all(i["type"] == "counter" and i["help"] for i in items)
    buckets = (await stage.data("metrics_find", keyword="http_request_duration_seconds_bucket"))["items"]
    assert buckets[0]["type"] == "histogram"


async def test_labels_and_series_of_a_job(stage: Stage) -> None:
    assert (await stage.data("metrics_labels", label="job", match="up"))["items"] == ["gone", "prometheus"]
    assert "instance" in (await stage.data("metrics_labels", match="up"))["items"]
    series = await stage.data("metrics_series", match='up{job="gone"}')
    assert series["total"] == 1 and series["distinct"]["job"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "exporter"),
    [
        ("workload_usage", {"namespace": "media", "workload": "jellyfin"}, "cAdvisor"),
        ("pod_restarts", {}, "kube-state-metrics is not scraped"),
        ("node_saturation", {}, "node_exporter is not scraped"),
        ("volume_fill", {}, "the kubelet is not scraped"),
    ],
)
async def test_a_question_that_nothing_can_answer_says_what_is_not_scraped(
    stage: Stage, tool: str, arguments: dict[str, str], exporter: str
) -> None:
    error = await stage.refused(tool, **arguments)
    assert exporter.casefold() in error.message.casefold() and "targets_list" in error.hint


async def test_readiness_asks_with_our_credentials(live: Live) -> None:
    from mcp_servers.prometheus.settings import backends
    from mcp_servers.prometheus.tools import open_apis
    from opswarm.settings import Api, Prometheus

    chosen = Prometheus(url=live.prometheus, alertmanager=Api(url=live.alertmanager))
    async with open_apis(backends(chosen)) as apis:
        for check in apis.checks().values():
            await check()
