"""Checking what a caller asks for before it becomes part of a URL or a pattern."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import re2

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes, clean

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SINCE = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_PATTERN = 200


def _options() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False  # A caller's typing error is nothing for this process's log.
    return options


_RE2 = _options()


def shown(value: str) -> str:
    return f"'{cap_bytes(' '.join(clean(value).split()), 80)}'"


def name(value: str, field: str = "name") -> str:
    if not _NAME.fullmatch(value):
        raise InvalidInput(f"{field}: {shown(value)} is not a Kubernetes name.")
    return value


def prefix(value: str, field: str = "name") -> str:
    """A name, or the beginning of one: it may also end in a dash or a dot."""
    name(value.rstrip("-."), field)
    return value


def namespace(value: str) -> str:
    """ "" and "*" and "all" mean every namespace."""
    if value in ("", "*", "all"):
        return ""
    if not _NAMESPACE.fullmatch(value):
        raise InvalidInput(f"namespace: {shown(value)} is not a namespace name.")
    return value


def seconds(value: str, field: str = "since") -> int:
    """`15m`, `2h`, `1d` as seconds; "" is 0."""
    if not value:
        return 0
    found = _SINCE.fullmatch(value.strip())
    if not found:
        raise InvalidInput(f"{field}: {shown(value)} is not a duration.", hint="Write it like 15m, 2h or 1d.")
    return int(found.group(1)) * _UNIT[found.group(2)]


def pattern(value: str, field: str) -> Any:
    """A compiled RE2 expression, case ignored; None for "".

    RE2 matches in linear time, so no pattern can hold the server up, whatever the lines are. It knows no
    look-around and no back-references.
    """
    if not value:
        return None
    if len(value) > _MAX_PATTERN:
        raise InvalidInput(f"{field}: the pattern is longer than {_MAX_PATTERN} characters.")
    try:
        return re2.compile(value, _RE2)
    except (re2.error, UnicodeError) as error:
        raise InvalidInput(
            f"{field}: {shown(value)} is not a regular expression (RE2, without look-around)."
        ) from error


def bounded(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise InvalidInput(f"{field} must be from {low} to {high}, not {value}.")
    return value


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
