"""Tools that evaluate PromQL: at a time, and over a range."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.cardinality import oversized, uncounted
from mcp_servers.observing.connection import TooLarge
from mcp_servers.observing.results import data_of, instant_lines, own_times_lines, range_lines
from mcp_servers.observing.selectors import query_text, wrapped
from mcp_servers.observing.times import MOST_POINTS, Clock, spelt, stamp
from mcp_servers.observing.values import Result
from mcp_servers.prometheus.api import PrometheusApi
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
            return _with_notes(f"{value} at {stamp(value.time)}", notes, data_of(result))
        if not result.series:
            return _with_notes(f"No series at {stamp(at)}.", [*notes, *await self._absent(text, at)], data_of(result))
        if len(result.series) > limit:
            return oversized(
                text,
                [s.labels for s in result.series],
                f"the limit is {limit}",
                matrix=result.kind == "matrix",
            )
        lines = instant_lines(result) if result.kind == "vector" else own_times_lines(result)
        if _bytes(lines) > TEXT_LIMIT:
            why = f"they take more than {TEXT_LIMIT} bytes"
            return oversized(text, [s.labels for s in result.series], why, matrix=result.kind == "matrix")
        return _with_notes("\n".join(lines), notes, data_of(result))

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
        data = data_of(result) | {"start": first, "end": last, "step": used}
        if not result.series:
            return _with_notes(f"No series from {frame}.", [*notes, *await self._absent(text, last)], data)
        lines = range_lines(result, frame, first, last, used) if len(result.series) <= limit else []
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


def _notes(result: Result) -> list[str]:
    return [f"(warning: {w})" for w in result.warnings]


def _bytes(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _with_notes(text: str, notes: Sequence[str], data: Mapping[str, Any]) -> ToolOutput:
    return ToolOutput("\n".join([text, *notes]), {**data, "warnings": list(notes)} if notes else data)
