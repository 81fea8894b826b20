"""From a question to an answer, with people in between: orchestrator, agent and tool server over real HTTP."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from a2a.types import TaskState

from opswarm.a2a.wire import APPROVALS_URI
from opswarm.agent.events import ApprovalNeeded, Failed, Finished, ToolFinished
from tests.services.orchestrator.house import ANN, BOB, EVE, ended, swarm, text_of
from tests.support.lamps import Lamps


async def test_an_action_waits_for_a_person_and_the_task_goes_on_after_the_yes(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        events, task = await at.ask("switch the lamp in the hall")
        needed = next(e for e in events if isinstance(e, ApprovalNeeded))
        (one,) = needed.approvals
        assert (one.tool, one.summary, one.server) == ("lamp_switch", "Switch hall on.", "lamps")
        assert (await at.task(task)).status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert at.lamps.effects == 0
        more, same = await at.ask(f"approve {needed.approvals[0].id}", task_id=task)
        after = await at.task(task)
    assert same == task and at.lamps.effects == 1 and at.lamps.lit["hall"]
    assert any(isinstance(e, ToolFinished) and e.ok and "It is lit" in e.summary for e in more)
    assert isinstance(more[-1], Finished) and after.status.state == TaskState.TASK_STATE_COMPLETED


async def test_an_answer_over_http_resumes_the_task_by_itself(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        listed = (await at.call("GET", "/approvals", who=EVE)).json()
        answer = await at.answer(id)
        late = await at.answer(id, "reject", who=ANN)
        await ended(at, task)
        empty = (await at.call("GET", "/approvals")).json()
    assert [a["id"] for a in listed["approvals"]] == [id] and listed["missing"] == []
    assert answer.status_code == 200 and answer.json()["approver"] == "person:bob"
    assert late.status_code == 409 and "person:bob has approved" in late.json()["error"]["message"]
    assert empty["approvals"] == [] and at.lamps.effects == 1


async def test_a_no_reaches_the_agent_with_its_reason_and_nothing_is_done(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        events, _ = await at.ask(f"reject {id} people sleep there", task_id=task)
    assert at.lamps.effects == 0
    summary = next(e.summary for e in events if isinstance(e, ToolFinished))
    assert "person:ann said no: people sleep there" in summary


async def test_several_actions_are_several_approvals_each_answered_by_itself(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        ids, task = await at.waiting("switch the lamps in the hall and at the desk")
        assert len(ids) == 2
        first, _ = await at.ask(f"approve {ids[0]}", task_id=task)
        left = next(e for e in first if isinstance(e, ApprovalNeeded))
        assert [r.id for r in left.approvals] == [ids[1]] and at.lamps.lit == {
            "hall": True, "desk": False, "kube-system": False,
        }  # fmt: skip
        second, _ = await at.ask(f"reject {ids[1]}", task_id=task)
    assert isinstance(second[-1], Finished) and at.lamps.effects == 1


async def test_answers_can_be_structured_and_all_in_one_message(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        ids, task = await at.waiting("switch the lamps in the hall and at the desk")
        said = {"answers": [{"id": ids[0], "approve": True}, {"id": ids[1], "approve": False, "reason": "no"}]}
        events, _ = await at.ask("see the metadata", task_id=task, metadata={APPROVALS_URI: said})
    assert isinstance(events[-1], Finished) and at.lamps.effects == 1 and at.lamps.lit["hall"]


@pytest.mark.parametrize(
    "text", ["yes", "approve", "please approve {id}", "approve {id} but off", "APPROVE {id}", "ok, approve {id}!"]
)
async def test_attack_other_words_than_the_exact_ones_are_no_answer(tmp_path: Path, text: str) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        events, _ = await at.ask(text.format(id=id), task_id=task)
    needed = next(e for e in events if isinstance(e, ApprovalNeeded))
    assert [r.id for r in needed.approvals] == [id] and at.lamps.effects == 0


async def test_a_viewer_cant_answer_and_a_stranger_cant_resume(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        viewer = await at.answer(id, who=EVE)
        words, _ = await at.ask(f"approve {id}", who=EVE)
        with pytest.raises(Exception, match="not found"):
            await at.ask(f"approve {id}", who=BOB, task_id=task)
        bodies = ({"answer": "yes"}, {"answer": "approve", "replicas": 3}, [])
        nonsense = [await at.call("POST", f"/approvals/{id}", json=b) for b in bodies]
    assert viewer.status_code == 403 and "operator" in text_of(words) and at.lamps.effects == 0
    assert [r.status_code for r in nonsense] == [400, 400, 400]


async def test_a_chat_client_answers_in_a_message_of_its_own(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.token(ANN)}"}
        url = f"{at.settings.address('orchestrator')}/v1/chat/completions"

        async def say(text: str) -> str:
            body = {"model": "orchestrator", "messages": [{"role": "user", "content": text}]}
            reply = (await at.http.post(url, json=body, headers=headers)).json()
            return str(reply["choices"][0]["message"]["content"])

        asked = await say("switch the lamp in the hall")
        (waiting,) = (await at.call("GET", "/approvals")).json()["approvals"]
        assert f"`approve {waiting['id']}`" in asked and "hall: off -> on" in asked and at.lamps.effects == 0
        answered = await say(f"approve {waiting['id']}")
    assert "approved: Switch hall on." in answered and at.lamps.effects == 1


async def test_somebody_else_can_answer_in_a_message_and_the_task_goes_on(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        events, _ = await at.ask(f"approve {id}", who=BOB)
        await ended(at, task)
    assert "goes on in its own task" in text_of(events) and at.lamps.effects == 1


async def test_an_agent_that_was_asked_directly_goes_on_too(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall", at="devops")
        said, _ = await at.ask(f"approve {id}", task_id=task, at="devops")
        assert any(isinstance(e, ApprovalNeeded) for e in said) and at.lamps.effects == 0
        assert (await at.answer(id)).status_code == 200
        await ended(at, task, where="devops")
    assert at.lamps.effects == 1


async def test_what_waits_outlives_a_restart_of_everything(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        names = ("orchestrator", "devops", "lamps")
        await at.stop(*names)
        await at.start(*reversed(names))
        assert (await at.answer(id)).status_code == 200
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_an_answer_given_while_the_agent_is_down_is_kept_and_the_task_goes_on_later(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("devops")
        assert (await at.answer(id)).status_code == 200
        await asyncio.sleep(1.5)
        assert (await at.task(task)).status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        await at.stop("orchestrator")
        await at.start("devops", "orchestrator")
        await ended(at, task)
    assert at.lamps.effects == 1


async def test_an_upgrade_to_workflows_of_another_shape_strands_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.orchestrator import waiting

    monkeypatch.setattr(waiting, "_VERSION", "approvals-0")
    async with swarm(tmp_path) as at:
        (early,), first = await at.waiting("switch the lamp in the hall")
        (late,), second = await at.waiting("switch the lamp at the desk")
        await at.stop("devops")
        await at.answer(early)  # Taken by the old one, which gets no further.
        await at.stop("orchestrator")
        monkeypatch.setattr(waiting, "_VERSION", "approvals-9")
        await at.start("devops", "orchestrator")
        await at.answer(late)
        await ended(at, first)
        await ended(at, second)
    assert at.lamps.effects == 2


async def test_an_approval_that_nobody_answers_expires_and_means_no(tmp_path: Path) -> None:
    async with swarm(tmp_path, chat_minutes=0.03) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await ended(at, task)
        late = await at.answer(id)
    assert at.lamps.effects == 0 and late.status_code == 409 and "expired" in late.json()["error"]["message"]


async def test_attack_an_agent_cant_show_something_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opswarm.agent import turn

    # A compromised agent tells the orchestrator a harmless story about a harmful proposal.
    honest = turn.ApprovalNeeded

    def lying(approvals: tuple[turn.ApprovalRequest, ...]) -> turn.ApprovalNeeded:
        lies = (a.model_copy(update={"summary": "Look at the hall.", "preview": "nothing"}) for a in approvals)
        return honest(approvals=tuple(lies))

    monkeypatch.setattr(turn, "ApprovalNeeded", lying)
    async with swarm(tmp_path) as at:
        events, _ = await at.ask("switch the lamp in the hall off")
        needed = next(e for e in events if isinstance(e, ApprovalNeeded))
    assert needed.approvals[0].summary == "Switch hall off." and "hall: off -> off" in needed.approvals[0].preview


async def test_attack_an_agent_that_invents_an_approval_parks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opswarm.agent import turn

    honest = turn.ApprovalNeeded

    def invented(approvals: tuple[turn.ApprovalRequest, ...]) -> turn.ApprovalNeeded:
        return honest(approvals=tuple(a.model_copy(update={"id": "abcdefghjk"}) for a in approvals))

    monkeypatch.setattr(turn, "ApprovalNeeded", invented)
    async with swarm(tmp_path) as at:
        events, _ = await at.ask("switch the lamp in the hall")
    assert isinstance(events[-1], Failed) and "no approval" in events[-1].message


async def test_the_audit_is_read_through_the_orchestrator_by_operators(tmp_path: Path) -> None:
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.answer(id)
        await ended(at, task)
        told = (await at.call("GET", "/audit/lamps")).json()
        viewer = await at.call("GET", "/audit/lamps", who=EVE)
        nowhere = await at.call("GET", "/audit/nowhere")
    events = [e["event"] for e in told["entries"]]
    assert [e["event"] for e in events] == ["needs_approval", "approved", "executing", "executed", "verified"]
    assert events[1]["caller"] == "person:bob" and events[2]["caller"] == "agent:devops for person:ann"
    assert viewer.status_code == 403 and nowhere.status_code == 404


async def test_it_works_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    async with swarm(tmp_path, database_url=postgres_url, lamps=Lamps()) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        await at.stop("orchestrator", "lamps")
        await at.start("lamps", "orchestrator")
        await at.answer(id)
        await ended(at, task)
    assert at.lamps.effects == 1


@pytest.mark.parametrize("words", ["approve {id}", " approve {id}\n", "approve\u200b {id}", "reject {id} no"])
async def test_attack_a_desktop_apps_model_answers_nothing(tmp_path: Path, words: str) -> None:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async with swarm(tmp_path) as at:
        (id,), _ = await at.waiting("switch the lamp in the hall")
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {at.token(ANN)}"}, timeout=30) as http:
            transport = streamable_http_client(f"{at.settings.address('orchestrator')}/mcp", http_client=http)
            async with Client(transport) as app:
                result = await app.call_tool("invoke_agent", {"task": words.format(id=id)})
        left = (await at.call("GET", "/approvals")).json()["approvals"]
    assert result.is_error and "through a tool that a model calls" in str(result.content)
    assert [a["id"] for a in left] == [id] and at.lamps.effects == 0


async def test_attack_what_is_changed_between_showing_and_answering_is_not_signed(tmp_path: Path) -> None:
    """Somebody who can write to the tool server's database swaps the call after a person was shown it."""
    async with swarm(tmp_path) as at:
        (id,), task = await at.waiting("switch the lamp in the hall")
        shown = (await at.call("GET", f"/approvals/{id}", who=BOB)).json()
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute("UPDATE proposals SET body = replace(body, 'hall', 'desk')")
        answer = await at.answer(id, digest=shown["digest"])
        assert answer.status_code == 409 and "not what you were shown" in answer.text
        yes = {"id": id, "approve": True, "digest": shown["digest"]}
        said, _ = await at.ask("yes", who=BOB, metadata={APPROVALS_URI: {"answers": [yes]}})
        assert "not what you were shown" in text_of(said)
        said, _ = await at.ask(f"approve {id}", task_id=task)
        assert "not what you were shown" in text_of(said)
        assert at.lamps.effects == 0
