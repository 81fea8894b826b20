"""What a query gave, as lines that a model reads and as data for code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mcp_servers.observing.selectors import labels_text
from mcp_servers.observing.times import MOST_POINTS, stamp
from mcp_servers.observing.values import Point, Result, Series, finite, number


def common(series: Sequence[Series]) -> dict[str, str]:
    """The labels that all of several series have alike."""
    if len(series) < 2:
        return {}
    first = dict(series[0].labels)
    return {k: v for k, v in first.items() if all(s.labels.get(k) == v for s in series)}


def instant_lines(result: Result) -> list[str]:
    shared = common(result.series)
    at = stamp(result.series[0].last.time)
    alike = f", all {labels_text(shared)}" if shared else ""
    rows = [(str(s.last), labels_text(s.labels, without=shared)) for s in result.series]
    return [f"{len(rows)} series at {at}{alike}", *_uncapped(rows)]


def _uncapped(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Value and series; a series is told in full, as it may be what is asked for next."""
    width = min(12, max(len(value) for value, _ in rows))
    return [f"{value.ljust(width)}  {labels}" for value, labels in rows]


def own_times_lines(result: Result) -> list[str]:
    """Ranges as they were stored, each sample with a time of its own."""
    lines = []
    for series in result.series:
        points = series.points[-MOST_POINTS:]
        told = " ".join(f"{stamp(p.time)[11:19]}={p}" for p in points)
        cut = f", last {len(points)}" if len(points) < len(series.points) else ""
        lines += [f"{labels_text(series.labels)}: {len(series.points)} samples{cut}, until {stamp(points[-1].time)}"]
        lines += [f"  {told}"]
    return lines


def range_lines(result: Result, frame: str, start: float, end: float, step: float) -> list[str]:
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


def data_of(result: Result) -> dict[str, Any]:
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
