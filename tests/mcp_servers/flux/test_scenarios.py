"""flux_diagnose on each scenario of Flux: the truth is its first finding, and there is no second."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.github.git import Repository
from lab.scenarios import Scenario, available, choose
from lab.seed.repository import plant_repository
from mcp_servers.flux.diagnosing import diagnose
from mcp_servers.flux.fields import ref_of
from mcp_servers.flux.kinds import KINDS
from mcp_servers.flux.snapshot import Snapshot
from tests.lab.conftest import START, new_lab
from tests.mcp_servers.flux.stage import MARIA

OURS = [one for one in available() if one.tool == "flux_diagnose"]


def test_there_are_scenarios_of_every_sort_of_trouble() -> None:
    assert len(OURS) >= 6


@pytest.mark.parametrize("scenario", OURS, ids=lambda one: one.name)
@pytest.mark.parametrize("git", [False, True], ids=["standing", "following"])
def test_the_truth_is_the_first_finding(scenario: Scenario, git: bool, tmp_path: Path) -> None:
    lab, clock = new_lab(scenario.name)
    if git:  # A repository that is followed must not heal what the scenario has broken.
        plant_repository(lab.cluster, Repository(tmp_path / "home.git"), MARIA, START)
        for _ in range(60):
            clock.move(seconds=2)
            lab.tick()
    objects = [obj for kind in KINDS for obj in lab.store.all(kind.full_name)]
    findings, _ = diagnose(Snapshot({ref_of(obj): obj for obj in objects}), [], [], clock())
    assert findings, "nothing was found"
    told = [str(finding.object) for finding in findings]
    assert told == [str(choose([scenario.name])[0].truth.object)], told
    first = findings[0]
    evidence = " ".join(str(one) for one in first.evidence) + first.title
    assert any(text in evidence for text in scenario.truth.evidence_contains) or not scenario.truth.evidence_contains
