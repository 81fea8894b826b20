"""Checking what a caller asks for before it becomes part of a request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp.text import one_line

MOST_ROWS = 500

Limit = Annotated[int, Field(description="Most rows, to 500.")]
Cursor = Annotated[str, Field(description="From the page before.")]
Namespace = Annotated[str, Field(description="One namespace; empty: all.")]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

T = TypeVar("T")


def bounded(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise InvalidInput(f"{field} must be from {low} to {high}, not {value}.")
    return value


def limited(limit: int) -> int:
    return bounded(limit, 1, MOST_ROWS, "limit")


def namespace(value: str) -> str:
    """ "" and "*" and "all" mean every namespace."""
    if value in ("", "*", "all"):
        return ""
    if not _NAMESPACE.fullmatch(value):
        raise InvalidInput(f"namespace: {shown(value)} is not a namespace name.")
    return value


def name(value: str, field: str) -> str:
    """The name of an object of Kubernetes."""
    if not _NAME.fullmatch(value):
        raise InvalidInput(f"{field}: {shown(value)} is not a Kubernetes name.")
    return value


def one_of(value: str, choices: Sequence[str], field: str) -> str:
    """One of `choices`, or "" where that is not asked for."""
    if value and value not in choices:
        raise InvalidInput(f"{field}: {shown(value)} is none of {', '.join(choices)}.")
    return value


def word(value: str, field: str) -> str:
    """Something to look for, in lower case; "" for nothing."""
    if len(value) > 253:
        raise InvalidInput(f"{field} is longer than 253 characters.")
    return value.strip().lower()


def after(cursor: str) -> int:
    """How many rows the pages before had. Raises `InvalidInput` for a cursor that is none of ours."""
    if not cursor:
        return 0
    try:
        number = int(base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").removeprefix("row:"))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            f"cursor: {shown(cursor)} is none of this tool's.", hint="List again from the start."
        ) from error
    return bounded(number, 0, 10_000_000, "cursor")


def cursor_at(row: int) -> str:
    return base64.urlsafe_b64encode(f"row:{row}".encode()).decode()


def shown(value: Any) -> str:
    return f"'{cap_bytes(one_line(str(value)), 80)}'"
