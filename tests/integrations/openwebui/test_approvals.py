"""What waits for the person in the chat: a dialog in their browser, or the exact words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opswarm.guard import keys
from opswarm.guard.principal import Role
from tests.integrations.openwebui.program import Program, content
from tests.services.orchestrator.house import Swarm, swarm


@asynccontextmanager
async def chat(home: Path, *, role: Role = Role.OPERATOR) -> AsyncIterator[tuple[Swarm, Program]]:
    async with swarm(home) as at:
        token = keys.mint_front(at.settings, "openwebui", roles=(role,))
        yield at, Program(at.settings.address("orchestrator"), token)


async def test_a_yes_in_the_dialog_does_it_and_the_answer_goes_on(tmp_path: Path) -> None:
    shown: list[Any] = []

    async def dialog(event: dict[str, Any]) -> Any:
        shown.append(event)
        return True

    async with chat(tmp_path) as (at, program):
        chunks = await program.chunks("switch the lamp in the hall", agent="devops", __event_call__=dialog)
        told = (await at.call("GET", "/audit/lamps")).json()["entries"]
    (event,) = shown
    assert event["type"] == "confirmation" and "Switch hall on." in event["data"]["message"]
    assert "hall: off -> on" in event["data"]["message"]
    assert at.lamps.effects == 1 and "It is lit" in content(chunks)
    assert told[1]["event"]["caller"].startswith("service:openwebui for openwebui:")


async def test_a_no_in_the_dialog_is_a_no(tmp_path: Path) -> None:
    async def dialog(event: dict[str, Any]) -> Any:
        return False

    async with chat(tmp_path) as (at, program):
        chunks = await program.chunks("switch the lamp in the hall", agent="devops", __event_call__=dialog)
        left = (await at.call("GET", "/approvals")).json()["approvals"]
    assert at.lamps.effects == 0 and left == [] and "said no" in content(chunks)


@pytest.mark.parametrize("answer", [{"error": "no session"}, "true", 1, None, "no browser"])
async def test_where_nobody_answers_the_words_are_told_and_they_work(tmp_path: Path, answer: Any) -> None:
    async def dialog(event: dict[str, Any]) -> Any:
        return answer

    ask = None if answer == "no browser" else dialog
    async with chat(tmp_path) as (at, program):
        chunks = await program.chunks("switch the lamp in the hall", agent="devops", __event_call__=ask)
        (waiting,) = (await at.call("GET", "/approvals")).json()["approvals"]
        words = f"approve {waiting['id']}"
        assert f"`{words}`" in content(chunks) and at.lamps.effects == 0
        more = await program.chunks(words, agent="devops")
    assert at.lamps.effects == 1 and "approved: Switch hall on." in content(more)


async def test_a_front_for_viewers_approves_nothing(tmp_path: Path) -> None:
    async def dialog(event: dict[str, Any]) -> Any:
        return True

    async with chat(tmp_path, role=Role.VIEWER) as (at, program):
        chunks = await program.chunks("switch the lamp in the hall", agent="devops", __event_call__=dialog)
    assert at.lamps.effects == 0 and not [c for c in chunks if "It is lit" in str(c)]
