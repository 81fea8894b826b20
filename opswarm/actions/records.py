"""What is known of each action that was begun: its intent, who is at it until when, and what came of it.

Of the same call one at a time can be under way, whatever its key: the database sees to that.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from opswarm.actions.action import Intent
from opswarm.actions.canonical import canonical
from opswarm.store.database import Database, Row

LEASE_SECONDS = 10.0
"""How long a process is taken to be alive after it last said so. Clocks of replicas may differ by less than that."""


class Status(StrEnum):
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    """It was tried, and the world says that nothing was changed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action. `again` is whether this is the result of an earlier call with the same key."""

    status: Status
    text: str
    after: Mapping[str, Any] = field(default_factory=dict)
    verified: bool | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One action: `call` is the hash of the call it is for, `until` (Unix seconds) how long the process `boot` has it,
    `heard` whether what came of it was told to whoever asked for it."""

    status: Status
    call: str
    boot: str
    until: float
    started: float
    intent: Intent
    outcome: Outcome
    heard: bool


class Records:
    """The records of one tool server. `open` them first. Each method raises `Unavailable` with the database."""

    def __init__(self, database: Database, server: str, *, executor: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._server = server
        self._executor = executor
        self._clock = clock
        self.boot = uuid.uuid4().hex

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS executions (server VARCHAR(64) NOT NULL, id VARCHAR(64) NOT NULL,"
                " status VARCHAR(16) NOT NULL, call VARCHAR(64) NOT NULL, executor VARCHAR(128) NOT NULL,"
                " boot VARCHAR(32) NOT NULL, until DOUBLE PRECISION NOT NULL, started DOUBLE PRECISION NOT NULL,"
                " intent TEXT NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (server, id))",
                "CREATE INDEX IF NOT EXISTS executions_by_call ON executions (server, call, started)",
                "CREATE UNIQUE INDEX IF NOT EXISTS executions_at_once ON executions (server, call)"
                " WHERE status = 'executing'",
            ]
        )

    async def begin(self, intent: Intent, call: str) -> bool:
        """Writes the intent down. False when its key is known, or the same call is under way with another key."""
        now = self._clock()
        written = await self._database.rows(
            "INSERT INTO executions (server, id, status, call, executor, boot, until, started, intent, outcome) VALUES"
            " (:server, :id, 'executing', :call, :executor, :boot, :until, :started, :intent, '')"
            " ON CONFLICT DO NOTHING RETURNING id",
            {
                "server": self._server,
                "id": intent.key,
                "call": call,
                "executor": self._executor,
                "boot": self.boot,
                "until": now + LEASE_SECONDS,
                "started": now,
                "intent": canonical(intent),
            },
        )
        return bool(written)

    async def get(self, key: str) -> Record | None:
        return _first(
            await self._database.rows(
                f"{_SELECT} WHERE server = :server AND id = :id", {"server": self._server, "id": key}
            )
        )

    async def newest(self, call: str, since: float) -> list[Record]:
        """Those of this call that were begun after `since` (Unix seconds), the newest first."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE server = :server AND call = :call AND started > :since ORDER BY started DESC LIMIT 100",
            {"server": self._server, "call": call, "since": since},
        )
        return [_record(r) for r in rows]

    async def under_way(self, call: str) -> Record | None:
        """The one of this call that is being done, or was broken off."""
        return _first(
            await self._database.rows(
                f"{_SELECT} WHERE server = :server AND call = :call AND status = 'executing'",
                {"server": self._server, "call": call},
            )
        )

    async def broken_off(self) -> list[Record]:
        """Those that nobody is at any more."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE server = :server AND status = 'executing' AND until <= :now AND boot <> :boot",
            {"server": self._server, "now": self._clock(), "boot": self.boot},
        )
        return [_record(r) for r in rows]

    async def take(self, record: Record) -> bool:
        """Takes over what another process, or an earlier call of this one, had. True for one of all that try."""
        taken = await self._database.rows(
            "UPDATE executions SET executor = :executor, boot = :boot, until = :until WHERE server = :server AND"
            " id = :id AND status = 'executing' AND boot = :was AND until = :before RETURNING id",
            {
                "executor": self._executor,
                "boot": self.boot,
                "until": self._clock() + LEASE_SECONDS,
                "server": self._server,
                "id": record.intent.key,
                "was": record.boot,
                "before": record.until,
            },
        )
        return bool(taken)

    async def renew(self, key: str, intent: Intent | None = None) -> bool:
        """Says that this process is alive, and what it is about to do where that is new. False when it has lost the
        action to another."""
        new = ", intent = :intent" if intent is not None else ""
        kept = await self._database.rows(
            f"UPDATE executions SET until = :until{new} WHERE server = :server AND id = :id"
            " AND status = 'executing' AND boot = :boot RETURNING id",
            {
                "until": self._clock() + LEASE_SECONDS,
                "server": self._server,
                "id": key,
                "boot": self.boot,
                **({"intent": canonical(intent)} if intent is not None else {}),
            },
        )
        return bool(kept)

    async def release(self, key: str) -> None:
        """Lets go of what is not ended: whoever comes next asks the world about it."""
        await self._database.write(
            "UPDATE executions SET until = 0 WHERE server = :server AND id = :id AND status = 'executing'"
            " AND boot = :boot",
            {"server": self._server, "id": key, "boot": self.boot},
        )

    async def end(self, key: str, outcome: Outcome, *, heard: bool) -> None:
        """Writes down what came of an action that this process has."""
        await self._database.write(
            "UPDATE executions SET status = :status, outcome = :outcome WHERE server = :server AND id = :id"
            " AND boot = :boot",
            {
                "status": outcome.status.value,
                "outcome": _kept(outcome, heard),
                "server": self._server,
                "id": key,
                "boot": self.boot,
            },
        )

    async def hear(self, record: Record) -> None:
        """Notes that what came of it was told."""
        await self._database.write(
            "UPDATE executions SET outcome = :outcome WHERE server = :server AND id = :id AND status = :status",
            {
                "outcome": _kept(record.outcome, True),
                "server": self._server,
                "id": record.intent.key,
                "status": record.status.value,
            },
        )

    async def drop(self, key: str) -> None:
        """Forgets an intent of this process that came to nothing."""
        await self._database.write(
            "DELETE FROM executions WHERE server = :server AND id = :id AND boot = :boot AND status = 'executing'",
            {"server": self._server, "id": key, "boot": self.boot},
        )

    async def forget(self, until: float) -> None:
        """Drops what was begun before `until` (Unix seconds) and nobody is at."""
        await self._database.write(
            "DELETE FROM executions WHERE server = :server AND started < :until"
            " AND (status <> 'executing' OR until < :now)",
            {"server": self._server, "until": until, "now": self._clock()},
        )


_SELECT = "SELECT status, call, boot, until, started, intent, outcome FROM executions"


def _first(rows: Sequence[Row]) -> Record | None:
    return _record(rows[0]) if rows else None


def _record(row: Row) -> Record:
    status, call, boot, until, started, intent, outcome = row
    kept: dict[str, Any] = json.loads(outcome) if outcome else {"text": "", "after": {}, "verified": None}
    return Record(
        status=Status(status),
        call=call,
        boot=boot,
        until=float(until),
        started=float(started),
        intent=Intent(**json.loads(intent)),
        outcome=Outcome(Status(status), kept["text"], kept["after"], kept["verified"]),
        heard=bool(kept.get("heard")),
    )


def _kept(outcome: Outcome, heard: bool) -> str:
    return canonical({"text": outcome.text, "after": outcome.after, "verified": outcome.verified, "heard": heard})
