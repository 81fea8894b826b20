"""Durable work: DBOS, set up once in a process, for the one service of it that has any.

A workflow that was begun is gone on with after any restart: by the process with the same stable executor name, and
under the same application version, which changes only when the shape of the workflows does. What older versions left is
cancelled: a service begins its work anew under ids of its own version. What is kept is JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from dbos import DBOS, DBOSConfig
from dbos._serialization import Serializer

from opswarm.errors import Unavailable
from opswarm.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 1
_ENDING_SECONDS = 30.0
_PAGE, _MOST_PAGES = 200, 50
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_POLL_SECONDS = 0.5
"""How often a database without notifications (SQLite) is looked at for messages to workflows."""


async def _threads_of_the_loop(cls: type[DBOS]) -> None:
    """What DBOS does before each use of a thread, replaced: nothing. It would make its own thread pool the default of
    the running loop, which it shares with everything else in this process, and shuts that pool down when it ends:
    whoever uses `asyncio.to_thread` then fails. No setting of its keeps it from that (3.4)."""


DBOS._configure_asyncio_thread_pool = classmethod(_threads_of_the_loop)  # type: ignore[method-assign,assignment]


class Json(Serializer):
    """In place of pickle: whoever can write to the database must not be able to run code with it."""

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            return json.dumps({"error": type(data).__name__, "text": str(data)[:500]})
        return json.dumps(data)

    def deserialize(cls, serialized_data: str) -> Any:
        found = json.loads(serialized_data)
        if isinstance(found, dict) and found.keys() == {"error", "text"}:
            return RuntimeError(f"{found['error']}: {found['text']}")
        return found

    def name(self) -> str:
        return "opswarm_json"


def _url(settings: Settings, service: str) -> str:
    """DBOS speaks to databases with drivers of its own, which are not async."""
    given = settings.database_url
    if given.startswith("postgresql"):
        return "postgresql+psycopg://" + given.split("://", 1)[1]
    path = settings.home / "data" / f"{service}-workflows.db"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return f"sqlite:///{quote(str(path))}"


@asynccontextmanager
async def workflows(settings: Settings, service: str, version: str) -> AsyncIterator[None]:
    """DBOS while the block runs: what was begun before is gone on with, in this event loop.

    `version` names the shape of the workflows that are registered. Raises `Unavailable` when its database can't be
    used.
    """
    config: DBOSConfig = {
        "name": f"opswarm-{service}",
        "system_database_url": _url(settings, service),
        "executor_id": settings.executor,
        "application_version": version,
        "serializer": Json(),
        "log_level": "WARNING",
        "notification_listener_polling_interval_sec": _POLL_SECONDS,
        "sys_db_pool_size": 5,
    }
    if _ending:
        # One in a process: the last one is on its way out.
        await asyncio.wait(_ending, timeout=_ENDING_SECONDS)
    _stopping.clear()
    try:
        DBOS(config=config)
        DBOS.launch()
    except Exception as error:  # The library's boundary: its own errors, SQLAlchemy's and the driver's come through.
        log.exception("the workflows of %s can't be started", service)
        DBOS.destroy()
        raise Unavailable(
            f"The workflows of {service} can't be kept.", hint="Check database_url and the disk."
        ) from error
    try:
        await _cancel_older(version)
        yield
    finally:
        # Cancelled, a workflow writes no end: it is gone on with at the next start. So is one that is only beginning.
        _stopping.set()
        running = list(_running)
        for task in running:
            task.cancel()
        ending = asyncio.create_task(_end(running))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)
        await asyncio.shield(ending)  # Whoever stops the service may lose patience; this goes on.


async def _end(running: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=_CLOSE_SECONDS)


@contextmanager
def interruptible() -> Iterator[None]:
    """To be entered by every workflow first: it is broken off there when the service stops."""
    if _stopping.is_set():
        raise asyncio.CancelledError
    task = asyncio.current_task()
    assert task is not None
    _running.add(task)
    try:
        yield
    finally:
        _running.discard(task)


async def outside(work: Coroutine[Any, Any, T]) -> T:
    """Does what a step has to do as if no workflow had asked for it: DBOS marks all that a step begins as its own."""
    return await asyncio.create_task(work, context=Context())


async def forget_ended(keep_days: float) -> None:
    """Deletes what is kept of workflows that ended more than `keep_days` ago."""
    until = (datetime.now(UTC) - timedelta(days=keep_days)).isoformat()
    for _ in range(_MOST_PAGES):
        ended = await DBOS.list_workflows_async(
            status=_ENDED, completed_before=until, limit=_PAGE, load_input=False, load_output=False
        )
        if not ended:
            return
        await DBOS.delete_workflows_async([w.workflow_id for w in ended])


_running: set[asyncio.Task[Any]] = set()
_ending: set[asyncio.Task[None]] = set()
_stopping = threading.Event()


async def _cancel_older(version: str) -> None:
    for left in await DBOS.list_workflows_async(status=["PENDING", "ENQUEUED"], load_input=False, load_output=False):
        if left.app_version != version:
            log.warning("workflow %s of the version %s is begun anew", left.workflow_id, left.app_version)
            await DBOS.cancel_workflow_async(left.workflow_id)
