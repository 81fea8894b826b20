"""What is kept beside a parked task."""

from __future__ import annotations

from pathlib import Path

import pytest
from a2a.types import Message, Part, Role, Task, TaskState, TaskStatus
from pydantic import BaseModel

from opswarm.agent.pauses import Pauses
from opswarm.errors import NotFound
from opswarm.store.tasks import Tasks


class Kept(BaseModel):
    note: str


def task(id: str, state: TaskState) -> Task:
    said = Message(message_id=f"m-{id}", role=Role.ROLE_USER, parts=[Part(text="hello")])
    return Task(id=id, context_id="c", status=TaskStatus(state=state), history=[said])


async def test_what_a_kill_left_behind_of_tasks_that_have_ended_is_tidied_up_at_the_next_start(tmp_path: Path) -> None:
    store = Tasks(f"sqlite+aiosqlite:///{tmp_path / 't.db'}", "s")
    await store.open()
    pauses = Pauses[Kept](store.database, "s", Kept)
    await pauses.open()
    states = {
        "waits": TaskState.TASK_STATE_INPUT_REQUIRED,
        "begins": TaskState.TASK_STATE_WORKING,  # Another replica is about to park it.
        "ended": TaskState.TASK_STATE_COMPLETED,
        "failed": TaskState.TASK_STATE_FAILED,
    }
    for id, state in states.items():
        await store.save(task(id, state), "person:ann")
        await pauses.keep(id, Kept(note=id))
    await pauses.open()
    assert {p.note for p in await pauses.all()} == {"waits", "begins"}
    with pytest.raises(NotFound):
        await pauses.find("ended")
    await store.close()
