"""Durable work: what a stop leaves behind, and what it leaves alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dbos import DBOS, SetWorkflowID

from opswarm.workflows import forget_ended, interruptible, workflows
from tests.support.hosting import settings_at, until

_VERSION = "test-1"
_open: list[bool] = []


@DBOS.step(name="test_work")
async def work() -> None:
    if not _open:
        raise RuntimeError("The service is gone.")


@DBOS.workflow(name="test_worker")
async def worker(seconds: float) -> str:
    with interruptible():
        await DBOS.sleep_async(seconds)
        await work()
        return "done"


async def begin(id: str, seconds: float = 0.0) -> None:
    with SetWorkflowID(id):
        await DBOS.start_workflow_async(worker, seconds)


async def states() -> dict[str, int]:
    found: dict[str, int] = {}
    for one in await DBOS.list_workflows_async(load_input=False, load_output=False):
        found[one.status] = found.get(one.status, 0) + 1
    return found


@pytest.fixture(autouse=True)
def _closed() -> None:
    _open.clear()


async def test_threads_of_the_loop_serve_everybody_else_while_workflows_end(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    async def another_service() -> int:
        count = 0
        while not stopped.is_set():
            count += await asyncio.to_thread(int, 1)
            await asyncio.sleep(0)
        return count

    async with workflows(settings_at(tmp_path), "test", _VERSION):
        _open.append(True)
        other = asyncio.create_task(another_service())
        for n in range(5):
            await begin(f"w{n}", 30)
    await asyncio.to_thread(int, 1)
    stopped.set()
    assert await other > 0


async def test_a_workflow_that_begins_while_the_service_stops_has_no_end_and_is_gone_on_with(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    begun = 0

    async def begins() -> None:
        nonlocal begun
        for n in range(2_000):
            await begin(f"w{n}")
            begun = n + 1
            await asyncio.sleep(0.01)  # Or a slow machine has thousands to end.

    async with workflows(settings, "test", _VERSION):
        _open.append(True)
        beginning = asyncio.create_task(begins())
        await until(lambda: begun > 3)
        _open.clear()  # As a service takes its things away when it stops.
        before = begun
    beginning.cancel()
    await asyncio.gather(beginning, return_exceptions=True)
    assert before < begun  # Some began after the stop.
    async with workflows(settings, "test", _VERSION):
        _open.append(True)

        async def over() -> bool:
            return set(await states()) == {"SUCCESS"}

        await until(over)


async def test_what_ended_long_ago_is_forgotten_and_what_goes_on_is_not(tmp_path: Path) -> None:
    async with workflows(settings_at(tmp_path), "test", _VERSION):
        _open.append(True)
        await begin("ended")
        await begin("sleeps", 60)

        async def ended() -> bool:
            return await states() == {"SUCCESS": 1, "PENDING": 1}

        await until(ended)
        await forget_ended(1.0)
        assert await ended()
        await forget_ended(0.0)
        assert await states() == {"PENDING": 1}
