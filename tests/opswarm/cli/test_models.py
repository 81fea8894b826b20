"""`opswarm models`, `opswarm costs` and the probes, against a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opswarm.cli import models
from opswarm.errors import OpswarmError, Unavailable
from opswarm.guard.keys import make_person_token
from opswarm.models.probe import Fitness
from opswarm.settings import Models, Settings
from services.model_gateway.app import create_app
from tests.services.model_gateway.gate import LITELLM_WARNS
from tests.support.hosting import free_port, serving, settings_at
from tests.support.scripted_models import Reply, Script, ollama

pytestmark = LITELLM_WARNS


@asynccontextmanager
async def running(home: Path, **given: Any) -> AsyncIterator[Settings]:
    settings = settings_at(home).updated({"models": Models(**given)})
    make_person_token(settings)
    async with serving(create_app(settings).app()) as url:
        yield settings.updated({"addresses": {"gateway": url}})


async def test_tiers_and_costs_are_shown(tmp_path: Path) -> None:
    async with running(tmp_path, ollama_api_base="http://127.0.0.1:9", fast="offline/playbook") as settings:
        found = await asyncio.to_thread(models.tiers, settings)
        spent = await asyncio.to_thread(models.costs, settings, "agent", 3)
        with pytest.raises(OpswarmError, match="by:"):
            await asyncio.to_thread(models.costs, settings, "colour", 3)
    assert found == {
        "fast": ["offline/playbook"],
        "standard": ["ollama_chat/qwen3:8b", "offline/playbook"],
        "deep": ["ollama_chat/qwen3:8b", "offline/playbook"],
    }
    assert spent["rows"] == []


def test_a_price_that_is_not_known_is_called_unknown() -> None:
    row = {"calls": 2, "failed": 0, "input_tokens": 1_000, "cached_tokens": 0, "output_tokens": 5}
    rows = [
        {"key": "a/b\x1b[31m", **row, "cost_usd": None, "unpriced_calls": 2},
        {"key": "c/d", **row, "cost_usd": 0.25, "unpriced_calls": 1},
    ]
    budgets = [{"scope": "agent_day", "name": "devops", "used": 0.5, "tokens": 1, "usd": 0.0}]
    table = models.cost_table({"by": "model", "rows": rows, "budgets": budgets}).splitlines()
    assert table[1].endswith("unknown") and "\x1b" not in table[1] and "1,000" in table[1]
    assert table[2].endswith("0.2500 + 1 calls of unknown price")
    assert table[3] == "budget agent day devops: 50% used"


async def test_each_configured_model_is_tried_once(tmp_path: Path) -> None:
    script = Script([Reply(text=("hello",))])
    async with serving(ollama(script)) as base:
        given = {"ollama_api_base": base, "fast": "ollama_chat/a", "standard": ("ollama_chat/a", "offline/playbook")}
        async with running(tmp_path, **given, deep="ollama_chat/b") as settings:
            found = [p async for p in models.probes(settings)]
    assert [(p.model, p.fitness) for p in found] == [("ollama_chat/a", Fitness.CHAT), ("ollama_chat/b", Fitness.CHAT)]
    assert "✗ picks a tool" in models.probe_lines(found[0])[1]


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    settings = settings_at(tmp_path, gateway=f"http://127.0.0.1:{free_port()}")
    make_person_token(settings)
    with pytest.raises(Unavailable, match="opswarm up"):
        models.tiers(settings)
