from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.mcp_servers.prometheus import servers
from tests.mcp_servers.prometheus.stage import Stage, staged
from tests.support.hosting import free_port

RULES = """
groups:
  - name: home
    interval: 1s
    rules:
      - {record: "job:up:sum", expr: "sum by (job) (up)"}
      - alert: DiskFull
        expr: vector(97.5)
        labels: {severity: critical, namespace: media}
        annotations: {summary: "The disk is full"}
      - alert: Later
        expr: vector(1)
        for: 1h
        labels: {severity: warning}
      - {record: broken, expr: 'label_replace(up, "instance", "", "", "") * on() up'}
"""
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
scrape_configs:
  - {{job_name: prometheus, static_configs: [{{targets: ["{own}"]}}], metrics_path: /prom/metrics}}
  - {{job_name: gone, static_configs: [{{targets: ["127.0.0.1:{closed}"]}}]}}
"""


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds three hours of history and scrapes nothing."""
    servers.need_them()
    with servers.prometheus(tmp_path_factory.mktemp("filled") / "prometheus", filled=True) as url:
        yield url


@dataclass(frozen=True)
class Live:
    prometheus: str
    alertmanager: str


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A Prometheus under the prefix /prom that scrapes itself and alerts, and the Alertmanager that it alerts."""
    servers.need_them()
    home = tmp_path_factory.mktemp("live")
    with servers.alertmanager(home / "alertmanager") as alertmanager:
        port = free_port()
        address = alertmanager.removeprefix("http://")
        config = CONFIG.format(alertmanager=address, own=f"127.0.0.1:{port}", closed=free_port())
        with servers.prometheus(home / "prometheus", config, rules=RULES, prefix="/prom", port=port) as url:
            yield Live(url, alertmanager)


@pytest.fixture
async def history(filled: str) -> AsyncIterator[Stage]:
    """The tools over `filled`, at the time when the history ends."""
    async with staged(filled) as stage:
        yield stage


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Alertmanager that nobody alerts but the tests."""
    servers.need_them()
    with servers.alertmanager(tmp_path_factory.mktemp("silent") / "alertmanager") as url:
        yield url
