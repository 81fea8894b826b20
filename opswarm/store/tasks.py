"""Tasks, in SQLite or Postgres: what an agent was asked, and what became of it.

A row is written when a task begins, when its state changes and when it ends; what streams in between lives in
memory only. After a restart the rows of this process that never ended are failed with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from a2a.helpers import new_text_message
from a2a.server.context import ServerCallContext
from a2a.server.tasks import TaskStore
from a2a.types import ListTasksRequest, ListTasksResponse, Part, Role, Task, TaskState
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import InvalidParamsError
from a2a.utils.task import ListTasksCursor, decode_list_tasks_cursor, encode_list_tasks_cursor
from google.protobuf.message import DecodeError
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from opswarm.errors import Unavailable

log = logging.getLogger(__name__)

ID_LENGTH = 64
CONTEXT_LENGTH = 256
OWNER_LENGTH = 256

TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_REJECTED,
    }
)
_UNFINISHED = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
_BUSY_MILLISECONDS = 3_000
_MOST_UNWRITTEN = 200
_PRUNE_EVERY = 200
_MOST_EXPECTED = 1_000
_CLOSE_SECONDS = 1.0
_STOPPED = "The agent was stopped while it worked on this. Ask again."
_RESTARTED = "The agent was restarted while it worked on this. Ask again."

metadata = MetaData()
tasks = Table(
    "tasks",
    metadata,
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("service", String(64), nullable=False),
    Column("executor", String(128), nullable=False),
    Column("owner", String(OWNER_LENGTH), nullable=False),
    Column("context_id", String(CONTEXT_LENGTH), nullable=False),
    Column("message_id", String(CONTEXT_LENGTH), nullable=False),
    Column("state", Integer, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("tasks_by_context", "service", "owner", "context_id", "updated_ns"),
    Index("tasks_by_time", "service", "owner", "updated_ns"),
    Index("tasks_by_message", "service", "owner", "message_id"),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One earlier question of a conversation and its answer."""

    question: str
    answer: str


P = ParamSpec("P")
R = TypeVar("R")


def _uninterrupted(
    method: Callable[Concatenate[Tasks, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Tasks, P], Coroutine[Any, Any, R]]:
    """Lets a statement end when its caller is cancelled: broken off in the middle, the driver loses its connection."""

    async def run(self: Tasks, /, *args: P.args, **kwargs: P.kwargs) -> R:
        task = asyncio.create_task(method(self, *args, **kwargs))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return await asyncio.shield(task)

    return run


class Tasks(TaskStore):
    """The task store of one service. `executor` names this process among replicas on the same database.

    Ended tasks are kept for `keep_days`.
    """

    def __init__(self, url: str, service: str, *, executor: str = "0", keep_days: float = 30.0) -> None:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite has one writer at a time: with one connection its callers wait for each other, and never fail.
        pool = {"pool_size": 1, "max_overflow": 0} if sqlite else {}
        # A task is one row: each statement commits by itself, which saves the rounds to begin and to end.
        self._engine: AsyncEngine = create_async_engine(
            parsed, hide_parameters=True, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, **pool
        )
        self._insert = sqlite_insert if sqlite else postgres_insert
        if sqlite:
            listen(self._engine.sync_engine, "connect", _on_sqlite_connect)
        self._service = service
        self._executor = executor
        self._keep_days = keep_days
        self._live: dict[str, tuple[str, Task]] = {}
        self._saved: dict[str, int] = {}
        self._unwritten: OrderedDict[str, tuple[str, Task]] = OrderedDict()
        self._expected: OrderedDict[str, None] = OrderedDict()
        self._ended = 0
        self._at_work: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Makes the table where it is missing and fails what a former run of this process left unfinished.

        Raises `Unavailable` when the database can't be used.
        """
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
            await self._sweep()
            await self._prune()
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(
                f"The database of {self._service} can't be used.", hint="Check database_url and the disk."
            ) from error

    async def close(self) -> None:
        """Fails what is still unfinished, with a sentence, and closes the database. Never raises."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                for owner, task in list(self._live.values()):
                    if task.status.state in _UNFINISHED:
                        _fail(task, _STOPPED)
                        await self._write(task, owner)
                await self._catch_up()
        except (TimeoutError, SQLAlchemyError, OSError):
            log.warning("some tasks of %s could not be written at the end; the next start fails them", self._service)
        self._live.clear()
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=_CLOSE_SECONDS)
        await asyncio.shield(asyncio.create_task(self._engine.dispose()))

    async def ping(self) -> None:
        """Raises `Unavailable` when the database does not answer, or has not taken what it was given."""
        try:
            await self._catch_up()
            await self._select_one()
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(f"The database of {self._service} does not answer.") from error

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Keeps a task. A row is written when its state changed.

        The end of a task is never lost to its callers: when it can't be written it is kept in memory, and
        written later. Raises `Unavailable` when the beginning of one can't be.
        """
        self._expected.pop(task.id, None)
        if task.status.state in TERMINAL:
            await self._save_end(task, _owner(context))
        else:
            await self._save_step(task, _owner(context))

    async def _save_step(self, task: Task, owner: str) -> None:
        stage = _stage(task)
        if self._saved.get(task.id) != stage:
            try:
                await self._write(task, owner)
            except (SQLAlchemyError, OSError) as error:
                if task.id not in self._saved:
                    raise Unavailable(
                        f"The database of {self._service} can't be written.", hint="Check the disk, then ask again."
                    ) from error
                log.exception("a step of task %s could not be written", task.id)
        self._live[task.id] = (owner, _copy(task))
        self._saved[task.id] = stage

    async def _save_end(self, task: Task, owner: str) -> None:
        _join_text(task)
        self._live.pop(task.id, None)
        self._saved.pop(task.id, None)
        try:
            await self._write(task, owner)
        except (SQLAlchemyError, OSError):
            log.exception("the end of task %s could not be written; it is kept in memory", task.id)
            self._unwritten[task.id] = (owner, _copy(task))
            while len(self._unwritten) > _MOST_UNWRITTEN:
                self._unwritten.popitem(last=False)
            return
        self._ended += 1
        if self._ended % _PRUNE_EVERY == 0:
            await self._tidied()

    @_uninterrupted
    async def _write(self, task: Task, owner: str) -> None:
        row = {
            "service": self._service,
            "executor": self._executor,
            "owner": owner,
            "context_id": task.context_id,
            "message_id": task.history[0].message_id if task.history else "",
            "state": _stage(task),
            "updated_ns": task.status.timestamp.ToNanoseconds() or time.time_ns(),
            "body": task.SerializeToString(),
        }
        upsert = self._insert(tasks).values(id=task.id, **row).on_conflict_do_update(index_elements=["id"], set_=row)
        async with self._engine.connect() as connection:
            await connection.execute(upsert)

    async def _catch_up(self) -> None:
        while self._unwritten:
            task_id, (owner, task) = next(iter(self._unwritten.items()))
            await self._write(task, owner)
            self._unwritten.pop(task_id, None)

    async def _tidied(self) -> None:
        try:
            await self._catch_up()
            await self._prune()
        except (SQLAlchemyError, OSError):
            log.exception("the database of %s could not be tidied", self._service)

    async def _prune(self) -> None:
        before = time.time_ns() - int(self._keep_days * 86_400e9)
        await self._delete(tasks.c.state.in_([int(s) for s in TERMINAL]), tasks.c.updated_ns < before)

    @_uninterrupted
    async def _delete(self, *where: ColumnElement[bool]) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(delete(tasks).where(tasks.c.service == self._service, *where))

    def expect(self, task_id: str) -> None:
        """Says that a task of this new id is about to begin, so that it is not looked for in the database."""
        self._expected[task_id] = None
        while len(self._expected) > _MOST_EXPECTED:
            self._expected.popitem(last=False)

    async def get(self, task_id: str, context: ServerCallContext) -> Task | None:
        if task_id in self._expected:
            return None
        if live := self._live.get(task_id) or self._unwritten.get(task_id):
            return _copy(live[1]) if live[0] == _owner(context) else None
        query = select(tasks.c.body).where(
            tasks.c.id == task_id, tasks.c.service == self._service, tasks.c.owner == _owner(context)
        )
        found = await self._bodies(query)
        return found[0] if found else None

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        mine = [tasks.c.service == self._service, tasks.c.owner == _owner(context)]
        if params.context_id:
            mine.append(tasks.c.context_id == params.context_id)
        if params.status:
            mine.append(tasks.c.state == int(params.status))
        if params.HasField("status_timestamp_after"):
            mine.append(tasks.c.updated_ns >= params.status_timestamp_after.ToNanoseconds())
        size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
        query = select(tasks.c.body).where(*mine)
        if params.page_token:
            cursor = decode_list_tasks_cursor(params.page_token)
            if cursor is None:
                raise InvalidParamsError("The page token is not valid.")
            at = cursor.timestamp_ns or 0
            query = query.where(
                or_(tasks.c.updated_ns < at, and_(tasks.c.updated_ns == at, tasks.c.id < cursor.task_id))
            )
        query = query.order_by(tasks.c.updated_ns.desc(), tasks.c.id.desc()).limit(size + 1)
        found = await self._bodies(query)
        total = await self._count(mine)
        page, more = found[:size], len(found) > size
        token = ""
        if more:
            last = page[-1]
            token = encode_list_tasks_cursor(
                ListTasksCursor(timestamp_ns=last.status.timestamp.ToNanoseconds(), task_id=last.id)
            )
        newer = {**self._unwritten, **self._live}
        shown = [_copy(newer[t.id][1]) if t.id in newer else t for t in page]
        return ListTasksResponse(tasks=shown, next_page_token=token, page_size=size, total_size=total)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        self._live.pop(task_id, None)
        self._saved.pop(task_id, None)
        self._unwritten.pop(task_id, None)
        await self._delete(tasks.c.id == task_id, tasks.c.owner == _owner(context))

    async def by_message(self, message_id: str, owner: str) -> Task | None:
        """The task that this owner's message began, or None: a message sent twice is worked on once."""
        query = (
            select(tasks.c.body)
            .where(tasks.c.service == self._service, tasks.c.owner == owner, tasks.c.message_id == message_id)
            .limit(1)
        )
        found = await self._bodies(query)
        if not found:
            return None
        newer = self._live.get(found[0].id) or self._unwritten.get(found[0].id)
        return _copy(newer[1]) if newer else found[0]

    async def conversation(self, context_id: str, owner: str, *, last: int = 12) -> Sequence[Exchange]:
        """The last answered questions of a conversation, the oldest first."""
        query = (
            select(tasks.c.body)
            .where(
                tasks.c.service == self._service,
                tasks.c.owner == owner,
                tasks.c.context_id == context_id,
                tasks.c.state == int(TaskState.TASK_STATE_COMPLETED),
            )
            .order_by(tasks.c.updated_ns.desc())
            .limit(last)
        )
        found = await self._bodies(query)
        return [Exchange(question_of(t), answer_of(t)) for t in reversed(found)]

    @_uninterrupted
    async def _sweep(self) -> None:
        query = select(tasks.c.body, tasks.c.owner).where(
            tasks.c.service == self._service,
            tasks.c.executor == self._executor,
            tasks.c.state.in_([int(s) for s in _UNFINISHED]),
        )
        async with self._engine.begin() as connection:
            for body, _ in (await connection.execute(query)).all():
                if (task := _parsed(body)) is None:
                    continue
                _fail(task, _RESTARTED)
                await connection.execute(
                    update(tasks)
                    .where(tasks.c.id == task.id)
                    .values(
                        state=int(task.status.state),
                        updated_ns=task.status.timestamp.ToNanoseconds(),
                        body=task.SerializeToString(),
                    )
                )

    @_uninterrupted
    async def _select_one(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(select(1))

    @_uninterrupted
    async def _count(self, where: Sequence[ColumnElement[bool]]) -> int:
        async with self._engine.connect() as connection:
            found: int = (await connection.execute(select(func.count()).select_from(tasks).where(*where))).scalar_one()
            return found

    @_uninterrupted
    async def _bodies(self, query: Select[bytes]) -> Sequence[Task]:
        async with self._engine.connect() as connection:
            found = [_parsed(body) for body in (await connection.execute(query)).scalars()]
        return [task for task in found if task is not None]


def question_of(task: Task) -> str:
    """The text of the message that began a task."""
    if not task.history:
        return ""
    return "\n".join(p.text for p in task.history[0].parts if p.HasField("text"))


def answer_of(task: Task) -> str:
    """The text of a task's answer."""
    return "".join(p.text for a in task.artifacts for p in a.parts if p.HasField("text"))


def _owner(context: ServerCallContext) -> str:
    return context.user.user_name[:OWNER_LENGTH]


def _stage(task: Task) -> int:
    """The state as a row has it. A new task is at work at once: one row says both, and the live task which."""
    state = task.status.state
    return int(TaskState.TASK_STATE_WORKING if state == TaskState.TASK_STATE_SUBMITTED else state)


def _fail(task: Task, why: str) -> None:
    task.status.state = TaskState.TASK_STATE_FAILED
    message = new_text_message(why, context_id=task.context_id, task_id=task.id, role=Role.ROLE_AGENT)
    task.status.message.CopyFrom(message)
    task.status.timestamp.GetCurrentTime()


def _parsed(body: bytes) -> Task | None:
    """A row's task. One that can't be read is left out, and said in the log, so that the others are seen."""
    try:
        task: Task = Task.FromString(body)
    except DecodeError:
        log.error("a stored task can't be read and is left out")
        return None
    return task


def _on_sqlite_connect(connection: Any, record: Any) -> None:
    """Readers and the writer don't wait for each other, and a lock is waited for, not failed on."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_MILLISECONDS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _copy(task: Task) -> Task:
    copy = Task()
    copy.CopyFrom(task)
    return copy


def _join_text(task: Task) -> None:
    """An answer that came in many chunks is kept as one part."""
    for artifact in task.artifacts:
        if len(artifact.parts) > 1 and all(p.HasField("text") for p in artifact.parts):
            whole = "".join(p.text for p in artifact.parts)
            del artifact.parts[:]
            artifact.parts.append(Part(text=whole))
