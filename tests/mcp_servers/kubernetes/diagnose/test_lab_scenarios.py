"""Every scenario of the lab, through the whole of diagnose: the truth must come first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from mcp_servers.cluster.report import Report, Scope, render
from mcp_servers.kubernetes.diagnose.collect import add_logs, collect
from mcp_servers.kubernetes.diagnose.engine import diagnose
from opswarm.errors import InvalidInput

lab_app = pytest.importorskip("lab.app")
lab_scenarios = pytest.importorskip("lab.scenarios")

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)


class LabReader:
    """Lists from the lab's store, and reads logs over its API."""

    def __init__(self, lab: Any) -> None:
        self._lab = lab

    async def list_all(self, resource: str, namespace: str = "") -> list[Mapping[str, Any]]:
        return list(self._lab.store.all(resource, namespace))

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool, tail: int) -> str:
        transport = httpx.ASGITransport(self._lab.app)
        query = {"container": container, "previous": str(previous).lower(), "tailLines": str(tail)}
        async with httpx.AsyncClient(transport=transport, base_url="https://lab") as client:
            answer = await client.get(
                f"/api/v1/namespaces/{namespace}/pods/{pod}/log",
                params=query,
                headers={"Authorization": f"Bearer {self._lab.token}"},
            )
        if answer.status_code != 200:
            raise InvalidInput(answer.text[:200])
        return answer.text


_REPORTS: dict[tuple[str, ...], Report] = {}


async def diagnosed(*names: str) -> Report:
    """The report on a lab with these scenarios. A lab takes a while to build, so each is built once."""
    if names not in _REPORTS:
        _REPORTS[names] = await _diagnosed(*names)
    return _REPORTS[names]


async def _diagnosed(*names: str) -> Report:
    lab = lab_app.create_lab(names, now=lambda: NOW, tick_seconds=0)
    reader = LabReader(lab)
    snapshot = await collect(reader, Scope())
    return await add_logs(reader, diagnose(snapshot, Scope(), NOW))


async def test_the_healthy_lab_has_no_problem() -> None:
    report = await diagnosed()
    assert render(report).startswith("No problems found (checked ")
    assert report.findings == ()


PLAIN = [one.name for one in lab_scenarios.available() if one.is_plain]


@pytest.mark.parametrize("name", PLAIN)
async def test_the_truth_of_a_scenario_is_the_top_finding(name: str) -> None:
    truth = lab_scenarios.choose([name])[0].truth
    report = await diagnosed(name)
    if truth.healthy:
        assert not report.findings, render(report)
        return
    assert report.findings, "nothing was found"
    assert str(report.findings[0].object) == str(truth.object), render(report)
    assert len(report.findings) <= 2, render(report)


@pytest.mark.parametrize("name", ["app-crash", "exec-format", "init-failing"])
async def test_the_log_of_a_crashing_container_tells_why(name: str) -> None:
    truth = lab_scenarios.choose([name])[0].truth
    told = render(await diagnosed(name))
    assert "log" in told
    assert any(text in told for text in truth.evidence_contains), told


async def test_scenarios_at_once_are_told_apart() -> None:
    names = ["oom", "image-typo", "service-no-endpoints", "pvc-pending", "quota-exceeded"]
    report = await diagnosed(*names)
    expected = {str(one.truth.object) for one in lab_scenarios.choose(names)}
    assert expected == {str(finding.object) for finding in report.findings}, render(report)
