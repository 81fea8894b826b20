"""Calls through the door of a real tool server, by MCP over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from opswarm.actions import grants
from opswarm.actions.routes import ORCHESTRATOR
from opswarm.errors import PermissionDenied, Unauthenticated
from opswarm.guard.keys import signing_key, verifier
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_PERSON, AUDIENCE_TOOLS, SigningKey, actions_audience
from opswarm.mcp.client import bearer
from tests.opswarm.actions.conftest import ANN, BOB, EVE, House, house
from tests.support.lamps import Lamps

SAFE = "autonomy: {agents: {devops: safe}}\n"


async def test_what_the_level_allows_is_done_once_verified_and_told(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as at:
        result = await at.switch("hall")
        told = await at.audit()
    assert result.ok and "Switch hall on. It was switched. It is lit." in result.text
    assert result.data is not None and result.data["status"] == "done" and result.data["verified"] is True
    assert at.lamps.effects == 1
    assert [e["event"] for e in told] == ["executing", "executed", "verified"]
    assert told[0]["caller"] == "agent:devops for person:ann" and told[0]["subject"] == "person:ann"
    assert told[0]["task"] == "t1" and told[0]["arguments"] == {"name": "hall", "on": True}
    assert told[0]["rule"] == "autonomy.agents.devops" and told[0]["state"] == {"was": False}
    assert told[1]["state"] == {"lit": True}


async def test_a_dry_run_changes_nothing_and_says_what_would_be(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as at:
        result = await at.call({"name": "hall", "dry_run": True})
        told = await at.told()
    assert "Would do: Switch hall on." in result.text and "hall: off -> on" in result.text
    assert at.lamps.effects == 0 and told == ["previewed"]


async def test_what_needs_approval_waits_and_is_done_after_a_yes(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.ok and asked.approval is not None and at.lamps.effects == 0
        waiting = await at.switch("hall", proposal=asked.approval.id)
        assert waiting.approval is not None and waiting.approval.id == asked.approval.id
        answer = await at.answer(asked.approval.id)
        done = await at.switch("hall", proposal=asked.approval.id)
        again = await at.switch("hall", proposal=asked.approval.id)
        told = await at.told()
    assert answer.status_code == 200 and answer.json()["state"] == "approved"
    assert done.approval is None and done.ok and "It is lit." in done.text
    assert "the first time" in again.text and at.lamps.effects == 1
    assert told == ["needs_approval", "approved", "executing", "executed", "verified"]


async def test_a_no_is_a_no_with_its_reason(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id, approve=False, reason="not at night")
        refused = await at.switch("hall", proposal=asked.approval.id)
    assert not refused.ok and "person:bob said no: not at night" in refused.text
    assert at.lamps.effects == 0


async def test_the_same_call_asked_again_is_the_same_approval(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        first, second = await at.switch("hall"), await at.switch("hall")
        other = await at.switch("hall", task="t2")
        assert first.approval and second.approval and other.approval
        await at.answer(first.approval.id)
        elsewhere = await at.switch("hall", task="t2")
        done = await at.switch("hall")
    assert first.approval.id == second.approval.id != other.approval.id
    assert elsewhere.approval is not None and elsewhere.approval.id == other.approval.id
    assert done.approval is None and "It is lit." in done.text


async def test_a_changed_argument_is_a_new_proposal(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
        swapped = await at.switch("desk", proposal=asked.approval.id)
        off = await at.switch("hall", on=False, proposal=asked.approval.id)
        anew = await at.switch("desk")
    assert not swapped.ok and "other arguments" in swapped.text
    assert not off.ok and "other arguments" in off.text
    assert anew.approval is not None and anew.approval.id != asked.approval.id
    assert at.lamps.effects == 0


async def test_an_approval_is_for_the_agent_and_the_person_that_asked(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
        thief = await at.switch("hall", agent="pr", proposal=asked.approval.id)
        stranger = await at.switch("hall", who=BOB, proposal=asked.approval.id)
    assert "another caller's" in thief.text and "another caller's" in stranger.text, (thief, stranger)
    assert at.lamps.effects == 0


async def test_a_world_that_changed_since_is_asked_about_anew(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
        at.lamps.lit["hall"] = True
        anew = await at.switch("hall", proposal=asked.approval.id)
        assert anew.approval is not None
        stale = await at.switch("hall", proposal=asked.approval.id)
        shown = await at.proposal(anew.approval.id)
    assert anew.approval.id != asked.approval.id and "The world has changed" in anew.text
    assert shown.preview == "hall: on -> on" and not stale.ok
    assert at.lamps.effects == 0


async def test_of_two_people_the_first_wins_and_the_second_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        id = asked.approval.id
        shown = await at.proposal(id)
        answers = await asyncio.gather(
            at.answer(id, shown=shown, who=ANN), at.answer(id, shown=shown, who=BOB, approve=False)
        )
        late = await at.answer(id, shown=shown, who=ANN)
    assert sorted(a.status_code for a in answers) == [200, 409] and late.status_code == 409
    loser = next(a for a in answers if a.status_code == 409).json()["error"]["message"]
    assert "already" in loser and ("person:ann" in loser or "person:bob" in loser)


async def grant_with(at: House, asked: str, key: SigningKey | None = None, **changes: object) -> httpx.Response:
    shown = (await at.proposal(asked)).model_copy(update=changes)
    return await at.deliver(asked, grants.sign(key or signing_key(at.settings), shown, BOB, approve=True))


async def test_attack_a_grant_that_is_forged_foreign_or_over_something_else_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked, other = await at.switch("hall"), await at.switch("desk", on=False)
        assert asked.approval and other.approval
        id = asked.approval.id
        shown = await at.proposal(id)
        refused = [
            await grant_with(at, id, SigningKey.generate()),  # Signed by somebody else.
            await grant_with(at, id, server="github"),  # For another tool server.
            await grant_with(at, id, preview="hall: nothing at all"),  # Over a harmless preview.
            await grant_with(at, id, summary="Look at the hall."),
            await grant_with(at, id, arguments={"name": "desk", "on": False}),
            await grant_with(at, id, id=other.approval.id),  # Of the other proposal, delivered to this one.
            await at.deliver(id, at.token(BOB)),  # A person's own token.
            await at.deliver(id, "nonsense"),
            await at.deliver(id, ""),
        ]
        still = await at.switch("hall", proposal=id)
    assert [r.status_code for r in refused] == [403] * len(refused), [r.text for r in refused]
    assert still.approval is not None and at.lamps.effects == 0
    assert shown.state == "waiting"


async def test_attack_no_answer_with_an_agent_in_its_chain_counts(tmp_path: Path) -> None:
    agent = Principal(kind=Kind.AGENT, subject="agent:devops", roles=frozenset({Role.ADMIN}))
    through = BOB.model_copy(update={"actors": ("agent:devops",)})
    behind = BOB.model_copy(update={"actors": ("service:webui", "agent:devops")})
    front = BOB.model_copy(update={"actors": ("service:webui",)})
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        shown = await at.proposal(asked.approval.id)
        for who in (agent, through, behind, EVE):
            with pytest.raises(PermissionDenied):
                grants.sign(signing_key(at.settings), shown, who, approve=True)
            # Even one that the orchestrator were to sign by mistake is refused where power lives.
            claims = {"proposal": shown.id, "digest": shown.digest(), "answer": "approve"}
            forged = signing_key(at.settings).mint(who, ["grant:lamps"], seconds=60, grant=claims)
            assert (await at.deliver(shown.id, forged)).status_code == 403
        person = await at.answer(shown.id, who=front)
    assert person.status_code == 200


async def test_attack_a_stale_grant_is_refused_when_it_is_to_be_used(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        shown = await at.proposal(asked.approval.id)
        claims = {"proposal": shown.id, "digest": shown.digest(), "answer": "approve"}
        old = signing_key(at.settings).mint(BOB, ["grant:lamps"], seconds=-3600, grant=claims)
        assert (await at.deliver(shown.id, old)).status_code == 403


async def test_attack_whoever_writes_approved_into_the_database_approves_nothing(tmp_path: Path) -> None:
    import sqlite3

    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute("UPDATE proposals SET state = 'approved', approver = 'person:bob'")
        refused = await at.switch("hall", proposal=asked.approval.id)
        implicit = await at.switch("hall")
    assert not refused.ok and "grant is not valid" in refused.text
    # What was written there is worth nothing, and stands in nobody's way.
    assert implicit.approval is not None and implicit.approval.id != asked.approval.id
    assert at.lamps.effects == 0


async def test_attack_nothing_is_hidden_from_who_says_yes_by_the_look_of_a_key(tmp_path: Path) -> None:
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    async with house(tmp_path) as at:
        at.lamps.note = f"-----BEGIN PRIVATE KEY-----\n{body}\npoweroff\nand: more"
        hidden = await at.switch("hall", on=False)
        dry = await at.call({"name": "hall", "on": False, "dry_run": True})
        at.lamps.note = "postgres://user:geheim-1@db"
        shown = await at.switch("hall", on=False)
        assert shown.approval is not None
        preview = shown.approval.preview
    assert not hidden.ok and hidden.approval is None and "nobody can judge it" in hidden.text
    assert not dry.ok and "geheim" not in preview and "@db" in preview  # A word is masked, and its place is seen.


async def test_attack_only_the_orchestrator_reads_and_answers_proposals(tmp_path: Path) -> None:
    impostors = [ANN, BOB, Principal(kind=Kind.AGENT, subject="agent:devops")]
    impostors += [Principal(kind=Kind.SERVICE, subject="service:orchestrator", actors=("agent:devops",))]
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        for who in impostors:
            assert (await at.ask("GET", "/proposals", who=who)).status_code == 403
            assert (await at.ask("GET", f"/proposals/{asked.approval.id}", who=who)).status_code == 403
            answer = await at.ask("POST", f"/proposals/{asked.approval.id}/answer", who=who, json={"grant": "x"})
            assert answer.status_code == 403
        naked = await at.http.get(f"{at.url}/actions/proposals")
    assert naked.status_code == 401


async def test_attack_what_the_orchestrator_asks_one_tool_server_with_opens_no_other_door(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        await at.switch("hall")
        for audience in (actions_audience("kubernetes"), AUDIENCE_TOOLS, AUDIENCE_PERSON):
            assert (await at.ask("GET", "/proposals", audience=audience)).status_code == 401
        theirs = signing_key(at.settings).mint(ORCHESTRATOR, [actions_audience("lamps")], seconds=60)
        with pytest.raises(Unauthenticated):
            verifier(at.settings).verify(theirs, (AUDIENCE_TOOLS, AUDIENCE_PERSON))  # The door of the tools.
        bearer.set(lambda: theirs)
        with pytest.raises(Unauthenticated):
            await at.client.call("lamp_switch", {"name": "desk", "on": True}, read_only=False)
    assert at.lamps.effects == 0


async def test_nothing_in_a_protected_namespace_and_a_role_less_person_does_nothing(tmp_path: Path) -> None:
    nobody = Principal(kind=Kind.PERSON, subject="person:nobody")
    async with house(tmp_path, policy=SAFE) as at:
        protected = await at.switch("kube-system")
        roleless = await at.switch("hall", who=nobody)
        viewer = await at.switch("hall", who=EVE)
        told = await at.audit()
    assert "limit.namespace.protected" in [e["rule"] for e in told] and "protected" in protected.text
    assert not roleless.ok and not viewer.ok and at.lamps.effects == 0
    assert [e["event"] for e in told] == ["denied"] * 3


async def test_a_key_is_done_once_and_gives_the_first_result(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as at:
        first = await at.switch("hall", key="turn/1")
        at.lamps.lit["hall"] = False
        again = await at.switch("hall", key="turn/1")
        other = await at.switch("desk", key="turn/1")
        theirs = await at.switch("desk", key="turn/1", who=BOB)
    assert first.ok and again.ok and "the first time" in again.text and at.lamps.lit["hall"] is False
    assert not other.ok and "another call" in other.text
    assert theirs.ok and at.lamps.effects == 2


async def test_many_at_once_with_one_key_are_one_effect(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as at:
        at.lamps.holds = True
        calls = [asyncio.create_task(at.switch("hall", key="same")) for _ in range(8)]
        await asyncio.wait_for(at.lamps.holding.wait(), 10)
        at.lamps.hold.set()
        results = await asyncio.gather(*calls)
    assert all(r.ok for r in results) and at.lamps.effects == 1


@pytest.mark.parametrize(("breaks", "effects", "status"), [("before", 0, "failed"), ("after", 1, "done")])
async def test_after_a_lost_answer_the_world_is_asked(
    tmp_path: Path, breaks: str, effects: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, Lamps(breaks=breaks), policy=SAFE) as at:
        result = await at.switch("hall")
    assert result.data is not None and result.data["status"] == status and at.lamps.effects == effects
    assert result.ok is (status == "done")


async def test_where_nobody_can_tell_it_is_unknown_and_a_person_is_asked_before_it_is_done_again(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, Lamps(breaks="after", mute=True), policy=SAFE) as at:
        unknown = await at.switch("hall", key="k1")
        repeated = await at.switch("hall", key="k1")
        at.lamps.breaks, at.lamps.mute = "", False
        anew = await at.switch("hall", key="k2")
        told = await at.audit()
    assert unknown.data is not None and unknown.data["status"] == "unknown" and not unknown.ok
    assert "not known whether" in repeated.text and at.lamps.effects == 1
    assert anew.approval is not None and told[-1]["rule"] == "execution.unknown"


async def test_an_action_whose_audit_cant_be_written_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opswarm.actions.audit import Audit
    from opswarm.errors import Unavailable

    async def broken(self: Audit, event: object) -> None:
        raise Unavailable("The disk is full.")

    async with house(tmp_path, policy=SAFE) as at:
        with monkeypatch.context() as patch:
            patch.setattr(Audit, "add", broken)
            refused = await at.switch("hall", key="k")
        assert not refused.ok and at.lamps.effects == 0
        later = await at.switch("hall", key="k")
    assert later.ok and at.lamps.effects == 1


async def test_rates_are_counted_and_the_one_too_many_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, policy=f"{SAFE}rates: {{agent: {{hour: 2}}}}\n") as at:
        results = [await at.switch("hall", key=str(n)) for n in range(3)]
        told = await at.audit()
    assert [r.ok for r in results] == [True, True, False] and at.lamps.effects == 2
    assert told[-1]["event"] == "denied" and told[-1]["rule"] == "rates.agent.hour"


async def test_what_a_policy_withholds_is_not_listed_and_not_called(tmp_path: Path) -> None:
    policy = f"{SAFE}access: {{agents: {{devops: {{deny: [lamp_switch]}}, pr: {{deny: ['*']}}}}}}\n"
    async with house(tmp_path, policy=policy) as at:
        refused = await at.switch("hall")
        devops = [s.name for s in await at.client.schemas()]
        reading = await at.client.call("lamps_list", {}, read_only=True)
        await at.switch("hall", agent="pr")
        denied = await at.client.call("lamps_list", {}, read_only=True)
    assert not refused.ok and devops == ["lamps_list"] and at.lamps.effects == 0
    assert reading.ok and not denied.ok and "does not let the agent pr" in denied.text


async def test_what_was_asked_is_forgotten_by_nobody_when_the_server_restarts(tmp_path: Path) -> None:
    lamps = Lamps()
    async with house(tmp_path, lamps) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
    async with house(tmp_path, lamps) as at:
        await at.answer(asked.approval.id)
    async with house(tmp_path, lamps) as at:
        done = await at.switch("hall", proposal=asked.approval.id)
    assert done.ok and lamps.effects == 1


async def test_one_caller_cant_keep_everybody_else_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opswarm.actions import proposals

    monkeypatch.setattr(proposals, "MOST_OF_ONE", 3)
    async with house(tmp_path) as at:
        mine = [await at.switch("hall", task=f"t{n}") for n in range(4)]
        other = await at.switch("hall", agent="pr")
    assert [r.approval is not None for r in mine] == [True, True, True, False] and not mine[-1].ok
    assert other.approval is not None


async def test_what_cant_be_shown_whole_is_not_asked_about(tmp_path: Path) -> None:
    async with house(tmp_path, Lamps(note="x" * 25_000)) as at:
        refused = await at.switch("hall")
    assert not refused.ok and "can't be shown" in refused.text


async def test_attack_a_signed_no_is_not_turned_into_a_yes_in_the_database(tmp_path: Path) -> None:
    import sqlite3

    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id, approve=False)
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute("UPDATE proposals SET state = 'approved'")
        refused = await at.switch("hall", proposal=asked.approval.id)
    assert not refused.ok and "signed is a no" in refused.text and at.lamps.effects == 0
