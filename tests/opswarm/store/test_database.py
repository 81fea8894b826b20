"""The same SQL on either way to a database."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opswarm.errors import Unavailable
from opswarm.store import database as module
from opswarm.store.database import Database, Pooled, Sqlite, database


@pytest_asyncio.fixture(params=["sqlite", "pooled", "postgres"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "x.db"
    made: Database = Sqlite(path)
    if request.param == "pooled":
        made = Pooled(f"sqlite+aiosqlite:///{path}")
    elif request.param == "postgres":
        made = database(request.getfixturevalue("postgres_url"))
    await made.script(["CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, said VARCHAR(20))"])
    yield made
    await made.close()


async def test_what_is_written_is_read(opened: Database) -> None:
    await opened.write("INSERT INTO t VALUES (:id, :said)", {"id": 1, "said": "it's; -- one"})
    found = await opened.rows("SELECT id, said FROM t WHERE said = :said", {"said": "it's; -- one", "spare": 1})
    assert [tuple(r) for r in found] == [(1, "it's; -- one")]


async def test_the_first_is_kept_and_the_second_gets_it(opened: Database) -> None:
    for said in ("one", "two"):
        found = await opened.first_or(
            "SELECT said FROM t WHERE id = :id", "INSERT INTO t VALUES (:id, :said)", {"id": 1, "said": said}
        )
    assert found is not None and tuple(found) == ("one",)


async def test_a_statement_outlives_its_caller(opened: Database) -> None:
    writing = asyncio.create_task(opened.write("INSERT INTO t VALUES (:id, 'x')", {"id": 1}))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    async with asyncio.timeout(5):
        while not await opened.rows("SELECT id FROM t", {}):
            await asyncio.sleep(0.01)


async def test_what_the_database_refuses_is_unavailable_and_the_next_statement_is_not(opened: Database) -> None:
    with pytest.raises(Unavailable):
        await opened.rows("SELECT nothing FROM nowhere", {})
    assert [tuple(r) for r in await opened.rows("SELECT 1", {})] == [(1,)]


async def test_many_at_once_wait_for_each_other(opened: Database) -> None:
    await asyncio.gather(*(opened.write("INSERT INTO t VALUES (:id, 'x')", {"id": n}) for n in range(200)))
    assert (await opened.rows("SELECT count(*) FROM t", {}))[0][0] == 200


async def test_a_file_that_is_locked_is_waited_for_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_MILLISECONDS", 50)
    path = tmp_path / "x.db"
    made = Sqlite(path)
    await made.script(["CREATE TABLE t (id INTEGER)"])
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable):
        await made.write("INSERT INTO t VALUES (1)", {})
    other.rollback()
    other.close()
    await made.write("INSERT INTO t VALUES (1)", {})
    await made.close()


async def test_a_closed_database_is_not_opened_again_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    made = database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    await made.rows("SELECT 1", {})
    await made.close()
    with pytest.raises(Unavailable, match="closed"):
        await made.rows("SELECT 1", {})
    assert not {t for t in threading.enumerate() if t.name == "sqlite"} - before


async def test_many_are_written_together_or_not_at_all(opened: Database) -> None:
    await opened.write_many("INSERT INTO t VALUES (:id, 'x')", [{"id": n} for n in range(3)])
    with pytest.raises(Unavailable):
        await opened.write_many("INSERT INTO t VALUES (:id, 'x')", [{"id": 7}, {"id": 1}])
    await opened.write("INSERT INTO t VALUES (:id, 'x')", {"id": 9})
    assert [tuple(r) for r in await opened.rows("SELECT id FROM t ORDER BY id", {})] == [(0,), (1,), (2,), (9,)]


async def test_a_postgres_that_refuses_is_unavailable(postgres_url: str) -> None:
    base, _, query = postgres_url.partition("?")
    refusing = database(f"{base}_none?{query}")
    with pytest.raises(Unavailable):
        await refusing.rows("SELECT 1", {})
    await refusing.close()
