"""Tools that evaluate LogQL."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcp_servers.loki.asking import MostLines, Start, Store, limited, nanoseconds, shown
from mcp_servers.loki.selecting import reach, why_nothing
from mcp_servers.observing import arguments, times
from mcp_servers.observing.cardinality import oversized
from mcp_servers.observing.results import data_of, instant_lines, own_times_lines, range_lines
from mcp_servers.observing.selectors import query_text
from mcp_servers.observing.times import spelt, stamp
from mcp_servers.observing.values import Result
from opswarm.mcp.text import TEXT_LIMIT
from opswarm.mcp.tools import ToolOutput

Query = Annotated[str, Field(description='LogQL, such as {namespace="media"} |= "error".')]

_EXAMPLE = '{namespace="media"} |= "error"'
_MOST_SERIES = 50


class Queries:
    """Evaluating a caller's LogQL at one Loki."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._api = store.api

    async def logs_query(
        self,
        query: Query,
        start: Start = "1h ago",
        end: Start = "now",
        limit: MostLines = 50,
        direction: Annotated[Literal["backward", "forward"], Field(description="backward: the newest.")] = "backward",
        step: Annotated[str, Field(description="Of a metric query.")] = "",
    ) -> ToolOutput:
        """Evaluate LogQL over a range: lines, or the values of a metric query."""
        arguments.limited(limit)
        text = query_text(query, example=_EXAMPLE)
        first, last = self._store.span(start, end)
        seconds = (last - first) / 1e9
        least = times.least_step(seconds)
        used = max(times.duration(step, "step"), least) if step.strip() else least
        notes = await self._store.guard(text, first, last)
        found = await self._api.lines_or_values(text, first, last, limit=limit + 1, direction=direction, step=used)
        frame = f"{stamp(first / 1e9)} to {stamp(last / 1e9)}"
        if isinstance(found, Result):
            return await self._values(text, found, first, last, used, notes)
        kept, more = limited(found, limit, direction)
        if not kept.entries:
            return await self._nothing(text, first, last, notes)
        return shown(frame, kept, more=more, direction=direction, advice="selector, filter or time", notes=notes)

    async def logs_instant(self, query: Query, time: Start = "now") -> ToolOutput:
        """Evaluate a LogQL metric query, such as sum by (pod) (count_over_time({…}[1h])), at one time."""
        text = query_text(query, example=f"count_over_time({_EXAMPLE}[1h])")
        at = nanoseconds(times.moment(time, self._store.clock(), "time"))
        notes = await self._store.guard(text, at, at)
        found = await self._api.instant(text, at)
        if found.kind == "scalar":
            return ToolOutput(f"{found.series[0].last} at {stamp(at / 1e9)}", data_of(found))
        if not found.series:
            return await self._nothing(text, at, at, notes)
        if len(found.series) > _MOST_SERIES:
            return oversized(text, [s.labels for s in found.series], f"the limit is {_MOST_SERIES}", matrix=False)
        lines = instant_lines(found) if found.kind == "vector" else own_times_lines(found)
        return ToolOutput("\n".join([*lines, *notes]), data_of(found))

    async def _values(
        self, query: str, found: Result, first: int, last: int, step: float, notes: list[str]
    ) -> ToolOutput:
        if not found.series:
            return await self._nothing(query, first, last, notes)
        labels = [s.labels for s in found.series]
        if len(labels) > _MOST_SERIES:
            return oversized(query, labels, f"the limit is {_MOST_SERIES}", matrix=False)
        if found.kind != "matrix":
            return ToolOutput("\n".join([*instant_lines(found), *notes]), data_of(found))
        start, end = first / 1e9, last / 1e9
        frame = f"{stamp(start)} to {stamp(end)}, step {spelt(step)}"
        lines = range_lines(found, frame, start, end, step)
        if sum(len(line.encode()) + 1 for line in lines) > TEXT_LIMIT:
            return oversized(query, labels, f"they take more than {TEXT_LIMIT} bytes", matrix=False)
        return ToolOutput("\n".join([*lines, *notes]), data_of(found) | {"step": step})

    async def _nothing(self, query: str, first: int, last: int, notes: list[str]) -> ToolOutput:
        early = first - round(reach(query) * 1e9)
        why = await why_nothing(self._api, query, early, last)
        frame = f"{stamp(early / 1e9)} to {stamp(last / 1e9)}"
        return ToolOutput("\n".join([f"Nothing from {frame}. {why}", *notes]), {"lines": [], "truncated": False})
