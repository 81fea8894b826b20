"""Processes that are killed between an answer and what comes of it, and more than one of the orchestrator."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.services.orchestrator.house import ended, swarm
from tests.support.hosting import free_port, until
from tests.support.lamps import Lamps


async def test_an_orchestrator_that_is_killed_after_it_took_an_answer_has_the_task_go_on_later(tmp_path: Path) -> None:
    async with swarm(tmp_path, apart=("orchestrator",)) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("devops")  # It takes the answer, and gets no further.
        assert (await at.answer(id)).status_code == 200
        await at.kill("orchestrator")
        await at.start("devops")
        await at.start_apart("orchestrator")
        await ended(at, task, seconds=60)
    assert at.lamps.effects == 1


async def test_an_agent_that_is_killed_before_it_goes_on_goes_on_later(tmp_path: Path) -> None:
    async with swarm(tmp_path, apart=("devops",)) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.kill("devops")
        assert (await at.answer(id)).status_code == 200
        await at.start_apart("devops")
        await ended(at, task, seconds=60)
    assert at.lamps.effects == 1


async def test_all_who_wait_are_killed_while_the_action_is_done_and_it_is_done_once(tmp_path: Path) -> None:
    lamps = Lamps(holds=True)
    async with swarm(tmp_path, lamps=lamps, apart=("devops", "orchestrator")) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        assert (await at.answer(id)).status_code == 200
        await asyncio.wait_for(lamps.holding.wait(), 30)
        await at.kill("devops")
        await at.kill("orchestrator")
        lamps.hold.set()
        await until(lambda: lamps.effects == 1)
        await at.start_apart("devops")
        await at.start_apart("orchestrator")
        await ended(at, task, seconds=60)
    assert lamps.effects == 1


async def test_what_is_answered_through_another_replica_goes_on_once(tmp_path: Path, postgres_url: str) -> None:
    async with swarm(tmp_path, database_url=postgres_url) as at:
        theirs = {**at.given["addresses"], "orchestrator": f"http://127.0.0.1:{free_port()}"}
        other = await at.start_apart("orchestrator", addresses=theirs, executor="1")
        (id,), task = await at.waiting("switch the lamp in the hall")
        assert (await at.answer(id, at=other)).status_code == 200
        assert (await at.answer(id)).status_code == 409
        await ended(at, task)
        # And while the first is away: it goes on with what it had begun when it is back.
        (late,), second = await at.waiting("switch the lamp at the desk")
        await at.stop("orchestrator")
        assert (await at.answer(late, at=other)).status_code == 200
        await at.start("orchestrator")
        await ended(at, second)
        told = (await at.call("GET", "/audit/lamps")).json()["entries"]
    assert at.lamps.effects == 2 and [e["event"]["event"] for e in told].count("executing") == 2
