"""What a tool server does while actions are paused."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from opswarm.guard.control import FileControl
from tests.opswarm.actions.conftest import House, house
from tests.support.hosting import until

SAFE = "version: 1\nautonomy: {default: safe}\n"


def kept(home: House) -> FileControl:
    return FileControl(home.settings.control_file())


async def refused(home: House) -> bool:
    result = await home.switch("desk")
    return not result.ok and "paused" in result.text


async def test_actions_are_refused_within_a_second_of_a_pause_and_reads_go_on(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as home:
        assert (await home.switch("desk")).ok
        await kept(home).change(paused=True, reason="flood in the cellar", by="person:bob")
        began = time.monotonic()
        await until(lambda: refused(home))
        assert time.monotonic() - began < 1.5
        told = await home.switch("hall")
        assert "person:bob" in told.text and "flood in the cellar" in told.text
        assert not home.lamps.lit["hall"]
        assert (await home.client.call("lamps_list", {}, read_only=True)).ok


async def test_actions_are_done_again_after_a_resumption(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as home:
        await kept(home).change(paused=True, reason="", by="person:bob")
        await until(lambda: refused(home))
        await kept(home).change(paused=False, reason="", by="person:bob")

        async def done() -> bool:
            return (await home.switch("desk")).ok

        await until(done)
        assert home.lamps.lit["desk"]


async def test_a_tool_server_that_starts_during_a_pause_refuses_at_once(tmp_path: Path) -> None:
    FileControl(tmp_path / "control.json").change_now(paused=True, reason="", by="person:bob")
    async with house(tmp_path, policy=SAFE) as home:
        assert await refused(home)
        assert home.lamps.effects == 0


async def test_a_state_that_can_not_be_read_refuses_actions(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text("{")
    async with house(tmp_path, policy=SAFE) as home:
        assert await refused(home)


async def test_an_action_under_way_takes_no_further_step_after_a_pause(tmp_path: Path) -> None:
    async with house(tmp_path, policy=SAFE) as home:
        home.lamps.holds = home.lamps.steps = True
        doing = asyncio.create_task(home.switch("desk"))
        await home.lamps.holding.wait()
        await kept(home).change(paused=True, reason="flood in the cellar", by="person:bob")
        await until(lambda: refused(home))
        home.lamps.hold.set()
        told = await doing
        assert not told.ok and "flood in the cellar" in told.text
        assert home.lamps.effects == 0
        assert [e["event"] for e in await home.audit() if e["event"] in ("executing", "executed", "failed")][:2] == [
            "executing",
            "failed",
        ]
