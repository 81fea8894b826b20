"""The task store when the disk does not do what it should."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from a2a.types import ListTasksRequest, Message, Part, Role, Task, TaskState

from opswarm.errors import Unavailable
from opswarm.store import database
from opswarm.store.tasks import Tasks
from tests.support.databases import locked

OWNER = "person:x"


def a_task(task_id: str, state: TaskState, *, days_ago: float = 0.0) -> Task:
    task = Task(id=task_id, context_id="c")
    task.history.append(Message(message_id=f"m-{task_id}", role=Role.ROLE_USER, parts=[Part(text="q")]))
    task.status.state = state
    task.status.timestamp.FromNanoseconds(time.time_ns() - int(days_ago * 86_400e9))
    return task


async def opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 50)
    tasks = Tasks(f"sqlite+aiosqlite:///{path}", "s")
    await tasks.open()
    return tasks


def states(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        return dict(connection.execute("SELECT id, state FROM tasks").fetchall())


async def test_the_end_of_a_task_outlives_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.db"
    tasks = await opened(path, monkeypatch)
    await tasks.save(a_task("1", TaskState.TASK_STATE_WORKING), OWNER)
    with locked(path):
        await tasks.save(a_task("1", TaskState.TASK_STATE_COMPLETED), OWNER)
        found = await tasks.get("1", OWNER)
        with pytest.raises(Unavailable):
            await tasks.ping()
        with pytest.raises(Unavailable, match="can't be written"):
            await tasks.begin(a_task("2", TaskState.TASK_STATE_SUBMITTED), OWNER)
    assert found is not None and found.status.state == TaskState.TASK_STATE_COMPLETED
    await tasks.ping()
    assert states(path) == {"1": int(TaskState.TASK_STATE_COMPLETED)}
    await tasks.close()


async def test_a_row_that_can_not_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.db"
    tasks = await opened(path, monkeypatch)
    for name in ("1", "2"):
        await tasks.save(a_task(name, TaskState.TASK_STATE_COMPLETED), OWNER)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tasks SET body = x'ff' WHERE id = '1'")
    page = await tasks.list(ListTasksRequest(), OWNER)
    assert [t.id for t in page.tasks] == ["2"]
    await tasks.close()


async def test_old_tasks_go_and_unfinished_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.db"
    tasks = await opened(path, monkeypatch)
    await tasks.save(a_task("old", TaskState.TASK_STATE_COMPLETED, days_ago=40), OWNER)
    await tasks.save(a_task("new", TaskState.TASK_STATE_COMPLETED, days_ago=20), OWNER)
    await tasks.save(a_task("waiting", TaskState.TASK_STATE_INPUT_REQUIRED, days_ago=40), OWNER)
    await tasks.close()
    again = await opened(path, monkeypatch)
    assert set(states(path)) == {"new", "waiting"}
    await again.close()


async def test_postgres_keeps_tasks_like_sqlite_does(postgres_url: str) -> None:
    tasks = Tasks(postgres_url, "s")
    await tasks.open()
    assert await tasks.begin(a_task("1", TaskState.TASK_STATE_SUBMITTED), OWNER) is None
    known = await tasks.begin(a_task("1", TaskState.TASK_STATE_SUBMITTED), OWNER)
    assert known is not None and known.id == "1", "the same message begins one task"
    await tasks.save(a_task("1", TaskState.TASK_STATE_COMPLETED), OWNER)
    await tasks.begin(a_task("2", TaskState.TASK_STATE_SUBMITTED), OWNER)
    assert [t.id for t in (await tasks.list(ListTasksRequest(page_size=1), OWNER)).tasks] == ["2"]
    assert await tasks.get("1", "person:y") is None
    await tasks.close()
    again = Tasks(postgres_url, "s")
    await again.open()
    found = await again.get("2", OWNER)
    assert found is not None and found.status.state == TaskState.TASK_STATE_FAILED, "what was at work has ended"
    await again.close()
