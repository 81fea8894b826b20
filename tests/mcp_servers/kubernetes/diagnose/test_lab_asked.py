"""Scenarios that are found when their kind is asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lab.app import create_lab
from lab.scenarios import Scenario, available
from mcp_servers.cluster.report import Scope, render
from mcp_servers.kubernetes.diagnose.collect import add_logs, collect
from mcp_servers.kubernetes.diagnose.engine import diagnose
from tests.mcp_servers.kubernetes.diagnose.test_lab_scenarios import LabReader

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ASKED = [one for one in available() if one.tool == "diagnose" and one.arguments]


@pytest.mark.parametrize("scenario", ASKED, ids=lambda one: one.name)
async def test_the_truth_is_the_first_finding_with_what_its_controller_says(scenario: Scenario) -> None:
    reader = LabReader(create_lab([scenario.name], now=lambda: NOW, tick_seconds=0))
    scope = Scope("", scenario.arguments["kind"], "")
    resource = f"{scenario.truth.object.kind.lower()}s.cert-manager.io"
    report = await add_logs(reader, diagnose(await collect(reader, scope, resource), scope, NOW))
    told = render(report)
    assert str(report.findings[0].object) == str(scenario.truth.object), told
    assert all(text in told for text in scenario.truth.evidence_contains), told
