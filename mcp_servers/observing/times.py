"""Times and durations in the spellings that people and query languages use, and the steps of a range."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp.text import one_line

Clock = Callable[[], float]
"""Unix seconds."""

MOST_POINTS = 100
"""Of one series in a range."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
_PART = re.compile(r"(\d{1,12})(ms|[smhdwy])", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,12}(?:ms|[smhdwy]))+", re.ASCII)
_AGO = re.compile(r"-\s*(?P<minus>\S+)|(?P<ago>\S+)\s+ago|now\s*-\s*(?P<now>\S+)")
_NUMBER = re.compile(r"\d{1,13}(?:\.\d{1,9})?", re.ASCII)
_MILLISECONDS = 100_000_000_000
_LATEST = 253_402_300_799.0
_STEPS = (
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 28_800,
    43_200, 86_400,
)  # fmt: skip
_SPELLINGS = "Write it like 2h ago, now, 2026-01-31T12:00:00Z or Unix seconds."


def duration(text: str, field: str) -> float:
    """`30s`, `5m`, `1h30m`, `2d` as seconds, or a plain number of seconds. Raises `InvalidInput`."""
    plain = text.strip()
    if _NUMBER.fullmatch(plain):
        seconds = float(plain)
    elif _DURATION.fullmatch(plain):
        seconds = sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(plain))
    else:
        raise InvalidInput(f"{field}: {_shown(text)} is not a duration.", hint="Write it like 30s, 5m, 1h30m or 2d.")
    if not 0 < seconds <= 10 * _UNITS["y"]:
        raise InvalidInput(f"{field}: {_shown(text)} is not between 1ms and 10 years.")
    return seconds


def moment(text: str, now: float, field: str) -> float:
    """Unix seconds of a time in any of its spellings; "" is now. A time without a zone is UTC.

    Raises `InvalidInput`.
    """
    plain = text.strip()
    if plain.lower() in ("", "now"):
        return now
    if found := _AGO.fullmatch(plain.lower()):
        return now - duration(found["minus"] or found["ago"] or found["now"], field)
    if _NUMBER.fullmatch(plain):
        number = float(plain)
        return number / 1_000 if number >= _MILLISECONDS else number
    if _DURATION.fullmatch(plain):
        raise InvalidInput(f"{field}: {_shown(text)} is a duration, not a time.", hint=f"Write {plain} ago.")
    try:
        when = datetime.fromisoformat(plain)
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field}: {_shown(text)} is not a time.", hint=_SPELLINGS) from error
    if not 0 <= seconds <= _LATEST:
        raise InvalidInput(f"{field}: {_shown(text)} is before 1970.", hint=_SPELLINGS)
    return seconds


def span(start: str, end: str, now: float) -> tuple[float, float]:
    """Both ends of a range as Unix seconds. Raises `InvalidInput` for one that is reversed or empty."""
    first, last = moment(start, now, "start"), moment(end, now, "end")
    if first >= last:
        raise InvalidInput(f"start ({stamp(first)}) is not before end ({stamp(last)}).", hint="Swap them, or widen it.")
    return first, last


def least_step(seconds: float) -> float:
    """The least round step, in seconds, with which a range has at most `MOST_POINTS` points, both ends counted."""
    exact = seconds / (MOST_POINTS - 1)
    if exact > _STEPS[-1]:
        return math.ceil(exact / _STEPS[-1]) * float(_STEPS[-1])
    return float(next(s for s in _STEPS if s >= exact))


def stamp(seconds: float) -> str:
    """A time as a person reads it: `2026-01-31 12:00:00Z`."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "?"


def day(seconds: float) -> str:
    return stamp(seconds)[:10]


def spelt(seconds: float) -> str:
    """A duration as PromQL and LogQL write it: `1h30m`; whole milliseconds."""
    left = round(seconds * 1_000)
    parts = []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        size = round(_UNITS[unit] * 1_000)
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def _shown(text: str) -> str:
    return f"'{cap_bytes(one_line(text), 60)}'"
