"""Fallback, retries, the circuit breaker and the queue, with LiteLLM and real wires."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opswarm.errors import ModelBusy, ModelKeyRejected, ModelUnreachable
from opswarm.models.chat import ChatRequest, Message, NoticePiece, Piece, StopPiece
from services.model_gateway.breaker import Breaker
from services.model_gateway.places import Places, Ticket
from tests.services.model_gateway.gate import LITELLM_WARNS, gateway, text
from tests.support.hosting import until
from tests.support.scripted_models import Reply, ollama

pytestmark = LITELLM_WARNS

CHAIN = ("anthropic/claude-x", "offline/playbook")


def notices(pieces: list[Piece]) -> list[str]:
    return [p.code for p in pieces if isinstance(p, NoticePiece)]


async def test_the_next_model_of_the_tier_answers_and_the_reason_is_told(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401), standard=CHAIN) as gate:
        pieces = await gate.ask("standard")
        costs = (await gate.http.get("/v1/costs?by=model")).json()
    assert notices(pieces) == ["fallback"] and "offline playbook" in text(pieces)
    told = next(p for p in pieces if isinstance(p, NoticePiece))
    assert "does not accept the key" in told.text and "offline/playbook answers instead" in told.text
    assert pieces[-1] == StopPiece("stop", "offline/playbook")
    assert {r["key"]: r["failed"] for r in costs["rows"]} == {"anthropic/claude-x": 1, "offline/playbook": 0}


async def test_a_whole_reply_names_the_model_that_gave_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401), standard=CHAIN) as gate:
        body = (await gate.post(model="standard")).json()
    assert body["model"] == "offline/playbook"
    assert [n["code"] for n in body["opswarm"]["notices"]] == ["fallback"]


async def test_when_none_answers_the_first_failure_is_told_with_the_others(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401), standard=("anthropic/claude-x", "anthropic/claude-y")) as gate:
        with pytest.raises(ModelKeyRejected) as told:
            await gate.ask("standard")
    assert "claude-x" in str(told.value) and "Also tried: anthropic/claude-y" in str(told.value)


async def test_a_model_asked_for_by_name_has_no_fallback(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401), standard=CHAIN) as gate:
        with pytest.raises(ModelKeyRejected):
            await gate.ask("anthropic/claude-x")


async def test_a_busy_provider_is_asked_again_when_it_says(tmp_path: Path) -> None:
    busy = Reply(status=429, headers={"retry-after": "0"})
    async with gateway(tmp_path, busy, busy, Reply(text=("here",))) as gate:
        pieces = await gate.ask("anthropic/claude-x")
    assert notices(pieces) == ["retry", "retry"] and text(pieces) == "here"


async def test_who_asks_for_too_long_a_wait_is_passed_over(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=429, headers={"retry-after": "3600"}), standard=CHAIN) as gate:
        pieces = await gate.ask("standard")
        assert len(gate.script.requests) == 1
    assert notices(pieces) == ["fallback"]


async def test_a_refused_key_is_not_tried_again(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401)) as gate:
        with pytest.raises(ModelKeyRejected):
            await gate.ask("anthropic/claude-x")
        assert len(gate.script.requests) == 1


async def test_a_provider_that_keeps_failing_is_left_alone(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=503), retries=0, breaker_failures=2) as gate:
        for _ in range(2):
            with pytest.raises(ModelUnreachable):
                await gate.ask("anthropic/claude-x")
        with pytest.raises(ModelUnreachable, match="left alone"):
            await gate.ask("anthropic/claude-y")
        assert len(gate.script.requests) == 2


def test_after_a_while_one_call_tries_and_its_end_decides() -> None:
    now = [0.0]
    breaker = Breaker("x", clock=lambda: now[0])
    for _ in range(3):
        breaker.enter(30)
        breaker.failed(3)
    with pytest.raises(ModelUnreachable, match="3 times"):
        breaker.enter(30)
    now[0] = 31
    breaker.enter(30)
    with pytest.raises(ModelUnreachable):
        breaker.enter(30)
    breaker.failed(3)
    now[0] = 60
    with pytest.raises(ModelUnreachable):
        breaker.enter(30)
    now[0] = 62
    breaker.enter(30)
    breaker.succeeded()
    breaker.enter(30)
    assert not breaker.is_open


def test_a_call_whose_client_left_says_nothing_about_the_provider() -> None:
    now = [0.0]
    breaker = Breaker("x", clock=lambda: now[0])
    breaker.failed(2)
    breaker.left()
    breaker.failed(2)
    assert breaker.is_open
    now[0] = 31
    breaker.enter(30)
    breaker.left()
    breaker.enter(30)  # The trial that told nothing did not use the chance up.


async def test_ollama_is_asked_one_after_the_other_and_who_waits_is_told(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with gateway(tmp_path, Reply(text=("a", "b"), hold=hold), wire=ollama) as gate:
        first = asyncio.create_task(gate.ask("ollama_chat/qwen3"))
        await until(lambda: len(gate.script.requests) == 1, 60)
        second = gate.client.stream(ChatRequest((Message("user", "and?"),), model="ollama_chat/qwen3"))
        told = await anext(second)
        assert isinstance(told, NoticePiece) and told.code == "queued" and "ollama" in told.text
        assert len(gate.script.requests) == 1
        hold.set()
        rest = [p async for p in second]
        assert text(await first) == "ab" and text(rest) == "ab"


async def test_who_waits_too_long_or_finds_too_many_waiting_is_refused() -> None:
    places = Places("ollama")
    places.join("a", 1, 1)
    waits = places.join("b", 1, 1)
    with pytest.raises(ModelBusy, match="wait for ollama already"):
        places.join("c", 1, 1)
    with pytest.raises(ModelBusy, match="no place"):
        assert [before async for before in waits.waiting(0.05)] == [0]
    waits.leave()
    assert len(places) == 0


def test_nobody_fills_the_queue_alone() -> None:
    places = Places("x")
    for _ in range(1 + 5):
        places.join("bulk", 1, 10)
    with pytest.raises(ModelBusy):
        places.join("bulk", 1, 10)
    places.join("one", 1, 10)


async def test_a_place_that_comes_nearer_while_one_looks_away_is_told() -> None:
    places = Places("x")
    running, first, second = (places.join(c, 1, 10) for c in "abc")
    waiting = second.waiting(5)
    assert await anext(waiting) == 1
    running.leave()
    assert await anext(waiting) == 0
    first.leave()
    assert [n async for n in waiting] == []


async def test_a_caller_that_leaves_gives_its_place_up(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with gateway(tmp_path, Reply(text=("a", "b"), hold=hold), Reply(text=("c",)), wire=ollama) as gate:
        first = asyncio.create_task(gate.ask("ollama_chat/qwen3"))
        await until(lambda: len(gate.script.requests) == 1, 60)
        first.cancel()
        assert text(await gate.ask("ollama_chat/qwen3")) == "c"


def _asked(places: Places, *callers: str) -> list[Ticket]:
    return [places.join(c, 1, 100) for c in callers]


def test_callers_take_turns() -> None:
    places = Places("x")
    running, *waiting = _asked(places, "bulk", "bulk", "bulk", "bulk", "one")
    assert [places.before(t) for t in waiting] == [0, 2, 3, 1]
    served: list[str] = []
    at_work = running
    for _ in range(4):
        at_work.leave()
        at_work = next(t for t in waiting if t.held)
        served.append(at_work.caller)
    assert served == ["bulk", "one", "bulk", "bulk"]


def test_a_place_that_is_left_twice_is_given_back_once() -> None:
    places = Places("x")
    first, second, third = _asked(places, "a", "b", "c")
    first.leave()
    first.leave()
    assert second.held and not third.held and places.taken == 1
    third.leave()
    assert len(places) == 0


