"""Tools that evaluate PromQL: at a time, and over a range."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.connection import TooLarge
from mcp_servers.observing.selectors import labels_text, query_text, wrapped
from mcp_servers.observing.times import MOST_POINTS, Clock, spelt, stamp
from mcp_servers.observing.values import Point, Result, Series, finite, number
from mcp_servers.prometheus.api import PrometheusApi
from mcp_servers.prometheus.cardinality import oversized, uncounted
from opswarm.errors import OpswarmError
from opswarm.mcp.text import TEXT_LIMIT, one_line
from opswarm.mcp.tools import ToolOutput

Query = Annotated[str, Field(description="PromQL.")]
Time = Annotated[str, Field(description="Such as 2h ago, or RFC 3339.")]

_MOST_STRING = 2_000
_STRINGS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*")
_METRIC = re.compile(r"(?<![\w:.$])([A-Za-z_:][\w:]*_[\w:]*)(?!\w)\s*(?!\s*\()(?=[{\[)\s,+*/%^=<>!-]|$)")
_NOT_METRICS = frozenset({"group_left", "group_right"})
_MOST_NAMES = 8


class Queries:
    """Evaluating a caller's PromQL at one server."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def metrics_query(
        self,
        query: Query,
        time: Time = "now",
        limit: Annotated[int, Field(description="Most series, to 500; more come as a summary.")] = 50,
    ) -> ToolOutput:
        """Evaluate PromQL at one time."""
        arguments.limited(limit)
        text, at = query_text(query, example="up == 0"), times.moment(time, self._clock(), "time")
        try:
            result = await self._api.query(text, at)
        except TooLarge:
            return await self._too_large(text, at)
        notes = _notes(result)
        if result.kind == "string":
            return _with_notes(f'"{one_line(result.text)[:_MOST_STRING]}"', notes, {"resultType": "string"})
        if result.kind == "scalar":
            value = result.series[0].last
            return _with_notes(f"{value} at {stamp(value.time)}", notes, _data(result))
        if not result.series:
            return _with_notes(f"No series at {stamp(at)}.", [*notes, *await self._absent(text, at)], _data(result))
        if len(result.series) > limit:
            return oversized(
                text,
                [s.labels for s in result.series],
                f"the limit is {limit}",
                matrix=result.kind == "matrix",
            )
        lines = _instant(result) if result.kind == "vector" else _own_times(result)
        if _bytes(lines) > TEXT_LIMIT:
            why = f"they take more than {TEXT_LIMIT} bytes"
            return oversized(text, [s.labels for s in result.series], why, matrix=result.kind == "matrix")
        return _with_notes("\n".join(lines), notes, _data(result))

    async def metrics_range(
        self,
        query: Query,
        start: Time = "1h ago",
        end: Time = "now",
        step: Annotated[str, Field(description="Such as 30s; raised to keep 100 points a series.")] = "",
        limit: Annotated[int, Field(description="Most series, to 500; more come as a summary.")] = 20,
    ) -> ToolOutput:
        """Evaluate PromQL over a range of time."""
        arguments.limited(limit)
        text = query_text(query, example="up == 0")
        first, last = times.span(start, end, self._clock())
        least = times.least_step(last - first)
        asked = times.duration(step, "step") if step.strip() else least
        used = max(asked, least) if (last - first) / asked > MOST_POINTS - 1 else asked
        raised = [f"(step raised from {spelt(asked)} to {spelt(used)}: at most {MOST_POINTS} points a series)"]
        try:
            result = await self._api.query_range(text, first, last, used)
        except TooLarge:
            return await self._too_large(text, last)
        notes = [*(raised if used > asked else []), *_notes(result)]
        frame = f"{stamp(first)} to {stamp(last)}, step {spelt(used)}"
        data = _data(result) | {"start": first, "end": last, "step": used}
        if not result.series:
            return _with_notes(f"No series from {frame}.", [*notes, *await self._absent(text, last)], data)
        lines = _ranges(result, frame, first, last, used) if len(result.series) <= limit else []
        if not lines or _bytes(lines) > TEXT_LIMIT:
            why = f"they take more than {TEXT_LIMIT} bytes" if lines else f"the limit is {limit}"
            labels = [s.labels for s in result.series]
            return oversized(text, labels, why, over=(last - first, used), matrix=False)
        return _with_notes("\n".join(lines), notes, data)

    async def _too_large(self, query: str, at: float) -> ToolOutput:
        try:
            found = await self._api.query(wrapped("count(", query, ")"), at)
        except OpswarmError:
            return uncounted(query, None)  # Of a range vector there is no count; that it is too large is said still.
        counted = [s.last.value for s in found.series if math.isfinite(s.last.value)]
        return uncounted(query, round(counted[0]) if counted else None)

    async def _absent(self, query: str, at: float) -> list[str]:
        """Which of the metrics that a query names have no series at that time."""
        names = metric_names(query)
        if not names:
            return []
        found = await self._api.query(f'count by (__name__) ({{__name__=~"{"|".join(names)}"}})', at)
        there = {s.labels.get("__name__", "") for s in found.series}
        missing = [n for n in names if n not in there]
        if missing:
            return [f"(nothing is stored then under {', '.join(missing)}; metrics_find searches by word)"]
        return [f"(there are series of {', '.join(names)}; the labels or the comparison leave none)"]


def metric_names(query: str) -> list[str]:
    """What looks like the name of a metric in PromQL: for a hint, so it may miss some."""
    plain = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", _STRINGS.sub('""', query))
    plain = re.sub(r"\{[^}]*\}", "{", plain)
    found = dict.fromkeys(m for m in _METRIC.findall(plain) if m not in _NOT_METRICS)
    return list(found)[:_MOST_NAMES]


def common(series: Sequence[Series]) -> dict[str, str]:
    """The labels that all of several series have alike."""
    if len(series) < 2:
        return {}
    first = dict(series[0].labels)
    return {k: v for k, v in first.items() if all(s.labels.get(k) == v for s in series)}


def _instant(result: Result) -> list[str]:
    shared = common(result.series)
    at = stamp(result.series[0].last.time)
    alike = f", all {labels_text(shared)}" if shared else ""
    rows = [(str(s.last), labels_text(s.labels, without=shared)) for s in result.series]
    return [f"{len(rows)} series at {at}{alike}", *_uncapped(rows)]


def _uncapped(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Value and series; a series is told in full, as it may be what is asked for next."""
    width = min(12, max(len(value) for value, _ in rows))
    return [f"{value.ljust(width)}  {labels}" for value, labels in rows]


def _own_times(result: Result) -> list[str]:
    """Ranges as they were stored, each sample with a time of its own."""
    lines = []
    for series in result.series:
        points = series.points[-MOST_POINTS:]
        told = " ".join(f"{stamp(p.time)[11:19]}={p}" for p in points)
        cut = f", last {len(points)}" if len(points) < len(series.points) else ""
        lines += [f"{labels_text(series.labels)}: {len(series.points)} samples{cut}, until {stamp(points[-1].time)}"]
        lines += [f"  {told}"]
    return lines


def _ranges(result: Result, frame: str, start: float, end: float, step: float) -> list[str]:
    shared = common(result.series)
    alike = f", all {labels_text(shared)}" if shared else ""
    lines = [f"{len(result.series)} series, {frame}{alike}; values in order, _ is no sample, 5x3 is 5 three times"]
    for series in result.series:
        values = [p.value for p in series.points if p.histogram is None and math.isfinite(p.value)]
        stats = ""
        if values:
            low, high, mean = min(values), max(values), sum(values) / len(values)
            stats = f" min {number(low)} max {number(high)} avg {number(mean)} last {series.last}"
        lines.append(f"{labels_text(series.labels, without=shared)}:{stats}")
        lines.append(f"  {_run_lengths(_on_grid(series.points, start, end, step))}")
    return lines


def _on_grid(points: Sequence[Point], start: float, end: float, step: float) -> list[str]:
    """One text a step; `_` where there is no sample."""
    slots = ["_"] * (math.floor((end - start) / step + 1e-6) + 1)
    for point in points:
        slot = round((point.time - start) / step)
        if 0 <= slot < len(slots):
            slots[slot] = str(point) if point.histogram is None else point.histogram.short()
    return slots


def _run_lengths(values: Sequence[str]) -> str:
    parts: list[str] = []
    for value, run in groupby(values):
        count = len(list(run))
        parts += [f"{value}x{count}"] if count > 2 else [value] * count
    return " ".join(parts)


def _notes(result: Result) -> list[str]:
    return [f"(warning: {w})" for w in result.warnings]


def _bytes(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _with_notes(text: str, notes: Sequence[str], data: Mapping[str, Any]) -> ToolOutput:
    return ToolOutput("\n".join([text, *notes]), {**data, "warnings": list(notes)} if notes else data)


def _data(result: Result) -> dict[str, Any]:
    """The result for code: values as the API wrote them, since JSON has no NaN."""
    if result.kind == "vector":
        series = [{"labels": dict(s.labels), "time": s.last.time, **_value(s.last)} for s in result.series]
    else:
        series = [{"labels": dict(s.labels), "points": [[p.time, _plain(p)] for p in s.points]} for s in result.series]
    return {"resultType": result.kind, "series": series}


def _value(point: Point) -> dict[str, Any]:
    return {"histogram": _plain(point)} if point.histogram else {"value": point.text}


def _plain(point: Point) -> Any:
    if point.histogram is None:
        return point.text
    return {"count": finite(point.histogram.count), "sum": finite(point.histogram.sum)}
