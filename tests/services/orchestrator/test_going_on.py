"""Going on after an answer that comes too soon, to a swarm that may not act or can't know, or beside one that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from a2a.types import TaskState

from opswarm.a2a.responder import TurnInput
from opswarm.a2a.wire import AGENT_KEY
from opswarm.actions.execution import Executions
from opswarm.agent.events import ApprovalNeeded, Event, Failed
from opswarm.agent.turn import TurnLoop
from opswarm.errors import Unavailable
from services.orchestrator import resuming
from services.orchestrator.parking import Parking, Waits
from tests.services.orchestrator.house import Swarm, children, ended, rows, swarm, text_of, waits
from tests.support.hosting import until
from tests.support.lamps import Lamps


async def test_an_answer_that_comes_before_its_task_is_parked_a_second_time_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    real = Parking.kept
    second: list[str] = []

    async def kept(self: Parking, request: TurnInput, waits: Waits) -> Event:
        if request.resumes is not None:
            second.extend(id for id in waits.requests if id not in second)
            for id in second:
                await at.answer(id)
            await until(lambda: tries.count(second[0]) > 2)
        return await real(self, request, waits)

    monkeypatch.setattr(Parking, "kept", kept)
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        at.lamps.lit["hall"] = True  # Another preview than was approved: it is asked for again.
        await at.answer(id)
        await ended(at, task)
    assert second and id not in second and at.lamps.effects == 1


@pytest.mark.parametrize("held", ["paused", "the control is unknown", "the database does not answer"])
async def test_an_approved_action_waits_for_as_long_as_nothing_may_or_can_be_done(
    tmp_path: Path, tries: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, held: str
) -> None:
    real, down = Executions.became, True
    caplog.set_level("INFO", "opswarm.guard.follower")

    def heard(words: str) -> bool:
        """Whether everybody has heard it, which may take a second: each of two services from two sources, and ours."""
        return sum(words in record.getMessage() for record in caplog.records) >= 4

    async def became(self: Executions, *given: Any) -> Any:
        if down:
            raise Unavailable("The database does not answer.")
        return await real(self, *given)

    async with swarm(tmp_path) as at:
        control = at.settings.control_file()
        (id,), task = await at.waiting("switch the lamp in the hall")
        match held:
            case "paused":
                assert (await at.call("POST", "/control/pause", json={"reason": "night"})).status_code == 200
                await until(lambda: heard("heard: Actions are paused"))
            case "the control is unknown":
                kept = control.read_bytes() if control.exists() else b""
                control.write_bytes(b"{broken")
                await until(lambda: heard("control: unknown"))
            case _:
                monkeypatch.setattr(Executions, "became", became)
        await at.answer(id)
        await until(lambda: len(tries) > 3)
        await waits(at, task)
        assert at.lamps.effects == 0
        match held:
            case "paused":
                assert (await at.call("POST", "/control/resume", json={})).status_code == 200
            case "the control is unknown":
                control.write_bytes(kept) if kept else control.unlink()
            case _:
                down = False
        await ended(at, task)
    assert at.lamps.effects == 1


async def fails(self: TurnLoop, *given: Any, **options: Any) -> AsyncIterator[Event]:
    yield Failed(code="limit_exceeded", message="The turn was stopped after 300 s.")


async def is_lost(at: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(at, "devops", "DELETE FROM tasks")


async def is_stopped(at: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnLoop, "resume", fails)


@pytest.mark.parametrize("becomes", [is_lost, is_stopped])
async def test_one_of_two_agents_that_fails_is_told_of_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: Any
) -> None:
    lamps = Lamps(lit={"hall": False, "desk": False})
    async with swarm(tmp_path, lamps=lamps, agents=("devops", "butler")) as at:
        ids, task = await at.waiting("switch the lamp in the hall", metadata={AGENT_KEY: "devops,butler"})
        (own,) = await children(at, "devops")  # Whichever of the two was first to ask.
        first, second = sorted(ids, key=lambda id: id not in str(own.status.message))
        with monkeypatch.context() as change:
            await becomes(at, change)
            events, _ = await at.ask(f"approve {first}", task_id=task)
        await waits(at, task)
        assert "**The devops agent failed:**" in text_of(events)
        needed = next(e for e in events if isinstance(e, ApprovalNeeded))
        assert [r.id for r in needed.approvals] == [second]
        assert [t.status.state for t in await children(at, "butler")] == [TaskState.TASK_STATE_INPUT_REQUIRED]
        before = lamps.effects
        await at.answer(second)
        await until(lambda: lamps.effects > before)
        await ended(at, task)


async def test_an_agents_task_that_is_not_among_its_newest_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    monkeypatch.setattr(resuming, "MOST_TASKS", 1)
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall", at="devops")
        (newer,), _ = await at.waiting("switch the lamp at the desk", at="devops")
        await at.answer(id)
        await until(lambda: tries.count(id) > 3)
        assert at.lamps.effects == 0
        await at.ask("go on", at="devops", task_id=task)  # As the failure says.
        await ended(at, task, where="devops")
    assert at.lamps.effects == 1 and newer != id
