"""Going on after an answer, while this or that is down: no approval is spent on it, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from a2a.types import TaskState

from opswarm.a2a.client import RemoteAgent
from opswarm.a2a.engine import Engine
from opswarm.a2a.responder import TurnInput
from opswarm.a2a.wire import AGENT_KEY
from opswarm.a2a.work import Work
from opswarm.actions.proposals import Proposal
from opswarm.agent.events import ApprovalNeeded, Event
from opswarm.errors import ToolServerDown
from opswarm.store.tasks import answer_of
from services.orchestrator.approvals import Approvals
from services.orchestrator.parking import Parking, Waits
from tests.services.orchestrator.house import ANN, BOB, children, ended, rows, swarm, text_of, waits
from tests.support.hosting import until

WAITS, FAILED = TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_FAILED
CANCELED = TaskState.TASK_STATE_CANCELED


async def test_an_answer_in_the_task_while_the_tool_server_restarts_spends_nothing(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("lamps")
        early, _ = await at.ask(f"approve {id}", task_id=task)
        words, _ = await at.ask("is it done?", task_id=task)
        await waits(at, task)
        await at.start("lamps")
        await at.ask(f"approve {id}", task_id=task)
        await ended(at, task)
    assert at.lamps.effects == 1
    for events in (early, words):
        assert "can't be asked" in text_of(events) and any(isinstance(e, ApprovalNeeded) for e in events)


async def test_an_agent_is_not_asked_to_go_on_before_somebody_answered(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        before = await children(at)
        events, _ = await at.ask("well?", task_id=task)
        assert await children(at) == before
        needed = next(e for e in events if isinstance(e, ApprovalNeeded))
    assert "Nobody has answered yet" in text_of(events) and [r.id for r in needed.approvals] == [id]


async def test_it_is_tried_for_as_long_as_the_tool_server_is_down_and_then_done_once(
    tmp_path: Path, tries: list[str]
) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("devops")
        await at.answer(id)
        await at.stop("lamps")
        await at.start("devops")
        # The agent can't tell: without the tool server nobody knows that somebody answered.
        await asyncio.sleep(1)
        await waits(at, task)
        await at.start("lamps")
        await ended(at, task)
        said = answer_of(await at.task(task))
    assert at.lamps.effects == 1 and "Not yet" not in said


async def test_it_is_tried_for_as_long_as_the_agent_is_down(tmp_path: Path, tries: list[str]) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("devops")
        await at.answer(id)
        await until(lambda: len(tries) > 30)
        await waits(at, task)
        await at.start("devops")
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_a_tool_server_that_dies_under_the_agent_alone_spends_no_approval(
    tmp_path: Path, tries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opswarm.mcp.client import ToolServerClient

    real, down = ToolServerClient.call, True

    async def call(self: ToolServerClient, name: str, *given: Any, **how: Any) -> Any:
        if down and how.get("proposal"):
            raise ToolServerDown("The lamps tool server can't be reached.")
        return await real(self, name, *given, **how)

    monkeypatch.setattr(ToolServerClient, "call", call)
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.answer(id)
        await until(lambda: len(tries) > 25)
        await waits(at, task)
        down = False
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_a_task_is_parked_though_its_tool_server_cant_be_asked_and_the_agents_words_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, down = Approvals.find, True

    async def find(self: Approvals, id: str) -> Proposal:
        if down:
            raise ToolServerDown("The lamps tool server can't be asked about approvals.")
        return await real(self, id)

    monkeypatch.setattr(Approvals, "find", find)
    async with swarm(tmp_path) as at:
        events, task = await at.ask("switch the lamp in the hall")
        (one,) = next(e for e in events if isinstance(e, ApprovalNeeded)).approvals
        assert "can't be shown now" in one.summary and (one.preview, one.tool) == ("", "")
        await waits(at, task)
        down = False
        shown, _ = await at.ask("and now?", task_id=task)
        (same,) = next(e for e in shown if isinstance(e, ApprovalNeeded)).approvals
        assert (same.id, same.summary) == (one.id, "Switch hall on.")
        await at.answer(one.id)
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_an_agents_task_goes_on_though_the_one_that_asked_for_it_was_lost(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("orchestrator")
        # As a kill between the agent's parking and our own leaves it.
        rows(at, "orchestrator", "UPDATE tasks SET state = ?", int(TaskState.TASK_STATE_WORKING))
        rows(at, "orchestrator", "DELETE FROM pauses")
        await at.start("orchestrator")
        assert (await at.task(task)).status.state == FAILED
        assert (await at.answer(id)).status_code == 200
        (child,) = await children(at)
        await ended(at, child.id, where="devops")
    assert at.lamps.effects == 1


async def test_an_answer_that_comes_before_the_task_is_parked_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    real = Parking.kept

    async def kept(self: Parking, request: TurnInput, waits: Waits) -> Event:
        for id in waits.requests:
            assert (await at.answer(id)).status_code == 200
        await until(lambda: len(tries) > 2)
        return await real(self, request, waits)

    monkeypatch.setattr(Parking, "kept", kept)
    async with swarm(tmp_path) as at:
        _, task = await at.ask("switch the lamp in the hall")
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_two_tasks_of_one_agent_wait_side_by_side(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall", metadata={AGENT_KEY: "devops,devops"})
        assert [t.status.state for t in await children(at)] == [WAITS, WAITS]
        await at.answer(id)
        await ended(at, task)
        done = {t.status.state for t in await children(at)}
    assert done == {TaskState.TASK_STATE_COMPLETED} and at.lamps.effects == 1


async def test_one_of_two_agents_that_is_down_goes_on_later(tmp_path: Path, tries: list[str]) -> None:
    async with swarm(tmp_path, agents=("devops", "butler")) as at:
        ids, task = await at.waiting("switch the lamp in the hall", metadata={AGENT_KEY: "devops,butler"})
        assert len(ids) == 2
        await at.stop("butler")
        for id in ids:
            assert (await at.answer(id)).status_code == 200
        await until(lambda: at.lamps.effects == 1)
        await until(lambda: len(tries) > 12)
        await waits(at, task)
        await at.start("butler")

        async def asked_anew() -> bool:
            return len((await at.call("GET", "/approvals")).json()["approvals"]) == 1

        # It goes on, and finds the lamp lit by the other: that is another thing to say yes to.
        await until(asked_anew)
        ((anew,),) = [[a["id"] for a in (await at.call("GET", "/approvals")).json()["approvals"]]]
        await waits(at, task)
        await at.answer(anew)
        await ended(at, task)
    assert at.lamps.effects == 2 and anew not in ids


async def test_a_stop_between_the_action_and_the_end_of_the_task_costs_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    real, stuck = Engine._finish, asyncio.Event()

    async def finish(self: Engine, work: Work) -> None:
        if self._name == "devops" and work.resumed and not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()  # Its end is never stored.
        await real(self, work)

    monkeypatch.setattr(Engine, "_finish", finish)
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.answer(id)
        await asyncio.wait_for(stuck.wait(), 60)
        assert at.lamps.effects == 1
        await at.stop("devops")
        await at.start("devops")
        await ended(at, task)
        kept = rows(at, "devops", "SELECT task_id FROM pauses"), rows(at, "orchestrator", "SELECT task_id FROM pauses")
    assert at.lamps.effects == 1 and kept == ([], [])


@pytest.mark.parametrize("forged", ["another's", "nobody's", "own words"])
async def test_attack_whoever_writes_the_pauses_gets_nobodys_authority(tmp_path: Path, forged: str) -> None:
    async with swarm(tmp_path) as at:
        await at.waiting("switch the lamp at the desk", who=BOB)  # An admin's.
        (id,), task = await at.waiting("switch the lamp in the hall")
        ((theirs,),) = rows(at, "orchestrator", "SELECT body FROM pauses WHERE task_id <> ?", task)
        ((own,),) = rows(at, "orchestrator", "SELECT body FROM pauses WHERE task_id = ?", task)
        body = json.loads(own)
        match forged:
            case "another's":
                body["proof"] = json.loads(theirs)["proof"]
            case "nobody's":
                body["proof"] = body["proof"][:-8] + "AAAAAAAA"
            case _:
                body |= {"proof": "", "principal": BOB.model_dump(mode="json")}
        rows(at, "orchestrator", "UPDATE pauses SET body = ? WHERE task_id = ?", json.dumps(body), task)
        await at.answer(id)
        await asyncio.sleep(1.5)
        events, _ = await at.ask("go on", task_id=task)
        told = (await at.call("GET", "/audit/lamps")).json()
    assert at.lamps.effects == 0 and "not proven" in str(events[-1])
    assert not [e for e in told["entries"] if e["event"]["event"] == "executing"]


async def test_a_task_that_is_cancelled_takes_what_waits_behind_it_along(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        agent = await RemoteAgent.connect("orchestrator", at.settings.address("orchestrator"), at.http)
        assert await agent.cancel(task, at.token(ANN))
        assert [t.status.state for t in await children(at)] == [CANCELED]
        yes = await at.answer(id)
        no = await at.answer(id, "reject")
        kept = rows(at, "devops", "SELECT task_id FROM pauses"), rows(at, "orchestrator", "SELECT task_id FROM pauses")
    assert yes.status_code == 409 and "nobody waits for it any more" in yes.json()["error"]["message"]
    assert no.status_code == 200 and at.lamps.effects == 0 and kept == ([], [])
