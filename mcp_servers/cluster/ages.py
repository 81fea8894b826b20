"""Timestamps of the API, and how long ago they were."""

from __future__ import annotations

from datetime import UTC, datetime

from opswarm.mcp.text import duration


def age(timestamp: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: `45s`, `12m`, `3h`, `6d`. "?" when there is no time."""
    when = parse_time(timestamp)
    return duration((now - when).total_seconds()) if when else "?"


def parse_time(timestamp: str | None) -> datetime | None:
    if not timestamp:
        return None
    try:
        when = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
