"""One database behind plain SQL: SQLite on a thread of its own, or whatever SQLAlchemy has an async driver for.

SQL is written once, with named parameters (`:name`) and in what SQLite and Postgres have in common. SQLite goes
without SQLAlchemy: a statement costs a tenth of the CPU, and a process that uses nothing else saves 21 MB.

Each statement commits by itself, and is finished once it was begun, whether or not its caller still waits.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from opswarm.errors import SettingsInvalid, Unavailable

BUSY_MILLISECONDS = 3_000
"""How long a statement waits for another process that holds the file."""

_SQLITE = "sqlite+aiosqlite:///"

Row = Sequence[Any]
Params = Mapping[str, Any]
T = TypeVar("T")


class Database(Protocol):
    """What the stores need. Each method raises `Unavailable` when the database does not do it."""

    blob: str
    """The type of a column of bytes."""

    async def script(self, statements: Sequence[str]) -> None:
        """Executes statements that have no parameters, in order."""
        ...

    async def rows(self, query: str, params: Params) -> Sequence[Row]: ...

    async def write(self, statement: str, params: Params) -> None: ...

    async def write_many(self, statement: str, params: Sequence[Params]) -> None:
        """Executes the statement with each of `params`: all of them, or none."""
        ...

    async def first_or(self, query: str, statement: str, params: Params) -> Row | None:
        """The first row of `query`; where there is none, `statement` is executed and None given."""
        ...

    async def close(self) -> None: ...


def database(url: str) -> Database:
    """The database at a URL such as `sqlite+aiosqlite:////path/to/file.db` or `postgresql+asyncpg://user@host/name`.

    Raises `SettingsInvalid` for what is no such URL or has no driver here, and `Unavailable` when the folder of an
    SQLite file can't be made.
    """
    if not url.startswith(_SQLITE):
        return _pooled(url)
    path = Path(unquote(url.removeprefix(_SQLITE).partition("?")[0]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(
            f"The database {path} can't be opened: {error.strerror}.", hint="Check database_url and OPSWARM_HOME."
        ) from error
    return Sqlite(path)


def _pooled(url: str) -> Database:
    try:
        return Pooled(url)
    except ImportError as error:
        raise SettingsInvalid(
            f"The driver that database_url names is not installed ({error.name}).",
            hint="Install it beside Opswarm; for Postgres: pip install 'opswarm[postgres]'.",
        ) from error


_Job = tuple[Callable[[sqlite3.Connection], Any], "asyncio.Future[Any]"]


class Sqlite:
    """A file, with one connection on one thread: callers wait for each other, and the event loop for none."""

    blob = "BLOB"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def script(self, statements: Sequence[str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for statement in statements:
                connection.execute(statement)

        await self._done(work)

    async def rows(self, query: str, params: Params) -> Sequence[Row]:
        return await self._done(lambda c: c.execute(query, params).fetchall())

    async def write(self, statement: str, params: Params) -> None:
        await self._done(lambda c: c.execute(statement, params).close())

    async def write_many(self, statement: str, params: Sequence[Params]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(statement, params)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

        await self._done(work)

    async def first_or(self, query: str, statement: str, params: Params) -> Row | None:
        def work(connection: sqlite3.Connection) -> Row | None:
            found: Row | None = connection.execute(query, params).fetchone()
            if found is None:
                connection.execute(statement, params)
            return found

        return await self._done(work)

    async def close(self) -> None:
        """Finishes what was asked for, and ends the thread."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            thread, self._thread = self._thread, None
            await asyncio.to_thread(thread.join)

    async def _done(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise Unavailable("The database is closed.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="sqlite", daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, future))
        try:
            return await future
        except Exception as error:  # The driver's boundary, as below: also a number that is too large for a column.
            raise Unavailable("The database does not answer.", hint="Check the disk and what else uses it.") from error

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while (job := self._jobs.get()) is not None:
            work, future = job
            try:
                connection = connection or self._connected()
                result, error = work(connection), None
            except Exception as broke:  # The thread's boundary: whoever waits is told.
                result, error = None, broke
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                continue  # The loop is closed: nobody waits.
            del job, work, future, result, error
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        # Readers and the writer don't wait for each other, and a lock is waited for, not failed on.
        for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Pooled:
    """Any other database, through SQLAlchemy's pool."""

    def __init__(self, url: str) -> None:
        # Here, since whoever keeps to SQLite has no use for it.
        from sqlalchemy import text
        from sqlalchemy.exc import ArgumentError, InvalidRequestError
        from sqlalchemy.ext.asyncio import create_async_engine

        self._text = text
        try:
            self._engine = create_async_engine(
                url, hide_parameters=True, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
            )
        except (ArgumentError, InvalidRequestError) as error:
            raise SettingsInvalid(
                "database_url is not the URL of a database with an async driver.",
                hint="Such as sqlite+aiosqlite:////path/to/file.db or postgresql+asyncpg://user@host/name.",
            ) from error
        self._at_work: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._transaction = "SERIALIZABLE" if self._engine.dialect.name == "sqlite" else "READ COMMITTED"
        self.blob = "BYTEA" if self._engine.dialect.name == "postgresql" else "BLOB"

    async def script(self, statements: Sequence[str]) -> None:
        for statement in statements:
            await self.write(statement, {})

    async def rows(self, query: str, params: Params) -> Sequence[Row]:
        async def work(connection: Any) -> Any:
            return (await connection.execute(self._text(query), params)).all()

        found: Sequence[Row] = await self._done(work)
        return found

    async def write(self, statement: str, params: Params) -> None:
        await self._done(lambda c: c.execute(self._text(statement), params))

    async def write_many(self, statement: str, params: Sequence[Params]) -> None:
        async def work(connection: Any) -> None:
            # Out of the engine's AUTOCOMMIT: these go together.
            level = {"isolation_level": self._transaction}
            await (await connection.execution_options(**level)).execute(self._text(statement), list(params))
            await connection.commit()

        await self._done(work)

    async def first_or(self, query: str, statement: str, params: Params) -> Row | None:
        found = await self.rows(query, params)
        if found:
            return found[0]
        await self.write(statement, params)
        return None

    async def close(self) -> None:
        self._closed = True
        if self._at_work:
            await asyncio.wait(self._at_work)
        await asyncio.shield(asyncio.create_task(self._engine.dispose()))

    async def _done(self, work: Callable[[Any], Any]) -> Any:
        """Lets a statement end when its caller is cancelled: broken off in the middle, the driver loses its
        connection."""

        if self._closed:
            raise Unavailable("The database is closed.")

        async def run() -> Any:
            async with self._engine.connect() as connection:
                return await work(connection)

        task = asyncio.create_task(run())
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        try:
            return await asyncio.shield(task)
        except Exception as error:  # The driver's boundary: each has exceptions of its own, SQLAlchemy wraps some.
            raise Unavailable("The database does not answer.", hint="Check database_url.") from error
