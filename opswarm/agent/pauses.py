"""What waits with a parked task, beside the task itself: what its agent needs to go on, which is nobody else's."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from opswarm.errors import NotFound
from opswarm.store.database import Database
from opswarm.store.tasks import TERMINAL

_KEEP_SECONDS = 14 * 86_400.0
"""Longer than anything waits for a person."""

_ENDED = ", ".join(str(int(state)) for state in sorted(TERMINAL))

B = TypeVar("B", bound=BaseModel)


class Pauses(Generic[B]):
    """Kept by task id, one a task, until its end is stored. In the database of the tasks, which is to be open when
    this is opened; `open` it first. Each method raises `Unavailable` with its database."""

    def __init__(self, database: Database, service: str, kind: type[B]) -> None:
        self._database = database
        self._service = service
        self._kind = kind

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS pauses (service VARCHAR(64) NOT NULL, task_id VARCHAR(64) NOT NULL,"
                " saved_at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL, PRIMARY KEY (service, task_id))"
            ]
        )
        await self._database.write(
            "DELETE FROM pauses WHERE service = :service AND (saved_at < :until OR EXISTS (SELECT 1 FROM tasks"
            f" WHERE tasks.id = pauses.task_id AND tasks.state IN ({_ENDED})))",
            {"service": self._service, "until": time.time() - _KEEP_SECONDS},
        )

    async def keep(self, task_id: str, paused: B) -> None:
        await self._database.write(
            "INSERT INTO pauses (service, task_id, saved_at, body) VALUES (:service, :task_id, :now, :body)"
            " ON CONFLICT (service, task_id) DO UPDATE SET saved_at = excluded.saved_at, body = excluded.body",
            {
                "service": self._service,
                "task_id": task_id,
                "now": time.time(),
                "body": paused.model_dump_json(),
            },
        )

    async def find(self, task_id: str) -> B:
        """Raises `NotFound` where nothing waits, or what was kept can't be read by this version."""
        rows = await self._database.rows(
            "SELECT body FROM pauses WHERE service = :service AND task_id = :task_id",
            {"service": self._service, "task_id": task_id},
        )
        try:
            return self._kind.model_validate_json(rows[0][0])
        except (IndexError, ValidationError) as error:
            raise NotFound("What this task waited with is gone.", hint="Ask again in a new task.") from error

    async def all(self) -> list[B]:
        """Everything that waits. What this version can't read is left out."""
        rows = await self._database.rows("SELECT body FROM pauses WHERE service = :service", {"service": self._service})
        found = []
        for row in rows:
            with suppress(ValidationError):
                found.append(self._kind.model_validate_json(row[0]))
        return found

    async def drop(self, task_id: str) -> None:
        await self._database.write(
            "DELETE FROM pauses WHERE service = :service AND task_id = :task_id",
            {"service": self._service, "task_id": task_id},
        )
