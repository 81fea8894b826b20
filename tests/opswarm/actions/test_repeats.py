"""Whoever comes again: after a lost answer, under another key, from another process, or when the world has changed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from opswarm.actions import records
from opswarm.actions.action import Action, Intent, Plan
from opswarm.actions.canonical import digest
from opswarm.actions.execution import Executions
from opswarm.actions.records import Outcome, Records, Status
from opswarm.actions.routes import ORCHESTRATOR
from opswarm.errors import Conflict, OpswarmError, Unavailable
from opswarm.guard.control import FileControl
from opswarm.store.database import Sqlite
from tests.opswarm.actions.conftest import ANN, House, house, replaced
from tests.opswarm.actions.test_crashes import effects, server
from tests.support.lamps import Lamps

SAFE = "autonomy: {agents: {devops: safe}}\n"
HALL = Intent("k1", "lamp_switch", {"name": "hall", "on": True})
CALL = digest([HALL.tool, HALL.arguments])


async def silent(event: str, outcome: Outcome, seconds: float) -> None:
    """Tells nobody."""


def action(lamps: Lamps) -> Action:
    return Action(lamps.perform, lamps.probe, lamps.verify, seconds=5, verify_seconds=5)


@asynccontextmanager
async def process(home: Path, executor: str = "0") -> AsyncIterator[Executions]:
    """Another process on the same database, as far as the executions can tell."""
    database = Sqlite(home / "e.db")
    made = Executions(database, "lamps", executor=executor, pause=0.0)
    await made.open()
    try:
        yield made
    finally:
        await made.aclose()
        await database.close()


async def test_a_lost_answer_and_a_new_key_ask_a_person(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(SAFE)
    async with server(tmp_path, "after") as at:
        with pytest.raises(OpswarmError):
            await at.switch("hall", key="one")
    async with server(tmp_path, "never") as at:
        while "verified" not in await at.told():
            await asyncio.sleep(0.2)
        other = await at.switch("hall", key="two")
        first = await at.switch("hall", key="one")
        free = await at.switch("hall", key="three")
    assert other.approval is not None and "did not hear so" in other.text, other
    assert first.ok and "the first time" in first.text
    assert free.ok and free.approval is None, "heard by then, so that a new call is a new one"
    assert effects(tmp_path) == 2


async def test_who_hangs_up_has_not_heard(tmp_path: Path) -> None:
    async with process(tmp_path) as at:
        lamps = Lamps(holds=True)
        doing = asyncio.create_task(at.do(action(lamps), HALL, CALL, silent))
        await lamps.holding.wait()
        doing.cancel()
        with suppress(asyncio.CancelledError):
            await doing
        with pytest.raises(Conflict, match="being done at this moment"):
            await at.unsettled(CALL, "k2")
        lamps.hold.set()
        while (known := await at._records.get("k1")) is None or known.outcome.verified is None:
            await asyncio.sleep(0.01)
        assert "did not hear" in await at.unsettled(CALL, "k2")
        assert (await at.known("k1", CALL)) is not None
        assert await at.unsettled(CALL, "k2") == ""


async def test_attack_the_same_call_twice_at_once_with_two_keys_is_one_effect(tmp_path: Path) -> None:
    lamps = Lamps(holds=True)
    async with house(tmp_path, lamps, SAFE) as at:
        first = asyncio.create_task(at.switch("hall", key="one"))
        await lamps.holding.wait()
        beside = await at.switch("hall", key="two")
        lamps.hold.set()
        done = await first
    assert not beside.ok and "being done at this moment" in beside.text
    assert done.ok and lamps.effects == 1


@pytest.mark.parametrize("executor", ["0", "1"])
async def test_of_two_processes_one_does_it_and_the_other_waits(tmp_path: Path, executor: str) -> None:
    lamps = Lamps(holds=True)
    async with process(tmp_path) as one, process(tmp_path, executor) as two:
        doing = asyncio.create_task(one.do(action(lamps), HALL, CALL, silent))
        await lamps.holding.wait()
        assert await two.broken_off() == []
        waiting = asyncio.create_task(two.do(action(lamps), HALL, CALL, silent))
        other = Intent("k2", HALL.tool, HALL.arguments)
        with pytest.raises(Conflict):
            await two.do(action(lamps), other, CALL, silent)
        await asyncio.sleep(0.7)
        lamps.hold.set()
        done, waited = await asyncio.gather(doing, waiting)
    assert not done.again and waited.again and waited.status is Status.DONE and lamps.effects == 1


async def test_a_process_that_lost_its_turn_does_nothing(tmp_path: Path) -> None:
    """It slept (a laptop's lid, a frozen node) between writing the intent down and the effect."""
    lamps, taken = Lamps(), asyncio.Event()
    async with process(tmp_path) as one, process(tmp_path) as two:

        async def sleeps(event: str, outcome: Outcome, seconds: float) -> None:
            if event == "executing":
                await one._records._database.write("UPDATE executions SET until = 1", {})
                assert (await two.do(action(lamps), HALL, CALL, silent)).status is Status.DONE
                taken.set()

        with pytest.raises(Conflict):
            await one.do(action(lamps), HALL, CALL, sleeps)
        assert taken.is_set() and lamps.effects == 1
        known = await one.known("k1", CALL)
    assert known is not None and known.status is Status.DONE


async def test_a_long_action_stays_its_process_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr("opswarm.actions.execution._RENEW_SECONDS", 0.1)
    lamps = Lamps(holds=True)
    async with process(tmp_path) as one, process(tmp_path) as two:
        doing = asyncio.create_task(one.do(action(lamps), HALL, CALL, silent))
        await lamps.holding.wait()
        await asyncio.sleep(1.0)
        assert await two.broken_off() == []
        lamps.hold.set()
        await doing
    assert lamps.effects == 1


async def test_what_is_stopped_is_let_go_of_at_once(tmp_path: Path) -> None:
    lamps = Lamps(holds=True)
    async with process(tmp_path) as one:
        doing = asyncio.create_task(one.do(action(lamps), HALL, CALL, silent))
        await lamps.holding.wait()
    with suppress(asyncio.CancelledError):
        await doing
    async with process(tmp_path) as two:
        assert [i.key for i in await two.broken_off()] == ["k1"]


async def test_broken_off_before_the_effect_a_new_key_asks_and_then_does_it(tmp_path: Path) -> None:
    async with process(tmp_path) as one:
        await one._records.begin(HALL, CALL)
        await one._records.release("k1")
    lamps = Lamps()
    async with process(tmp_path) as two:
        assert "broken off" in await two.unsettled(CALL, "k2")
        left = await two.left(CALL, "k2")
        assert left is not None and left.key == "k1"
        assert await two.settle(action(lamps), "k1", silent, close=True) is None
        done = await two.do(action(lamps), Intent("k2", HALL.tool, HALL.arguments), CALL, silent)
        never = await two.do(action(lamps), HALL, CALL, silent)
    assert done.status is Status.DONE and never.status is Status.FAILED and lamps.effects == 1


async def used_and_broken_off(at: House, home: Path) -> str:
    """An approval whose action was begun and cut off before the effect."""
    asked = await at.switch("hall")
    assert asked.approval is not None
    await at.answer(asked.approval.id)
    with replaced(Records, "begin", _begins_and_dies):
        assert not (await at.switch("hall", proposal=asked.approval.id)).ok
    with sqlite3.connect(home / "data" / "lamps.db") as database:
        database.execute("UPDATE proposals SET state = 'used'")
    return asked.approval.id


_begin = Records.begin


async def _begins_and_dies(self: Records, intent: Intent, call: str) -> bool:
    await _begin(self, intent, call)
    await self.release(intent.key)
    raise Unavailable("It died here.")


async def test_attack_an_old_yes_does_nothing_in_a_world_that_changed_after_it_was_broken_off(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        id = await used_and_broken_off(at, tmp_path)
        at.lamps.lit["hall"] = True
        anew = await at.switch("hall", proposal=id)
        stale = await at.switch("hall", proposal=id)
    assert anew.approval is not None and anew.approval.id != id and "changed" in anew.text
    assert not stale.ok and at.lamps.effects == 0


async def test_in_the_same_world_what_was_broken_off_is_gone_on_with(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        id = await used_and_broken_off(at, tmp_path)
        done = await at.switch("hall", proposal=id)
    assert done.ok and "It is lit." in done.text and at.lamps.effects == 1


async def test_the_callers_key_leads_to_what_was_approved_under_it(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall", key="once")
        assert asked.approval is not None
        same = await at.switch("hall", key="once")
        await at.answer(asked.approval.id)
        done = await at.switch("hall", proposal=asked.approval.id)
        repeated = await at.switch("hall", key="once")
        refused = await at.switch("desk", key="once")
    assert same.approval is not None and same.approval.id == asked.approval.id
    assert done.ok and repeated.ok and repeated.approval is None and "the first time" in repeated.text
    assert not refused.ok and at.lamps.effects == 1


async def test_a_key_whose_call_was_refused_by_a_person_stays_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall", key="once")
        assert asked.approval is not None
        await at.answer(asked.approval.id, approve=False)
        again = await at.switch("hall", key="once")
    assert not again.ok and "said no" in again.text


async def test_an_approval_that_nobody_used_in_time_stands_in_nobodys_way(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute("UPDATE proposals SET signed = 'ended'")
        preview = await at.call({"name": "hall", "dry_run": True})
        anew = await at.switch("hall")
        assert anew.approval is not None and anew.approval.id != asked.approval.id
        await at.answer(anew.approval.id)
        done = await at.switch("hall")
    assert "Would do" in preview.text and done.ok and at.lamps.effects == 1


async def test_a_planner_that_breaks_or_hangs_is_in_the_audit(tmp_path: Path) -> None:
    async def breaks(self: Lamps, name: str, on: bool = True) -> Plan:
        raise ZeroDivisionError

    async def hangs(self: Lamps, name: str, on: bool = True) -> Plan:
        raise TimeoutError

    for how in (breaks, hangs):
        home = tmp_path / how.__name__
        home.mkdir()
        how.__name__, how.__doc__ = "lamp_switch", "Switches."
        with replaced(Lamps, "lamp_switch", how):
            async with house(home, policy=SAFE) as at:
                failed = await at.switch("hall")
                assert not failed.ok and "could not be worked out" in failed.text
                assert await at.told() == ["failed"]


async def test_attack_text_that_is_no_unicode_poisons_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        odd = await at.switch("hall\ud800")
        asked = await at.switch("hall")
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute(
                "INSERT INTO proposals SELECT 'odd', server, state, same, created_at, expires_at, answered_at,"
                " approver, answer, signed, '{}' FROM proposals LIMIT 1"
            )
        listed = await at.ask("GET", "/proposals", who=ORCHESTRATOR)
        more = await at.switch("desk")
    assert not odd.ok and asked.approval is not None and more.approval is not None
    assert [p["id"] for p in listed.json()["proposals"]] == [asked.approval.id]


async def test_a_persons_own_token_is_not_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        own = await at.switch("hall", on=False, agent="")
        agents = await at.switch("hall")
        assert own.approval is not None and agents.approval is not None
        proofs = [(await at.proposal(id)).proof for id in (own.approval.id, agents.approval.id)]
        kept = (tmp_path / "data" / "lamps.db").read_bytes() + (tmp_path / "data" / "lamps.db-wal").read_bytes()
    assert proofs[0] == "" and proofs[1]
    assert at.token(ANN).encode() not in kept


async def test_a_repeat_of_what_is_being_done_waits_though_the_world_lets_nobody_plan_it_any_more(
    tmp_path: Path,
) -> None:
    lamps = Lamps(holds=True)
    async with house(tmp_path, lamps, SAFE) as at:
        first = asyncio.create_task(at.switch("hall", key="one"))
        await lamps.holding.wait()
        planned, lamps.lit = lamps.lit, {}  # As a pod that is being deleted can't be deleted.
        again = asyncio.create_task(at.switch("hall", key="one"))
        await asyncio.sleep(0.3)
        lamps.lit = planned
        lamps.hold.set()
        done, repeated = await asyncio.gather(first, again)
    assert done.ok and repeated.ok and "the first time" in repeated.text and lamps.effects == 1


async def test_what_was_done_and_cut_off_is_told_to_who_comes_again(tmp_path: Path) -> None:
    lamps = Lamps()
    async with process(tmp_path) as one:
        await one._records.begin(HALL, CALL)
        await lamps.perform(HALL)
        await one._records.release("k1")
    async with process(tmp_path) as two:
        outcome = await two.became(action(lamps), "k1", CALL, silent)
        assert await two.unsettled(CALL, "k2") == "", "it was heard"
    assert outcome is not None and outcome.status is Status.DONE and lamps.effects == 1


async def test_attack_an_action_whose_hold_is_lost_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is cut off from the database while another one, which is not, may take the action over."""
    monkeypatch.setattr(records, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr("opswarm.actions.execution._RENEW_SECONDS", 0.1)
    lamps = Lamps(holds=True)
    async with process(tmp_path) as one:
        doing = asyncio.create_task(one.do(action(lamps), HALL, CALL, silent))
        await lamps.holding.wait()
        with replaced(Records, "renew", _cut_off):
            outcome = await asyncio.wait_for(doing, 3)
        lamps.hold.set()
    assert outcome.status is Status.UNKNOWN and "broke it off" in outcome.text and lamps.effects == 0


async def _cut_off(self: Records, key: str, intent: Intent | None = None) -> bool:
    raise Unavailable("The database does not answer.")


async def test_a_later_failure_does_not_settle_what_is_not_known(tmp_path: Path) -> None:
    lamps = Lamps(breaks="after", mute=True)
    async with process(tmp_path) as at:
        assert (await at.do(action(lamps), HALL, CALL, silent)).status is Status.UNKNOWN
        lamps.breaks, lamps.mute = "before", False
        second = Intent("k2", HALL.tool, HALL.arguments)
        assert (await at.do(action(lamps), second, CALL, silent)).status is Status.FAILED
        assert "not known whether it was done" in await at.unsettled(CALL, "k3")
        lamps.breaks = ""
        third = Intent("k3", HALL.tool, HALL.arguments)
        assert (await at.do(action(lamps), third, CALL, silent)).status is Status.DONE
        assert await at.unsettled(CALL, "k4") == ""


async def test_attack_a_yes_from_before_it_was_tried_is_asked_for_again(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
        call = digest(["lamp_switch", {"name": "hall", "on": True}])
        with sqlite3.connect(tmp_path / "data" / "lamps.db") as database:
            database.execute(
                "INSERT INTO executions SELECT server, 'other', 'unknown', ?, '0', 'b', 0, ?, ?, ? FROM proposals",
                (call, time.time(), '{"key": "other", "tool": "lamp_switch", "arguments": {}}',
                 '{"text": "", "after": {}, "verified": null}'),
            )  # fmt: skip
        anew = await at.switch("hall", proposal=asked.approval.id)
        assert anew.approval is not None and anew.approval.id != asked.approval.id, anew
        assert "not known whether it was done" in anew.text and at.lamps.effects == 0
        await at.answer(anew.approval.id)
        assert (await at.switch("hall", proposal=anew.approval.id)).ok, "they knew of it this time"


async def test_what_a_pause_holds_up_may_go_through_later(tmp_path: Path) -> None:
    FileControl(tmp_path / "control.json").change_now(paused=True, reason="a test", by="person:bob")
    async with house(tmp_path, policy=SAFE) as at:
        held = await at.switch("hall", key="one")
        refused = await at.switch("nowhere", key="two")
    assert not held.ok and held.later and at.lamps.effects == 0
    assert not refused.ok and refused.later, "nothing is looked at while it is paused"
    FileControl(tmp_path / "control.json").change_now(paused=False, reason="", by="person:bob")
    async with house(tmp_path, policy=SAFE) as at:
        refused = await at.switch("nowhere", key="two")
    assert not refused.ok and not refused.later
