from __future__ import annotations

import math

import pytest

from mcp_servers.observing.times import MOST_POINTS, day, duration, least_step, moment, span, spelt, stamp
from opswarm.errors import InvalidInput

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5_400), ("2d", 172_800), ("1w", 604_800), ("250ms", 0.25), ("15", 15), ("1.5", 1.5),
     (" 5m ", 300), ("1h1h", 7_200)],
)  # fmt: skip
def test_a_duration_is_read_in_each_of_its_spellings(text: str, seconds: float) -> None:
    assert duration(text, "since") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "5 m", "m", "1h30", "-5m", "1e9", "٣m", "99y", "1h\n2", "5m;drop", "NaN"]
)
def test_what_is_no_duration_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="since"):
        duration(text, "since")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW), ("", NOW), ("2h ago", NOW - 7_200), ("-2h", NOW - 7_200), ("now-1h30m", NOW - 5_400),
        ("now - 5m", NOW - 300), ("1790000000", NOW), ("1790000000.5", NOW + 0.5), ("1790000000000", NOW),
        ("2026-09-21T14:13:20Z", NOW), ("2026-09-21T16:13:20+02:00", NOW), ("2026-09-21 14:13:20", NOW),
        ("2026-09-21", NOW - 51_200), ("NOW", NOW), ("2H AGO", NOW - 7_200),
    ],
)  # fmt: skip
def test_a_time_is_read_in_each_of_its_spellings(text: str, expected: float) -> None:
    assert moment(text, NOW, "time") == expected


@pytest.mark.parametrize("text", ["yesterday", "2h", "1969-01-01", "2026-13-01", "tomorrow ago", "inf"])
def test_what_is_no_time_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        moment(text, NOW, "time")
    assert refused.value.hint


def test_a_duration_where_a_time_belongs_is_answered_with_the_time() -> None:
    with pytest.raises(InvalidInput) as refused:
        moment("2h", NOW, "start")
    assert refused.value.hint == "Write 2h ago."


@pytest.mark.parametrize(("start", "end"), [("now", "1h ago"), ("1h ago", "1h ago"), ("0s ago", "now")])
def test_a_range_that_is_reversed_or_empty_is_refused(start: str, end: str) -> None:
    with pytest.raises(InvalidInput):
        span(start, end, NOW)


@pytest.mark.parametrize("seconds", [1, 59, 3_600, 86_400, 30 * 86_400, 10 * 31_536_000, 0.5])
def test_the_least_step_keeps_a_series_within_a_hundred_points(seconds: float) -> None:
    assert math.floor(seconds / least_step(seconds)) + 1 <= MOST_POINTS


@pytest.mark.parametrize("text", ["1h30m", "2d", "1w", "45s", "250ms", "1d1s"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert spelt(duration(text, "x")) == text


def test_what_no_calendar_has_is_a_question_mark() -> None:
    assert stamp(1e18) == stamp(math.nan) == stamp(math.inf) == "?"
    assert day(NOW) == "2026-09-21"
