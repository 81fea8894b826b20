"""Whether it is a quiet hour."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from opswarm.guard.policy import DAYS, QuietHours


def is_quiet(hours: QuietHours, now: float) -> bool:
    """Whether `now` (seconds since the epoch) is within them, by the wall clock of their time zone.

    Hours that go across midnight belong to the day on which they begin.
    """
    local = datetime.fromtimestamp(now, ZoneInfo(hours.time_zone))
    minute = local.hour * 60 + local.minute
    begin, end = _minutes(hours.begin), _minutes(hours.end)
    today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    if begin < end:
        return today in hours.days and begin <= minute < end
    return (today in hours.days and minute >= begin) or (yesterday in hours.days and minute < end)


def _minutes(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)
