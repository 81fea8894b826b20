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

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    case,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from opswarm.errors import Unavailable
from opswarm.store.engine import engine
from services.model_gateway.budgets import Scope, Spent

log = logging.getLogger(__name__)

_KEPT_IN_MEMORY = 20_000
_AT_ONCE = 500
_AGAIN_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_TASK_SECONDS = 86_400.0
_PRUNE_SECONDS = 3_600.0
_MOST_GROUPS = 500

metadata = MetaData()
calls = Table(
    "model_calls",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("day", String(10), nullable=False),
    Column("agent", String(128), nullable=False),
    Column("user", String(256), nullable=False),
    Column("task", String(64), nullable=False),
    Column("tier", String(200), nullable=False),
    Column("model", String(200), nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_written_tokens", Integer, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost_usd", Float, nullable=True),
    Column("seconds", Float, nullable=False),
    Column("first_token_seconds", Float, nullable=True),
    Column("outcome", String(64), nullable=False),
    Column("instead_of", String(200), nullable=False),
    Column("because", String(64), nullable=False),
    Index("model_calls_by_time", "at"),
    Index("model_calls_by_day", "day"),
)


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
    user: str
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


BY = ("agent", "model", "task", "day", "user", "tier")


class Ledger:
    """The ledger in the database at `url`. Rows are kept for `keep_days`."""

    def __init__(self, url: str, *, keep_days: float = 30.0) -> None:
        self._engine = engine(url)
        self._keep_days = keep_days
        self._waiting: deque[Row] = deque()
        self._lost = 0
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._pruned = 0.0

    async def open(self) -> None:
        """Makes the table where it is missing. Raises `Unavailable` when the database can't be used."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(
                "The database of the ledger can't be used.", hint="Check database_url and the disk."
            ) from error
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
        await asyncio.shield(asyncio.create_task(self._engine.dispose()))

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
                some = [self._waiting[i] for i in range(min(_AT_ONCE, len(self._waiting)))]
                try:
                    await asyncio.shield(asyncio.create_task(self._insert(some)))
                except (SQLAlchemyError, OSError) as error:
                    raise Unavailable(
                        f"The ledger can't be written; {len(self._waiting)} rows wait.", hint="Check the disk."
                    ) from error
                for _ in some:
                    self._waiting.popleft()

    async def ping(self) -> None:
        """Raises `Unavailable` when the database does not take what it is given."""
        await self.flush()
        if self._lost:
            raise Unavailable(f"{self._lost} rows of the ledger were lost while it could not be written.")

    async def sums(self, by: str, since_day: str, *, user: str | None = None) -> Sequence[Sum]:
        """The calls from the ISO date `since_day` on, by one of `BY`, the dearest first; of one `user`, or of all.

        Raises `Unavailable` when the database can't be read.
        """
        await self.flush()
        key = calls.c[by]
        cost = func.coalesce(func.sum(calls.c.cost_usd), 0.0)
        query = (
            select(
                key,
                func.count(),
                func.sum(case((calls.c.outcome == "ok", 0), else_=1)),
                func.sum(calls.c.input_tokens),
                func.sum(calls.c.output_tokens),
                func.sum(calls.c.cached_tokens),
                cost,
                func.sum(case((calls.c.cost_usd.is_(None), 1), else_=0)),
            )
            .where(calls.c.day >= since_day)
            .group_by(key)
            .order_by(key.desc() if by == "day" else cost.desc(), func.sum(calls.c.input_tokens).desc())
            .limit(_MOST_GROUPS)
        )
        if user is not None:
            query = query.where(calls.c.user == user)
        return [Sum(*row) for row in await self._read(query)]

    async def spent(self, day: str) -> Mapping[Scope, Spent]:
        """What counts against budgets: of the ISO date `day`, and of the tasks of the last 24 hours."""
        tokens = func.sum(calls.c.input_tokens + calls.c.output_tokens)
        usd = func.coalesce(func.sum(calls.c.cost_usd), 0.0)
        paid = calls.c.model != "offline/playbook"
        found: dict[Scope, Spent] = {}
        today = select(calls.c.agent, tokens, usd).where(calls.c.day == day, paid).group_by(calls.c.agent)
        total = Spent()
        for agent, used, money in await self._read(today):
            found[Scope("agent_day", agent, day)] = Spent(int(used), float(money))
            total = Spent(total.tokens + int(used), total.usd + float(money))
        found[Scope("swarm_day", day=day)] = total
        since = time.time() - _TASK_SECONDS
        tasks = select(calls.c.task, tokens, usd).where(calls.c.at >= since, calls.c.task != "", paid)
        for task, used, money in await self._read(tasks.group_by(calls.c.task)):
            found[Scope("task", task)] = Spent(int(used), float(money))
        return found

    async def _read(self, query: Any) -> Sequence[Any]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable("The ledger can't be read.", hint="Check database_url and the disk.") from error

    async def _insert(self, rows: Sequence[Row]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(insert(calls), [asdict(r) for r in rows])
            if time.monotonic() - self._pruned > _PRUNE_SECONDS:
                self._pruned = time.monotonic()
                await connection.execute(delete(calls).where(calls.c.at < time.time() - self._keep_days * 86_400))

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
