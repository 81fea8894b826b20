"""What calls cost, kept and added up."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from opswarm.errors import Unavailable
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.tokens import AUDIENCE_GATEWAY
from services.model_gateway.budgets import Scope, Spent
from services.model_gateway.ledger import Ledger, Row
from tests.services.model_gateway.gate import LITELLM_WARNS, asking, gateway
from tests.support.hosting import until
from tests.support.scripted_models import Reply, anthropic, ollama

pytestmark = LITELLM_WARNS


def row(**given: Any) -> Row:
    blank = Row(
        at=2e9, day="2033-05-18", agent="devops", person="person:ann", task="t1", tier="standard", model="a/b",
        input_tokens=10, output_tokens=2, cached_tokens=4, cache_written_tokens=0, estimated=False, cost_usd=0.5,
        seconds=1.0, first_token_seconds=0.1, outcome="ok",
    )  # fmt: skip
    return Row(**{**{f: getattr(blank, f) for f in blank.__slots__}, **given})


@pytest.fixture(params=["sqlite", "postgres"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    on_postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if on_postgres else f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"
    made = Ledger(url, keep_days=36_500)
    await made.open()
    yield made
    await made.close()


async def test_calls_are_added_up_by_what_is_asked_for(ledger: Ledger) -> None:
    for each in (row(), row(agent="pr", day="2033-05-19", outcome="model_busy"), row(cost_usd=None, model="c/d")):
        ledger.add(each)
    by_agent = {s.key: (s.calls, s.failed, s.input_tokens) for s in await ledger.sums("agent", "2033-05-01")}
    assert by_agent == {"devops": (2, 0, 20), "pr": (1, 1, 10)}
    by_model = {s.key: (s.cost_usd, s.unpriced) for s in await ledger.sums("model", "2033-05-01")}
    assert by_model == {"a/b": (1.0, 0), "c/d": (0.0, 1)}
    assert [s.key for s in await ledger.sums("day", "2033-05-01")] == ["2033-05-19", "2033-05-18"]
    assert [s.key for s in await ledger.sums("day", "2033-05-19")] == ["2033-05-19"]
    assert await ledger.sums("task", "2033-05-01", user="person:bob") == []


async def test_what_counts_against_budgets_is_read_back(ledger: Ledger) -> None:
    for each in (row(), row(agent="pr"), row(model="offline/playbook", input_tokens=999), row(day="2033-05-17")):
        ledger.add(each)
    await ledger.flush()
    spent = await ledger.spent("2033-05-18")
    assert spent[Scope("agent_day", "devops", "2033-05-18")] == Spent(12, 0.5)
    assert spent[Scope("swarm_day", day="2033-05-18")] == Spent(24, 1.0)


async def test_a_row_that_is_none_keeps_no_other_from_being_written(ledger: Ledger) -> None:
    for each in (row(), row(input_tokens=2**70), row()):
        ledger.add(each)
    with pytest.raises(Unavailable, match="1 rows of the ledger were lost"):
        await ledger.ping()
    assert [s.calls for s in await ledger.sums("agent", "2033-01-01")] == [2]


async def test_rows_outlive_the_process_and_are_written_without_being_asked(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"
    first = Ledger(url, keep_days=36_500)
    await first.open()
    first.add(row())
    await until(lambda: not first._waiting)
    first.add(row())
    await first.close()
    second = Ledger(url, keep_days=36_500)
    await second.open()
    assert [s.calls for s in await second.sums("agent", "2033-01-01")] == [2]
    await second.close()


async def test_rows_that_can_not_be_written_wait_and_readiness_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    broken = Ledger(f"sqlite+aiosqlite:///{path}", keep_days=36_500)
    await broken.open()
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE model_calls RENAME TO away")
    broken.add(row())
    with pytest.raises(Unavailable, match="1 rows wait"):
        await broken.ping()
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE away RENAME TO model_calls")
    await broken.ping()
    assert [s.calls for s in await broken.sums("agent", "2033-01-01")] == [1]
    await broken.close()


async def test_a_call_is_entered_with_who_and_for_whom(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("x",)), wire=anthropic) as gate:
        client = gate.as_agent("devops", "t9")
        assert [p async for p in client.stream(asking("anthropic/claude-x"))]
        for by, key in (("agent", "devops"), ("user", "person:ann"), ("task", "t9"), ("tier", "anthropic/claude-x")):
            body = (await gate.http.get(f"/v1/costs?by={by}&days=1")).json()
            assert [r["key"] for r in body["rows"]] == [key]
    found = body["rows"][0]
    assert (found["input_tokens"], found["output_tokens"], found["cached_tokens"]) == (29, 9, 8)
    assert found["cost_usd"] is None and found["unpriced_calls"] == 1, "an unknown price is not 0"


async def test_ollama_reports_what_it_read_and_wrote(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("x",)), wire=ollama) as gate:
        await gate.ask("ollama_chat/qwen3")
        body = (await gate.http.get("/v1/costs")).json()
    assert [(r["input_tokens"], r["output_tokens"]) for r in body["rows"]] == [(17, 5)]


async def test_who_may_only_look_sees_their_own_calls(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        await gate.ask("offline/playbook")
        bob = gate.key.mint(Principal(kind=Kind.PERSON, subject="person:bob"), [AUDIENCE_GATEWAY], seconds=60)
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{gate.url}/v1/costs", headers={"Authorization": f"Bearer {bob}"})
        mine = (await gate.http.get("/v1/costs")).json()
    assert answer.json()["rows"] == []
    assert [r["key"] for r in mine["rows"]] == ["offline/playbook"] and mine["rows"][0]["cost_usd"] == 0


@pytest.mark.parametrize("query", ["by=secret", "days=0", "days=-1", "days=x", "by=", "days=99999999999"])
async def test_a_bad_question_is_told(tmp_path: Path, query: str) -> None:
    async with gateway(tmp_path) as gate:
        assert (await gate.http.get(f"/v1/costs?{query}")).status_code == 400


async def test_anthropic_is_told_what_it_may_cache(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("x",)), wire=anthropic) as gate:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]
        await gate.post(model="anthropic/claude-x", messages=messages)
        sent = gate.script.requests[0]
    assert sent["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert sent["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
