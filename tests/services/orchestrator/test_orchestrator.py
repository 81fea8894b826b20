"""The orchestrator with real agents behind it, over real HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opswarm.agent.events import Delegated, Failed, Finished
from opswarm.errors import DeadlineExceeded
from opswarm.guard.keys import ServiceToken, verifier
from services.orchestrator import routing
from tests.services.orchestrator.front import front, said
from tests.support.hosting import settings_at, until


async def test_a_named_agent_gets_the_request_and_its_events_come_through_unchanged(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", "cook") as swarm:
        events = await swarm.ask("anything", agent="cook")
        mention = await swarm.ask("@devops look here")
    assert [e.kind for e in events] == ["delegated", "tool_started", "tool_finished", "text", "text", "finished"]
    assert events[0] == Delegated(agent="cook", because="it was named")
    assert said(events) == "cook heard: anything"
    assert said(mention) == "devops heard: look here"


async def test_the_specialist_acts_for_the_person_in_the_same_conversation(tmp_path: Path) -> None:
    async with front(tmp_path, "devops") as swarm:
        await swarm.ask("one", context="ctx-7")
        await swarm.ask("two", context="ctx-7")
        seen = swarm.echoes["devops"].seen
    assert {r.context_id for r in seen} == {"ctx-7"}
    assert seen[1].principal.subject == "person:local"
    assert seen[1].principal.actors == ("agent:devops",)
    assert [m.content for m in seen[1].history] == ["one", "devops heard: one"]


async def test_rules_route_by_the_cards_and_say_why(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", "cook") as swarm:
        cluster = await swarm.ask("which kubernetes pods are broken")
        soup = await swarm.ask("give me a recipe for soup in my kitchen")
        neither = await swarm.ask("tell me a joke")
    assert (cluster[0], soup[0]) == (
        Delegated(agent="devops", because="its skills fit"),
        Delegated(agent="cook", because="its skills fit"),
    )
    assert isinstance(neither[0], Delegated) and isinstance(neither[-1], Finished)


async def test_several_agents_answer_under_headings(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", "cook") as swarm:
        events = await swarm.ask("@devops @cook hello")
        broken = await swarm.ask("break", agent="devops,cook")
    assert "## devops\n\ndevops heard: hello" in said(events)
    assert "## cook\n\ncook heard: hello" in said(events)
    assert isinstance(broken[-1], Failed)


async def test_a_dead_agent_is_shown_dead_and_named(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", dead="pr") as swarm:
        url = swarm.agent.card.supported_interfaces[0].url
        listed = {a["name"]: a for a in (await swarm.http.get(f"{url}agents")).json()["agents"]}
        events = await swarm.ask("merge it", agent="pr")
        unknown = await swarm.ask("merge it", agent="nobody")
        ready = await swarm.http.get(f"{url}readyz")
    assert (listed["devops"]["state"], listed["pr"]["state"]) == ("alive", "dead")
    assert isinstance(events[-1], Failed) and "pr agent does not answer" in events[-1].message
    assert isinstance(unknown[-1], Failed) and "The agents are: devops, pr" in unknown[-1].message
    assert ready.status_code == 503 and "pr" in ready.json()["checks"]["agents"]


async def test_a_cancel_is_passed_down(tmp_path: Path) -> None:
    async with front(tmp_path, "devops") as swarm:
        asking = asyncio.create_task(swarm.ask("wait for me"))
        await until(lambda: bool(swarm.echoes["devops"].seen))
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.wait_for(swarm.echoes["devops"].cancelled.wait(), 5)


async def test_a_delegation_has_a_deadline(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", delegation_seconds=0.5) as swarm:
        events = await swarm.ask("wait for me")
        assert isinstance(events[-1], Failed) and events[-1].code == DeadlineExceeded.code
        await asyncio.wait_for(swarm.echoes["devops"].cancelled.wait(), 5)


async def test_a_deadline_passes_while_another_agent_is_still_being_read(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", "cook", delegation_seconds=1.5) as swarm:
        asking = asyncio.create_task(swarm.ask("@cook @devops flood wait"))
        events = await asyncio.wait_for(asking, 15)
    assert isinstance(events[-1], Failed)
    assert "cook: " in events[-1].message and "devops: " in events[-1].message


async def test_the_exchange_refuses_what_is_no_proof(tmp_path: Path) -> None:
    async with front(tmp_path, "devops") as swarm:
        url = f"{swarm.agent.card.supported_interfaces[0].url}oauth/token"
        service = ServiceToken(settings_at(tmp_path), "devops")()
        grant = "urn:ietf:params:oauth:grant-type:token-exchange"
        good = await swarm.http.post(
            url, data={"grant_type": grant, "subject_token": swarm.token, "actor_token": service, "task": "t"}
        )
        bad = [
            {"grant_type": "password"},
            {"grant_type": grant},
            {"grant_type": grant, "subject_token": swarm.token, "actor_token": swarm.token},
            {"grant_type": grant, "subject_token": "x", "actor_token": service},
        ]
        answers = [await swarm.http.post(url, data=b) for b in bad]
    turn = verifier(settings_at(tmp_path)).verify(good.json()["access_token"], ["tools"]).principal
    assert str(turn) == "agent:devops for person:local"
    assert [a.status_code for a in answers] == [400] * 4
    assert all("access_token" not in a.text for a in answers)


@pytest.mark.parametrize(
    ("text", "names", "rest"),
    [
        ("@devops what?", ("devops",), "what?"),
        ("@a, @b and @c: go", ("a", "b", "c"), "go"),
        ("mail me@devops", (), "mail me@devops"),
        ("@devops", (), "@devops"),
    ],
)
def test_agents_are_named_at_the_beginning_only(text: str, names: tuple[str, ...], rest: str) -> None:
    assert routing.mentioned(text) == (names, rest)
