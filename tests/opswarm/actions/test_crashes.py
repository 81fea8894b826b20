"""kill -9 of a tool server at each instant of an action: it is done once, or said to be unknown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from opswarm.errors import OpswarmError
from opswarm.mcp.client import ToolServerClient
from tests.opswarm.actions.conftest import House
from tests.support.hosting import free_port, settings_at
from tests.support.lamps import Lamps

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def server(home: Path, crash: str) -> AsyncIterator[House]:
    port = free_port()
    world = home / "world.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.lamp_server", str(home), str(port), str(world), crash,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
    url = f"http://127.0.0.1:{port}"
    made = House(url, settings_at(home), Lamps(), ToolServerClient("lamps", url))
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await made.client.aclose()
        await made.http.aclose()


def effects(home: Path) -> int:
    world = home / "world.json"
    return int(json.loads(world.read_text())["effects"]) if world.exists() else 0


@pytest.mark.parametrize(("crash", "by_then"), [("before", 0), ("after", 1), ("recorded", 1)])
async def test_killed_in_the_middle_an_approved_action_is_done_exactly_once(
    tmp_path: Path, crash: str, by_then: int
) -> None:
    async with server(tmp_path, crash) as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        id = asked.approval.id
        await at.answer(id)
        with pytest.raises(OpswarmError):
            await at.switch("hall", proposal=id)
    assert effects(tmp_path) == by_then
    async with server(tmp_path, "never") as at:
        done = await at.switch("hall", proposal=id)
        again = await at.switch("hall", proposal=id)
        told = await at.told()
    assert done.ok and again.ok, (done, again)
    assert effects(tmp_path) == 1
    assert told.count("executed") == 1 and told[:3] == ["needs_approval", "approved", "executing"]


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_killed_in_the_middle_a_call_with_a_key_is_done_exactly_once(tmp_path: Path, crash: str) -> None:
    (tmp_path / "policy.yaml").write_text("autonomy: {agents: {devops: safe}}\n")
    async with server(tmp_path, crash) as at:
        with pytest.raises(OpswarmError):
            await at.switch("hall", key="turn/1")
    async with server(tmp_path, "never") as at:
        done = await at.switch("hall", key="turn/1")
    assert done.ok and effects(tmp_path) == 1


async def test_killed_between_the_answer_and_the_execution_the_yes_still_counts(tmp_path: Path) -> None:
    async with server(tmp_path, "never") as at:
        asked = await at.switch("hall")
        assert asked.approval is not None
        await at.answer(asked.approval.id)
    async with server(tmp_path, "never") as at:
        done = await at.switch("hall", proposal=asked.approval.id)
    assert done.ok and effects(tmp_path) == 1
