"""A person calls a tool themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opswarm.cli import direct
from opswarm.cli.arguments import arguments
from opswarm.errors import InvalidInput, OpswarmError
from opswarm.guard.keys import make_person_token
from tests.services.orchestrator.house import Swarm, swarm


@asynccontextmanager
async def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Swarm]:
    monkeypatch.setattr(direct.registry, "names", lambda group: ["lamps"])
    async with swarm(home) as at:
        make_person_token(at.settings)
        yield at


async def test_a_tool_is_called_and_what_it_says_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path, monkeypatch) as at:
        read = await direct.called(at.settings, "lamps_list", [], False)
        dry = await direct.called(at.settings, "lamp_switch", ["name=hall"], True)
        before = at.lamps.effects
        done = await direct.called(at.settings, "lamp_switch", ["name=hall", "on=true"], False)
    assert "hall off" in read.text and "Would do" in dry.text and before == 0
    assert done.ok and at.lamps.effects == 1


@pytest.mark.parametrize(("answer", "effects"), [(True, 1), (False, 0)])
async def test_what_needs_an_approval_is_asked_about_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, effects: int
) -> None:
    asked: list[str] = []

    def confirm(text: str, **how: object) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr(direct.typer, "confirm", confirm)
    monkeypatch.setattr(direct.sys.stdin, "isatty", lambda: True, raising=False)
    async with place(tmp_path, monkeypatch) as at:
        monkeypatch.setattr(direct.running, "base_url", lambda settings: at.settings.address("orchestrator"))
        result = await direct.called(at.settings, "lamp_switch", ["name=hall", "on=false"], False)
    assert "Switch hall off." in asked[0] and "hall: off -> off" in asked[0]
    assert at.lamps.effects == effects and result.ok is answer


async def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path, monkeypatch) as at:
        for tool, words, dry, told in (
            ("lamp_swich", [], False, "Did you mean 'lamp_switch'"), ("lamp_switch", ["nam=hall"], False, "'name'"),
            ("lamp_switch", ["hall"], False, "KEY=VALUE"), ("lamps_list", [], True, "only reads"),
        ):  # fmt: skip
            with pytest.raises(InvalidInput, match=told):
                await direct.called(at.settings, tool, words, dry)
        await at.stop("lamps")
        with pytest.raises(OpswarmError, match="can't be reached"):
            await asyncio.wait_for(direct.called(at.settings, "lamps_list", [], False), 20)


def test_what_is_wanted_as_text_stays_text() -> None:
    known = {"version": {"type": "string"}, "limit": {"type": "integer"}, "names": {"type": "array"}, "on": {}}
    typed = arguments(["version=1.10", "limit=5", 'names=["a"]', "on=true"], known)
    assert typed == {"version": "1.10", "limit": 5, "names": ["a"], "on": True}
    assert arguments(['version="1.10"'], known) == {"version": "1.10"} and arguments(["x=1"], None) == {"x": 1}
    with pytest.raises(InvalidInput, match="Did you mean 'limit'"):
        arguments(["limt=5"], known)
