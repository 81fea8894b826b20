"""The record: whole, or it shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from opswarm.actions.audit import Audit
from opswarm.actions.chain import Event, Head, faults, unchecked
from opswarm.errors import InvalidInput, Unavailable
from opswarm.store.database import Database, database
from tests.support.databases import locked

KEY = Ed25519PrivateKey.generate()


@asynccontextmanager
async def record(path: Path, entries: int = 0) -> AsyncIterator[tuple[Audit, Database, list[Head]]]:
    store = database(f"sqlite+aiosqlite:///{path / 'a.db'}")
    audit = Audit(store, "lamps", KEY)
    await audit.open()
    heads = [await audit.add(Event(event="executed", tool=f"tool_{n}", arguments={"n": n})) for n in range(entries)]
    try:
        yield audit, store, heads
    finally:
        await store.close()


async def test_attack_an_entry_is_not_hidden_from_a_list_by_the_column_of_its_tool(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, store, _):
        await store.write("UPDATE audit SET tool = 'other' WHERE number = 3", {})
        assert [e.number for e in await audit.entries(tool="tool_2")] == [3]
        assert await audit.entries(tool="other") == []
        assert [e.number for e in await audit.entries(tool="tool_2", after=3)] == []


async def wrong(audit: Audit, *heads: Head, key: Ed25519PrivateKey = KEY) -> list[str]:
    return faults(list(await audit.entries()), await audit.anchor(), key.public_key(), heads)


async def test_an_untouched_record_is_whole_and_holds_every_head(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, _, heads):
        assert await wrong(audit, *heads) == []
        assert [h.number for h in heads] == [1, 2, 3, 4, 5] and str(await audit.head()) == str(heads[-1])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE audit SET body = REPLACE(body, 'tool_2', 'tool_9') WHERE number = 3", "Entry 3 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE number = 2", "Entry 2 was changed"),
        ("DELETE FROM audit WHERE number = 3", "Entries 3 to 3 are missing"),
        ("DELETE FROM audit WHERE number = 1", "Entries 1 to 1 are missing"),
        ("DELETE FROM audit WHERE number > 3", "its tail was cut off"),
        ("DELETE FROM audit", "its tail was cut off"),
    ],
)
async def test_attack_what_is_edited_removed_or_cut_off_shows(tmp_path: Path, harm: str, told: str) -> None:
    async with record(tmp_path, 5) as (audit, store, heads):
        await store.write(harm, {})
        assert any(told in fault for fault in await wrong(audit, heads[-1]))


async def test_attack_a_record_written_anew_does_not_hold_the_head_that_was_kept(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, store, heads):
        await store.write("DELETE FROM audit", {})
        restarted = Audit(store, "lamps", KEY)
        for n in range(5):
            await restarted.add(Event(event="executed", tool=f"other_{n}"))
        assert await wrong(audit) == []
        assert any("is not the one that the head was taken of" in f for f in await wrong(audit, heads[-1]))


async def test_attack_a_forged_head_or_anchor_is_told(tmp_path: Path) -> None:
    async with record(tmp_path, 3) as (audit, _, heads):
        assert any("not signed" in f for f in await wrong(audit, replace(heads[1], signature="00" * 64)))
        await audit.prune(heads[-1].number + 10**12)
        assert await wrong(audit) == []
        assert any("anchor" in f for f in await wrong(audit, key=Ed25519PrivateKey.generate()))


async def test_old_entries_are_dropped_and_what_is_left_is_still_whole(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, _, heads):
        entries = await audit.entries()
        await audit.prune(entries[2].at + 1e-7 if entries[2].at < entries[3].at else entries[3].at)
        assert "can't be checked" in unchecked(await audit.anchor(), [heads[0]])[0]
        await audit.add(Event(event="executed", tool="later"))
        left = await audit.entries()
        anchor = await audit.anchor()
        assert anchor is not None and left[0].number == anchor.number + 1 and left[-1].number == 6
        assert await wrong(audit, heads[-1], replace(heads[0], at=0, signature="")) == []


async def test_the_newest_entry_is_never_dropped(tmp_path: Path) -> None:
    async with record(tmp_path, 3) as (audit, _, _heads):
        await audit.prune(10**12)
        assert [e.number for e in await audit.entries()] == [3] and await wrong(audit) == []


@pytest.mark.parametrize("harm", ["DELETE FROM audit WHERE number > 3", "DELETE FROM audit"])
async def test_attack_nothing_is_added_to_a_record_that_was_cut_off(tmp_path: Path, harm: str) -> None:
    async with record(tmp_path, 5) as (audit, store, _):
        await store.write(harm, {})
        with pytest.raises(Unavailable, match="was changed"):
            await audit.add(Event(event="executing", tool="t"))


async def test_attack_a_kept_head_is_no_anchor(tmp_path: Path) -> None:
    """With the log at hand: drop what came before a head, and put the head where an anchor would be."""
    async with record(tmp_path, 5) as (audit, store, heads):
        await store.write("DELETE FROM audit WHERE number <= 3", {})
        await store.write(
            "INSERT INTO audit_starts (server, number, hash, at, signature)"
            " VALUES ('lamps', 3, :hash, :at, :signature)",
            {"hash": heads[2].hash, "at": heads[2].at, "signature": heads[2].signature},
        )
        assert any("anchor" in f for f in await wrong(audit))


async def test_attack_the_server_can_t_be_made_to_drop_what_is_young(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, store, heads):
        await store.write("UPDATE audit SET at = 1", {})
        await audit.prune(1_000.0)
        assert len(await audit.entries()) == 5 and await audit.anchor() is None
        # With all hashes made anew, which takes no key: the chain holds, and is not the one of the heads.
        before, whole = "0" * 64, await audit.entries()
        for entry in whole:
            entry = entry.model_copy(update={"before": before})
            before = entry.computed()
            await store.write(
                "UPDATE audit SET before = :before, hash = :hash WHERE number = :number",
                {"before": entry.before, "hash": before, "number": entry.number},
            )
        await Audit(store, "lamps", KEY).prune(1_000.0)
        assert await wrong(audit) == []
        assert any("younger" in f for f in await wrong(audit, heads[1]))


async def test_attack_an_emptied_record_does_not_begin_below_its_anchor(tmp_path: Path) -> None:
    async with record(tmp_path, 5) as (audit, store, heads):
        await audit.prune(10**12)
        await store.write("DELETE FROM audit", {})
        again = Audit(store, "lamps", KEY)
        assert (await again.add(Event(event="executed", tool="t"))).number == 5
        assert any("not the one" in f for f in await wrong(again, heads[-1]))
        await store.write("DELETE FROM audit", {})
        await store.write("UPDATE audit_starts SET number = 0", {})
        with pytest.raises(Unavailable, match="not signed"):
            await Audit(store, "lamps", KEY).add(Event(event="executed", tool="t"))


async def test_many_at_once_and_two_replicas_make_one_chain(tmp_path: Path) -> None:
    async with record(tmp_path) as (audit, store, _heads):
        other = Audit(store, "lamps", KEY)
        await asyncio.gather(*((audit, other)[n % 2].add(Event(event="denied", tool=str(n))) for n in range(40)))
        assert len(await audit.entries(most=100)) == 40 and await wrong(audit) == []


async def test_keys_and_tokens_are_masked_and_long_things_cut_before_they_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-ant-" + "z" * 30
    event = Event(
        event="failed", tool="t", text=f"{secret} {'x' * 9_000}",
        arguments={"token": secret, "half": "\ud800", "pem": "-----BEGIN PRIVATE KEY-----\nabc", "n": 1},
        state={"big": "y" * 99_999},
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="opswarm.audit"):
        async with record(tmp_path) as (audit, store, _heads):
            await audit.add(event)
            (row,) = await store.rows("SELECT body FROM audit", {})
            assert await wrong(audit) == []
    assert secret not in row[0] and secret not in caplog.text and "[redacted]" in row[0]
    assert len(row[0]) < 20_000 and '"n":1' in row[0]


async def test_what_cant_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opswarm.store.database.BUSY_MILLISECONDS", 50)
    async with record(tmp_path) as (audit, _, _heads):
        with locked(tmp_path / "a.db"), pytest.raises(Unavailable):
            await audit.add(Event(event="executing", tool="t"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "x:" + "0" * 64,
        "1:short",
        "1:" + "0" * 64 + ":5:zz",
        "1:" + "0" * 64 + ":zz",
        "1" * 19 + ":" + "0" * 64,
        "²:" + "0" * 64,
        "-1:" + "0" * 64,
    ],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Head.parse("lamps", text)
