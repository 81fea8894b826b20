"""Checking what a caller asks for before it becomes part of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from opswarm.errors import InvalidInput
from opswarm.mcp.arguments import bounded, shown

MOST_ROWS = 500

Limit = Annotated[int, Field(description="Most rows, to 500.")]
Cursor = Annotated[str, Field(description="From the page before.")]
Namespace = Annotated[str, Field(description="One namespace; empty: all.")]

T = TypeVar("T")


def limited(limit: int) -> int:
    return bounded(limit, 1, MOST_ROWS, "limit")


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
