"""Budgets: counted while a reply streams, warned of, and ended with a typed error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import BudgetExceeded
from opswarm.models.chat import ChatRequest, Message, NoticePiece, Piece, UsagePiece
from opswarm.models.client import GatewayClient
from opswarm.settings import Budget, Budgets, Price, TaskBudget
from services.model_gateway.budgets import Meter, Scope, Spent
from services.model_gateway.prices import Tariff, tariff
from tests.services.model_gateway.gate import LITELLM_WARNS, asking, gateway, gateway_to, text
from tests.support.hosting import until
from tests.support.scripted_models import Reply

pytestmark = LITELLM_WARNS

MODEL = "anthropic/claude-x"
NONE = Budget(tokens=None, usd=None)


def budgets(**given: Budget) -> Budgets:
    return Budgets(**{"task": TaskBudget(tokens=None), **given})  # type: ignore[arg-type]


async def test_a_reply_in_flight_is_cut_when_the_budget_ends(tmp_path: Path) -> None:
    never = asyncio.Event()
    reply = Reply(text=("x" * 4_000, "y"), hold=never)
    limits = budgets(swarm_day=Budget(tokens=500, usd=None))
    async with gateway(tmp_path, reply, budgets=limits) as gate:
        pieces: list[Piece] = []
        with pytest.raises(BudgetExceeded, match="all agents together today is used up") as told:
            async for piece in gate.client.stream(asking(MODEL)):
                pieces.append(piece)
        assert "budgets.swarm_day" in str(told.value)
        costs = (await gate.http.get("/v1/costs?by=model")).json()
    assert text(pieces) == ""
    row = costs["rows"][0]
    assert row["failed"] == 1 and row["output_tokens"] >= 900, "what was streamed is counted though no usage came"
    assert costs["budgets"][0]["used"] > 1


async def test_no_new_call_begins_when_the_budget_is_used_up(tmp_path: Path) -> None:
    limits = budgets(swarm_day=Budget(tokens=20, usd=None))
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits) as gate:
        await gate.ask(MODEL)
        with pytest.raises(BudgetExceeded):
            await gate.ask(MODEL)
        assert len(gate.script.requests) == 1
        answer = await gate.post(model=MODEL)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert answer.json()["error"]["code"] == "budget_exceeded"


async def test_the_playbook_costs_nothing_and_works_when_the_budget_is_used_up(tmp_path: Path) -> None:
    async with gateway(tmp_path, budgets=budgets(swarm_day=Budget(tokens=0, usd=None))) as gate:
        assert "offline playbook" in text(await gate.ask("offline/playbook"))


async def test_a_budget_that_is_used_up_is_not_dodged_by_the_next_model_of_the_chain(tmp_path: Path) -> None:
    limits = budgets(swarm_day=Budget(tokens=0, usd=None))
    async with gateway(tmp_path, Reply(text=("x",)), standard=(MODEL, "ollama_chat/qwen3"), budgets=limits) as gate:
        with pytest.raises(BudgetExceeded):
            await gate.ask("standard")
        assert gate.script.requests == []


async def test_a_prompt_that_is_larger_than_what_is_left_is_not_sent(tmp_path: Path) -> None:
    limits = budgets(task=TaskBudget(tokens=1_000, usd=None))
    async with gateway(tmp_path, Reply(text=("x",)), budgets=limits) as gate:
        with pytest.raises(BudgetExceeded, match="too little left"):
            await _all(gate.as_agent("devops", "t1"), "y" * 100_000)
        assert gate.script.requests == []


@pytest.mark.parametrize("kind", ["arguments", "reasoning"])
async def test_what_is_not_shown_is_counted_while_it_streams(tmp_path: Path, kind: str) -> None:
    sent: list[int] = []

    async def completions(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            for number in range(1_000):
                sent.append(number)
                call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "z" * 100}}
                delta = {"tool_calls": [call]} if kind == "arguments" else {"reasoning_content": "z" * 100}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                         "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}  # fmt: skip
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
                await asyncio.sleep(0.001)

        return StreamingResponse(events(), media_type="text/event-stream")

    provider = Starlette(routes=[Route("/{path:path}", completions, methods=["POST"])])
    limits = budgets(swarm_day=Budget(tokens=1_000, usd=None))
    async with gateway_to(tmp_path, provider, budgets=limits) as gate:
        with pytest.raises(BudgetExceeded, match="used up"):
            await gate.ask("openai/m")
    assert len(sent) < 500, "the provider was cut off long before its end"


async def test_near_the_end_of_a_budget_a_warning_is_given_once(tmp_path: Path) -> None:
    limits = budgets(swarm_day=Budget(tokens=40, usd=None))
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits) as gate:
        pieces = await gate.ask(MODEL)
    told = [p for p in pieces if isinstance(p, NoticePiece)]
    assert [p.code for p in told] == ["budget_warning"] and "all agents together" in told[0].text


async def test_each_task_has_a_budget_of_its_own(tmp_path: Path) -> None:
    limits = budgets(task=TaskBudget(tokens=20, usd=None))
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits) as gate:
        first, second = gate.as_agent("devops", "t1"), gate.as_agent("devops", "t2")
        await _all(first)
        with pytest.raises(BudgetExceeded, match="this task"):
            await _all(first)
        await _all(second)


async def test_what_was_spent_today_counts_after_a_restart(tmp_path: Path) -> None:
    limits = budgets(agent_day=Budget(tokens=20, usd=None))
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits) as gate:
        await _all(gate.as_agent("devops", "t1"))
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits) as gate:
        with pytest.raises(BudgetExceeded, match="the agent devops today"):
            await _all(gate.as_agent("devops", "t2"))
        await _all(gate.as_agent("pr", "t3"))


async def test_money_is_counted_where_a_price_is_known(tmp_path: Path) -> None:
    limits = budgets(swarm_day=Budget(tokens=None, usd=0.004))
    prices = {MODEL: Price(input=100.0, output=100.0)}
    async with gateway(tmp_path, Reply(text=("hello",)), budgets=limits, prices=prices) as gate:
        await gate.ask(MODEL)
        with pytest.raises(BudgetExceeded, match=r"0\.004 USD"):
            await gate.ask(MODEL)


async def _all(client: GatewayClient, text: str = "what is broken?") -> list[Piece]:
    return [p async for p in client.stream(ChatRequest((Message("user", text),), model=MODEL))]


def meter(limits: Budgets, now: list[float]) -> Meter:
    return Meter(lambda: limits, clock=lambda: now[0])


def test_a_day_begins_at_midnight_of_its_time_zone() -> None:
    limits = Budgets(swarm_day=Budget(tokens=10, usd=None), time_zone="Europe/Berlin")
    now = [datetime(2026, 3, 29, 23, 59, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()]
    counts = meter(limits, now)
    assert counts.day() == "2026-03-29" and datetime.fromtimestamp(now[0], UTC).day == 29
    counts.begin("a", "t", 10, None)
    with pytest.raises(BudgetExceeded, match=r"used up.*midnight, Europe/Berlin"):
        counts.begin("a", "u", 1, None)
    now[0] += 60
    counts.begin("a", "u", 1, None)


def test_calls_in_flight_count_together() -> None:
    counts = meter(Budgets(swarm_day=Budget(tokens=1_000, usd=None)), [0.0])
    running = [counts.begin(f"a{i}", f"t{i}", 10, None) for i in range(4)]
    for call in running[:3]:
        call.wrote(1_000)
    with pytest.raises(BudgetExceeded):
        for call in running:
            call.wrote(1_000)


@given(
    read=st.integers(0, 10**6),
    pieces=st.lists(st.integers(0, 10**5), max_size=20),
    told=st.none() | st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_however_a_call_streams_in_the_end_its_usage_is_what_counts(
    read: int, pieces: list[int], told: tuple[int, int] | None
) -> None:
    counts = meter(budgets(), [0.0])
    rate = Tariff(0.5, 2.0, 0.1, 0.6)
    call = counts.begin("a", "t", read, rate)
    for size in pieces:
        call.wrote(size)
    usage = UsagePiece("m", *told) if told else call.estimate("m")
    call.settle(usage)
    spent = counts._tasks[Scope("task", "t")]
    assert spent.tokens == usage.input_tokens + usage.output_tokens
    assert spent.usd == pytest.approx(rate.of(usage), abs=1e-3)


def test_a_price_that_nobody_knows_is_none_and_cached_tokens_are_cheaper() -> None:
    assert tariff("made/up", {}) is None
    assert tariff("offline/playbook", {}) == Tariff(0, 0, 0, 0)
    own = tariff("made/up", {"made/up": Price(input=1.0, output=2.0)})
    assert own is not None and own.of(UsagePiece("", 1_000_000, 1_000_000)) == pytest.approx(3.0)
    assert Tariff(1.0, 0.0, 0.1, 1.25).of(UsagePiece("", 10, 0, 6, 3)) == pytest.approx(1 + 0.6 + 3.75)


def test_prices_come_from_litellms_map_under_every_name_it_has() -> None:
    import litellm

    for model in ("anthropic/claude-sonnet-4-5", "vertex_ai/gemini-2.5-pro", "openai/gpt-4o", "gemini/gemini-2.5-pro"):
        found = tariff(model, {})
        key = litellm.get_model_info(model=model)["key"]
        assert found is not None and found.read == litellm.model_cost[key]["input_cost_per_token"], model
    long = tariff("gemini/gemini-2.5-pro", {})
    assert long is not None and long.of(UsagePiece("", 300_000)) > 300_000 * long.read
    assert tariff("ollama_chat/never-heard-of", {}) is None
    assert tariff("openai/never-heard-of", {}) is None


def test_a_share_is_of_the_limit_that_is_nearer() -> None:
    assert Spent(50, 0.9).share(Budget(tokens=100, usd=1.0)) == pytest.approx(0.9)
    assert Spent(50, 0.9).share(NONE) == 0
    assert Spent(0, 0).share(Budget(tokens=0, usd=None)) == 1


def test_text_is_not_counted_twice() -> None:
    counts = meter(budgets(), [0.0])
    call = counts.begin("", "", 0, None)
    for _ in range(10):
        call.wrote(1)
    assert counts._days[Scope("swarm_day", day=counts.day())].tokens == 2


async def test_a_call_that_is_given_up_before_its_first_word_is_counted(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def completions(request: Request) -> Response:
        asked.set()
        await asyncio.sleep(30)
        return Response()

    provider = Starlette(routes=[Route("/{path:path}", completions, methods=["POST"])])
    async with gateway_to(tmp_path, provider, budgets=budgets(swarm_day=Budget(tokens=10_000, usd=None))) as gate:
        asking_ = asyncio.create_task(_all(gate.as_agent("devops", "t1"), "y" * 8_000))
        await asyncio.wait_for(asked.wait(), 60)
        asking_.cancel()
        await asyncio.wait([asking_])

        async def counted() -> bool:
            rows = (await gate.http.get("/v1/costs")).json()["rows"]
            return bool(rows) and rows[0]["input_tokens"] > 1_900

        await until(counted)


def test_a_used_up_day_is_not_forgotten_for_many_tasks() -> None:
    counts = meter(budgets(agent_day=Budget(tokens=10, usd=None)), [0.0])
    counts.load({Scope("agent_day", "a", counts.day()): Spent(10, 0.0)})
    counts.load({Scope("task", str(n)): Spent(1, 0.0) for n in range(20_000)})
    with pytest.raises(BudgetExceeded):
        counts.begin("a", "t", 1, None)


def test_a_task_keeps_its_limit_in_tokens_when_only_its_money_is_set() -> None:
    assert Budgets.model_validate({"task": {"usd": 2}}).task.tokens == 1_000_000


async def test_a_provider_that_says_it_wrote_nothing_is_not_believed(tmp_path: Path) -> None:
    async def completions(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            for delta, finish in (({"content": "z" * 4_000}, None), ({}, "stop")):
                body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}  # fmt: skip
                yield b"data: " + json.dumps(body).encode() + b"\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    provider = Starlette(routes=[Route("/{path:path}", completions, methods=["POST"])])
    async with gateway_to(tmp_path, provider) as gate:
        await gate.ask("openai/m")
        rows = (await gate.http.get("/v1/costs")).json()["rows"]
    assert rows[0]["output_tokens"] >= 1_000
