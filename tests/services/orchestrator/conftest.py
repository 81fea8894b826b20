"""Going on after an answer, watched and hurried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opswarm.actions.proposals import Proposal
from services.orchestrator import waiting
from services.orchestrator.resuming import Resuming


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every try to have a task go on, as they come; they come fast."""
    found: list[str] = []
    real = Resuming.go_on

    async def counted(self: Resuming, proposal: Proposal) -> None:
        found.append(proposal.id)
        await real(self, proposal)

    monkeypatch.setattr(Resuming, "go_on", counted)
    monkeypatch.setattr(waiting, "_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.2)
    yield found
