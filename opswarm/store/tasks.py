"""Tasks, in SQLite or Postgres: what an agent was asked, and what became of it.

A row is written when a task begins, when it parks and when it ends; what streams in between lives in memory only.
After a restart the rows of this process that never ended are failed with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from a2a.helpers import new_text_message
from a2a.types import ListTasksRequest, ListTasksResponse, Part, Role, Task, TaskState
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import InvalidParamsError
from a2a.utils.task import ListTasksCursor, decode_list_tasks_cursor, encode_list_tasks_cursor
from google.protobuf.message import DecodeError

from opswarm.errors import Unavailable
from opswarm.store.database import Database, Row, database

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
INTERRUPTED = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})
_MOST_UNWRITTEN = 200
_PRUNE_EVERY = 200
_CLOSE_SECONDS = 1.0
_RESTARTED = "The agent was restarted while it worked on this. Ask again."

_UNFINISHED = f"({int(TaskState.TASK_STATE_SUBMITTED)}, {int(TaskState.TASK_STATE_WORKING)})"
_ENDED = f"({', '.join(str(int(s)) for s in sorted(TERMINAL))})"
_SCHEMA = (
    f"""CREATE TABLE IF NOT EXISTS tasks (
        id VARCHAR({ID_LENGTH}) NOT NULL PRIMARY KEY, service VARCHAR(64) NOT NULL, executor VARCHAR(128) NOT NULL,
        owner VARCHAR({OWNER_LENGTH}) NOT NULL, context_id VARCHAR({CONTEXT_LENGTH}) NOT NULL,
        message_id VARCHAR({CONTEXT_LENGTH}) NOT NULL, state INTEGER NOT NULL, updated_ns BIGINT NOT NULL,
        body {{blob}} NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS tasks_by_context ON tasks (service, owner, context_id, updated_ns)",
    "CREATE INDEX IF NOT EXISTS tasks_by_time ON tasks (service, owner, updated_ns)",
    "CREATE INDEX IF NOT EXISTS tasks_by_message ON tasks (service, owner, message_id)",
)
_INSERT = (
    "INSERT INTO tasks (id, service, executor, owner, context_id, message_id, state, updated_ns, body)"
    " VALUES (:id, :service, :executor, :owner, :context_id, :message_id, :state, :updated_ns, :body)"
)
_UPSERT = (
    f"{_INSERT} ON CONFLICT (id) DO UPDATE SET executor = excluded.executor, state = excluded.state,"
    " updated_ns = excluded.updated_ns, body = excluded.body"
)
_MINE = "service = :service AND owner = :owner"
_BY_MESSAGE = f"SELECT body FROM tasks WHERE {_MINE} AND message_id = :message_id LIMIT 1"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One earlier question of a conversation and its answer."""

    question: str
    answer: str


class Tasks:
    """The task store of one service. `executor` names this process among replicas on the same database.

    Ended tasks are kept for `keep_days`. An `owner` is the subject on whose behalf a task runs; nobody else sees it.
    """

    def __init__(self, url: str, service: str, *, executor: str = "0", keep_days: float = 30.0) -> None:
        """Raises what `opswarm.store.database.database` does."""
        self._database = database(url)
        self._service = service
        self._executor = executor
        self._keep_days = keep_days
        self._unwritten: OrderedDict[str, tuple[str, Task]] = OrderedDict()
        self._ended = 0

    @property
    def database(self) -> Database:
        """For what belongs to the same tasks: SQLite wants one connection a file."""
        return self._database

    async def open(self) -> None:
        """Makes the table where it is missing and fails what a former run of this process left unfinished.

        Raises `Unavailable` when the database can't be used.
        """
        try:
            await self._database.script([s.format(blob=self._database.blob) for s in _SCHEMA])
            await self._sweep()
            await self._prune()
        except Unavailable as error:
            raise Unavailable(
                f"The database of {self._service} can't be used.", hint="Check database_url and the disk."
            ) from error

    async def close(self) -> None:
        """Writes what is still unwritten and closes the database. Never raises."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._catch_up()
        except (TimeoutError, Unavailable):
            log.warning("some tasks of %s could not be written at the end; the next start fails them", self._service)
        await self._database.close()

    async def ping(self) -> None:
        """Raises `Unavailable` when the database does not answer, or has not taken what it was given."""
        try:
            await self._catch_up()
            await self._database.rows("SELECT 1", {})
        except Unavailable as error:
            raise Unavailable(f"The database of {self._service} does not answer.") from error

    async def begin(self, task: Task, owner: str) -> Task | None:
        """Keeps a new task; or gives the one that the same message of this owner began before, and keeps nothing.

        Raises `Unavailable` when it can't be written.
        """
        try:
            found = await self._database.first_or(_BY_MESSAGE, _INSERT, self._row(task, owner))
        except Unavailable as error:
            raise self._unwritable() from error
        if found is None:
            return None
        if (known := self._parsed(found)) is not None:
            newer = self._unwritten.get(known.id)
            return _copy(newer[1]) if newer else known
        await self.save(task, owner)
        return None

    async def save(self, task: Task, owner: str) -> None:
        """Keeps a task as it is now.

        The end of a task, and what is parked, is never lost to its callers: when it can't be written it is kept in
        memory and written later. Raises `Unavailable` when anything else can't be.
        """
        settled = task.status.state in TERMINAL or task.status.state in INTERRUPTED
        if settled:
            _join_text(task)
        try:
            await self._database.write(_UPSERT, self._row(task, owner))
        except Unavailable as error:
            if not settled:
                raise self._unwritable() from error
            log.exception("the end of task %s could not be written; it is kept in memory", task.id)
            self._unwritten[task.id] = (owner, _copy(task))
            while len(self._unwritten) > _MOST_UNWRITTEN:
                self._unwritten.popitem(last=False)
            return
        self._unwritten.pop(task.id, None)
        self._ended += settled
        if settled and self._ended % _PRUNE_EVERY == 0:
            await self._tidied()

    async def get(self, task_id: str, owner: str) -> Task | None:
        """The task of this owner, or None."""
        if kept := self._unwritten.get(task_id):
            return _copy(kept[1]) if kept[0] == _shown(owner) else None
        found = await self._bodies(f"SELECT body FROM tasks WHERE id = :id AND {_MINE}", owner, id=task_id)
        return found[0] if found else None

    async def list(self, params: ListTasksRequest, owner: str) -> ListTasksResponse:
        """A page of the owner's tasks, the newest first. Raises `InvalidParamsError` for a page token of no page."""
        where, given = [_MINE], dict[str, Any]()
        if params.context_id:
            where.append("context_id = :context_id")
            given["context_id"] = params.context_id
        if params.status:
            where.append("state = :state")
            given["state"] = int(params.status)
        if params.HasField("status_timestamp_after"):
            where.append("updated_ns >= :after")
            given["after"] = params.status_timestamp_after.ToNanoseconds()
        total = await self._count(" AND ".join(where), owner, given)
        size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
        if params.page_token:
            cursor = decode_list_tasks_cursor(params.page_token)
            if cursor is None:
                raise InvalidParamsError("The page token is not valid.")
            where.append("(updated_ns < :at OR (updated_ns = :at AND id < :last))")
            given |= {"at": cursor.timestamp_ns or 0, "last": cursor.task_id}
        query = f"SELECT body FROM tasks WHERE {' AND '.join(where)} ORDER BY updated_ns DESC, id DESC LIMIT :most"
        found = await self._bodies(query, owner, **given, most=size + 1)
        page = found[:size]
        token = ""
        if len(found) > size:
            last = page[-1]
            token = encode_list_tasks_cursor(
                ListTasksCursor(timestamp_ns=last.status.timestamp.ToNanoseconds(), task_id=last.id)
            )
        shown = [_copy(self._unwritten[t.id][1]) if t.id in self._unwritten else t for t in page]
        return ListTasksResponse(tasks=shown, next_page_token=token, page_size=size, total_size=total)

    async def conversation(self, context_id: str, owner: str, *, last: int = 12) -> Sequence[Exchange]:
        """The last answered questions of a conversation, the oldest first."""
        query = (
            f"SELECT body FROM tasks WHERE {_MINE} AND context_id = :context_id AND state = :state"
            " ORDER BY updated_ns DESC LIMIT :most"
        )
        state = int(TaskState.TASK_STATE_COMPLETED)
        found = await self._bodies(query, owner, context_id=context_id, state=state, most=last)
        return [Exchange(question_of(t), answer_of(t)) for t in reversed(found)]

    def _row(self, task: Task, owner: str) -> dict[str, Any]:
        state = task.status.state
        return {
            "id": task.id,
            "service": self._service,
            "executor": self._executor,
            "owner": _shown(owner),
            "context_id": task.context_id,
            "message_id": task.history[0].message_id if task.history else "",
            # A new task is at work at once: one row says both, and the live task which.
            "state": int(TaskState.TASK_STATE_WORKING if state == TaskState.TASK_STATE_SUBMITTED else state),
            "updated_ns": task.status.timestamp.ToNanoseconds() or time.time_ns(),
            "body": task.SerializeToString(),
        }

    async def _catch_up(self) -> None:
        while self._unwritten:
            task_id, (owner, task) = next(iter(self._unwritten.items()))
            await self._database.write(_UPSERT, self._row(task, owner))
            self._unwritten.pop(task_id, None)

    async def _tidied(self) -> None:
        try:
            await self._catch_up()
            await self._prune()
        except Unavailable:
            log.exception("the database of %s could not be tidied", self._service)

    async def _prune(self) -> None:
        before = time.time_ns() - int(self._keep_days * 86_400e9)
        await self._database.write(
            f"DELETE FROM tasks WHERE service = :service AND state IN {_ENDED} AND updated_ns < :before",
            {"service": self._service, "before": before},
        )

    async def _sweep(self) -> None:
        query = (
            "SELECT body, owner FROM tasks"
            f" WHERE service = :service AND executor = :executor AND state IN {_UNFINISHED}"
        )
        for row in await self._database.rows(query, {"service": self._service, "executor": self._executor}):
            if (task := self._parsed(row)) is not None:
                fail(task, _RESTARTED)
                await self._database.write(_UPSERT, self._row(task, row[1]))

    async def _count(self, where: str, owner: str, given: dict[str, Any]) -> int:
        params = {"service": self._service, "owner": _shown(owner), **given}
        return int((await self._database.rows(f"SELECT count(*) FROM tasks WHERE {where}", params))[0][0])

    async def _bodies(self, query: str, owner: str, **given: Any) -> Sequence[Task]:
        params = {"service": self._service, "owner": _shown(owner), **given}
        found = [self._parsed(row) for row in await self._database.rows(query, params)]
        return [task for task in found if task is not None]

    def _parsed(self, row: Row) -> Task | None:
        """A row's task. One that can't be read is left out, and said in the log, so that the others are seen."""
        try:
            task: Task = Task.FromString(row[0])
        except DecodeError:
            log.error("a stored task can't be read and is left out")
            return None
        return task

    def _unwritable(self) -> Unavailable:
        return Unavailable(f"The database of {self._service} can't be written.", hint="Check the disk, then ask again.")


def question_of(task: Task) -> str:
    """The text of the message that began a task."""
    if not task.history:
        return ""
    return "\n".join(p.text for p in task.history[0].parts if p.HasField("text"))


def answer_of(task: Task) -> str:
    """The text of a task's answer."""
    return "".join(p.text for a in task.artifacts for p in a.parts if p.HasField("text"))


def fail(task: Task, why: str) -> None:
    """Marks a task as failed, with a sentence for a person."""
    task.status.state = TaskState.TASK_STATE_FAILED
    message = new_text_message(why, context_id=task.context_id, task_id=task.id, role=Role.ROLE_AGENT)
    task.status.message.CopyFrom(message)
    task.status.timestamp.GetCurrentTime()


def _shown(owner: str) -> str:
    return owner[:OWNER_LENGTH]


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
