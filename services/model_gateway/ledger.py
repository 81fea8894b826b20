"""The ledger: a row for every call of a model, in SQLite or Postgres.

Rows are written by one task, together, behind the calls: no reply waits for the disk. What can't be written is kept in
memory and written later, as far as there is room, and readiness says so; a kill loses what was not written yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from opswarm.errors import Unavailable
from opswarm.store.database import database
from services.model_gateway.budgets import Scope, Spent

log = logging.getLogger(__name__)

_KEPT_IN_MEMORY = 20_000
_AT_ONCE = 500
_AGAIN_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_TASK_SECONDS = 86_400.0
_PRUNE_SECONDS = 3_600.0
_MOST_GROUPS = 500

_COLUMNS = {
    "at": "DOUBLE PRECISION NOT NULL",
    "day": "VARCHAR(10) NOT NULL",
    "agent": "VARCHAR(128) NOT NULL",
    "person": "VARCHAR(256) NOT NULL",
    "task": "VARCHAR(64) NOT NULL",
    "tier": "VARCHAR(200) NOT NULL",
    "model": "VARCHAR(200) NOT NULL",
    "input_tokens": "BIGINT NOT NULL",
    "output_tokens": "BIGINT NOT NULL",
    "cached_tokens": "BIGINT NOT NULL",
    "cache_written_tokens": "BIGINT NOT NULL",
    "estimated": "SMALLINT NOT NULL",
    "cost_usd": "DOUBLE PRECISION",
    "seconds": "DOUBLE PRECISION NOT NULL",
    "first_token_seconds": "DOUBLE PRECISION",
    "outcome": "VARCHAR(64) NOT NULL",
    "instead_of": "VARCHAR(200) NOT NULL",
    "because": "VARCHAR(64) NOT NULL",
}
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS model_calls ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})",
    "CREATE INDEX IF NOT EXISTS model_calls_by_time ON model_calls (at)",
    "CREATE INDEX IF NOT EXISTS model_calls_by_day ON model_calls (day)",
)
_INSERT = f"INSERT INTO model_calls VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
_PRUNE = "DELETE FROM model_calls WHERE at < :before"
_PAID = "model <> 'offline/playbook'"


@dataclass(frozen=True, slots=True)
class Row:
    """One call. `at` is when it began (Unix seconds), `day` that day in the budgets' time zone.

    `tier` is what was asked for, `model` who answered. Tokens are `estimated` where the provider did not count them.
    `cost_usd` is None where no price is known. `outcome` is `ok` or an error's code. Where another model was to answer
    first, `instead_of` names it and `because` is the code of its failure.
    """

    at: float
    day: str
    agent: str
    person: str
    task: str
    tier: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_written_tokens: int
    estimated: bool
    cost_usd: float | None
    seconds: float
    first_token_seconds: float | None
    outcome: str
    instead_of: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """What the calls of one `key` came to. `cost_usd` is of the calls with a known price; `unpriced` are the others."""

    key: str
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float
    unpriced: int


BY = {"agent": "agent", "model": "model", "task": "task", "day": "day", "user": "person", "tier": "tier"}
"""What can be added up by, and its column."""


class Ledger:
    """The ledger in the database at `url`. Rows are kept for `keep_days`.

    Raises `SettingsInvalid` for a URL that is none, as `opswarm.store.database.database` does.
    """

    def __init__(self, url: str, *, keep_days: float = 30.0) -> None:
        self._database = database(url)
        self._keep_days = keep_days
        self._waiting: deque[Row] = deque()
        self._lost = 0
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._pruned = -_PRUNE_SECONDS

    async def open(self) -> None:
        """Makes the table where it is missing. Raises `Unavailable` when the database can't be used."""
        await self._database.script(_SCHEMA)
        self._writer = asyncio.create_task(self._write_on())

    async def close(self) -> None:
        """Writes what waits, and closes the database. Never raises."""
        if self._writer is not None:
            self._writer.cancel()
            with suppress(asyncio.CancelledError):
                await self._writer
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.flush()
        except (TimeoutError, Unavailable):
            log.error("%d rows of the ledger could not be written and are lost", len(self._waiting))
        await self._database.close()

    def add(self, row: Row) -> None:
        """Keeps a row; it is written soon."""
        self._waiting.append(row)
        while len(self._waiting) > _KEPT_IN_MEMORY:
            self._waiting.popleft()
            self._lost += 1
        self._news.set()

    async def flush(self) -> None:
        """Writes what waits. Raises `Unavailable` when it can't be written."""
        async with self._writing:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                writing = asyncio.create_task(self._insert(some))
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    # Finished all the same: else nobody would know whether they were written.
                    await asyncio.wait({writing})
                    raise

    async def ping(self) -> None:
        """Raises `Unavailable` when the database does not take what it is given."""
        await self.flush()
        if self._lost:
            raise Unavailable(f"{self._lost} rows of the ledger were lost.", hint="The log says which or why.")

    async def sums(self, by: str, since_day: str, *, user: str | None = None) -> Sequence[Sum]:
        """The calls from the ISO date `since_day` on, by one of `BY`, the dearest first; of one `user`, or of all.

        Raises `Unavailable` when the database can't be read.
        """
        await self.flush()
        key = BY[by]
        order = "1 DESC" if by == "day" else "7 DESC, 4 DESC"
        query = f"""
            SELECT {key}, COUNT(*), SUM(CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END),
                SUM(input_tokens), SUM(output_tokens), SUM(cached_tokens), COALESCE(SUM(cost_usd), 0.0),
                SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END)
            FROM model_calls WHERE day >= :since {"AND person = :person" if user is not None else ""}
            GROUP BY {key} ORDER BY {order} LIMIT {_MOST_GROUPS}
        """
        params = {"since": since_day} | ({"person": user} if user is not None else {})
        return [_sum(row) for row in await self._database.rows(query, params)]

    async def spent(self, day: str) -> Mapping[Scope, Spent]:
        """What counts against budgets: of the ISO date `day`, and of the tasks of the last 24 hours."""
        what = "SUM(input_tokens + output_tokens), COALESCE(SUM(cost_usd), 0.0) FROM model_calls"
        found: dict[Scope, Spent] = {}
        total = Spent()
        today = f"SELECT agent, {what} WHERE day = :day AND {_PAID} GROUP BY agent"
        for agent, used, money in await self._database.rows(today, {"day": day}):
            found[Scope("agent_day", agent, day)] = Spent(int(used), float(money))
            total = Spent(total.tokens + int(used), total.usd + float(money))
        found[Scope("swarm_day", day=day)] = total
        tasks = f"SELECT task, {what} WHERE at >= :since AND task <> '' AND {_PAID} GROUP BY task"
        for task, used, money in await self._database.rows(tasks, {"since": time.time() - _TASK_SECONDS}):
            found[Scope("task", task)] = Spent(int(used), float(money))
        return found

    async def _insert(self, rows: Sequence[Row]) -> None:
        try:
            await self._database.write_many(_INSERT, [_params(r) for r in rows])
        except Unavailable as error:
            left = await self._one_by_one(rows)
            if left:
                self._waiting.extendleft(reversed(left))
                raise Unavailable(
                    f"The ledger can't be written; {len(self._waiting)} rows wait.", hint="Check the disk."
                ) from error
        if time.monotonic() - self._pruned > _PRUNE_SECONDS:
            self._pruned = time.monotonic()
            await self._database.write(_PRUNE, {"before": time.time() - self._keep_days * 86_400})

    async def _one_by_one(self, rows: Sequence[Row]) -> list[Row]:
        """Writes rows that could not be written together. Gives those back for which the database is to blame; one
        that it refuses while it takes others is no row, and must not keep the others from being written."""
        refused: list[Row] = []
        written = 0
        for row in rows:
            try:
                await self._database.write(_INSERT, _params(row))
                written += 1
            except Unavailable:
                refused.append(row)
        if not written and (len(rows) > 1 or not await self._takes_rows()):
            return refused
        for row in refused:
            log.error("a row of the ledger was refused by the database and is lost: %s", row)
        self._lost += len(refused)
        return []

    async def _takes_rows(self) -> bool:
        try:
            await self._database.write(_PRUNE, {"before": 0.0})
        except Unavailable:
            return False
        return True

    async def _write_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.flush()
            except Unavailable as error:
                log.error("%s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
                self._news.set()


def _params(row: Row) -> dict[str, Any]:
    return {**asdict(row), "estimated": int(row.estimated)}


def _sum(row: Sequence[Any]) -> Sum:
    """Postgres gives sums as decimals."""
    key, calls, failed, read, written, cached, cost, unpriced = row
    return Sum(str(key), int(calls), int(failed), int(read), int(written), int(cached), float(cost), int(unpriced))
