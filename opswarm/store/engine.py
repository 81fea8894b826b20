"""Opening a database: SQLite or Postgres, by an SQLAlchemy async URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from opswarm.errors import SettingsInvalid

_BUSY_MILLISECONDS = 3_000


def engine(url: str, **options: Any) -> AsyncEngine:
    """An engine for `url`. SQLite's folder is made where it is missing.

    Raises `SettingsInvalid` for what is not the URL of a database with an installed async driver, and for a folder
    that can't be made.
    """
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite has one writer at a time: with one connection its callers wait for each other, and never fail.
        pool = {"pool_size": 1, "max_overflow": 0} if sqlite else {}
        made = create_async_engine(parsed, hide_parameters=True, **pool, **options)
    except ImportError as error:
        raise SettingsInvalid(
            f"The driver that database_url names is not installed ({error.name}).", hint="Install it beside Opswarm."
        ) from error
    except SQLAlchemyError as error:
        raise SettingsInvalid(
            "database_url is not the URL of a database with an async driver.",
            hint="Such as sqlite+aiosqlite:////path/to/file.db or postgresql+asyncpg://user@host/name.",
        ) from error
    except OSError as error:
        raise SettingsInvalid(
            f"The folder of the database can't be made: {error.strerror}.", hint="Check database_url and OPSWARM_HOME."
        ) from error
    if sqlite:
        listen(made.sync_engine, "connect", _on_sqlite_connect)
    return made


def _on_sqlite_connect(connection: Any, record: Any) -> None:
    """Readers and the writer don't wait for each other, and a lock is waited for, not failed on."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_MILLISECONDS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
