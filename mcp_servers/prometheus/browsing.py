"""Tools that tell what there is to be asked for: metrics, labels and series."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments, times
from mcp_servers.observing.arguments import Cursor, Limit
from mcp_servers.observing.selectors import labels_text, query_text
from mcp_servers.observing.times import Clock
from mcp_servers.prometheus.api import MOST_SERIES, PrometheusApi
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp.arguments import shown
from opswarm.mcp.pages import paged
from opswarm.mcp.text import one_line
from opswarm.mcp.tools import ToolOutput

Match = Annotated[str, Field(description='Only of these series, such as up{job="node"}.')]
Since = Annotated[str, Field(description="How far back, such as 1h.")]

_TYPES = ("counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown")
_PARTS = ("_bucket", "_count", "_sum", "_total", "_created")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and what its exporters say of it, "" where they say nothing."""

    name: str
    type: str = ""
    unit: str = ""
    help: str = ""


class Browsing:
    """What one server has stored."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def metrics_find(
        self,
        keyword: Annotated[str, Field(description="Words of the name or the help; empty: all.")] = "",
        type: Annotated[str, Field(description="Such as counter, gauge or histogram.")] = "",
        match: Match = "",
        limit: Limit = 30,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """Find metrics by word, with type, unit and help; best matches first."""
        arguments.limited(limit)
        arguments.one_of(type, _TYPES, "type")
        words = arguments.word(keyword, "keyword").split()
        end = self._clock()
        names = await self._api.label_values("__name__", _selectors(match), end - 3_600, end)
        notes = list(names.warnings)
        try:
            told = await self._api.metadata()
        except OpswarmError as error:
            # VictoriaMetrics has none unless it is told to keep it: names are there all the same.
            told = {}
            notes.append(f"no types and help: {error.message}")
        metrics = [_described(n, told) for n in names.items]
        ranked = sorted(
            ((rank, m) for m in metrics if (rank := _rank(m, words)) and type in ("", m.type)),
            key=lambda r: (-r[0], r[1].name),
        )
        title = f"{len(ranked)} of {len(metrics)} metrics"
        if not ranked:
            what = f"has '{one_line(keyword)[:80]}' in its name or help" if words else "was stored in the last hour"
            typed = f" and is a {type}" if type else ""
            return ToolOutput(
                "\n".join([f"No metric {what}{typed}; {len(metrics)} were looked at.", *(f"({n})" for n in notes)]),
                {"items": [], "total": 0, "complete": not names.cut, "cursor": ""},
            )
        return paged(
            [m for _, m in ranked],
            ("METRIC", "TYPE", "UNIT", "HELP"),
            lambda m: (m.name, m.type or "-", m.unit or "-", m.help),
            lambda m: {"name": m.name, "type": m.type, "unit": m.unit, "help": m.help},
            what="metrics", advice="another keyword, type or match", limit=limit, cursor=cursor, title=title,
            notes=[f"({n})" for n in notes], cut=names.cut,
        )  # fmt: skip

    async def metrics_labels(
        self,
        label: Annotated[str, Field(description="Whose values to list; empty: the names of labels.")] = "",
        match: Match = "",
        keyword: Annotated[str, Field(description="Part of what to list.")] = "",
        since: Since = "1h",
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List the labels there are, or the values of one."""
        arguments.limited(limit)
        part = arguments.word(keyword, "keyword")
        if len(label) > 253:
            raise InvalidInput("label is longer than 253 characters.")
        end = self._clock()
        start, selectors = end - times.duration(since, "since"), _selectors(match)
        if label:
            found = await self._api.label_values(label, selectors, start, end)
        else:
            found = await self._api.label_names(selectors, start, end)
        notes = [f"(warning: {w})" for w in found.warnings]
        kept = [n for n in found.items if part in n.lower()]
        what = f"values of {one_line(label)}" if label else "labels"
        if not found.items:
            raise NotFound(f"There are no {what} {_within(match, since)}.", hint=await self._hint(label, start, end))
        if not kept:
            raise NotFound(f"None of {len(found.items)} {what} has {shown(keyword)} in it.")
        return paged(
            kept, ("VALUE" if label else "LABEL",), lambda n: (n,), lambda n: n,
            what=what, advice="keyword or match", limit=limit, cursor=cursor, notes=notes, cut=found.cut,
        )  # fmt: skip

    async def metrics_series(
        self,
        match: Annotated[str, Field(description='Such as up{job="node"}.')],
        since: Since = "1h",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List the series that a selector matches, without values, and how many values each label has."""
        arguments.limited(limit)
        end = self._clock()
        found = await self._api.series(_selectors(match), end - times.duration(since, "since"), end)
        if not found.items:
            raise NotFound(f"No series {_within(match, since)}.", hint="metrics_find searches metrics by word.")
        distinct = _distinct(found.items)
        at_least = f"{MOST_SERIES} or more" if found.cut else str(len(found.items))
        told = ", ".join(f"{one_line(k)} {v}" for k, v in distinct[:20])
        return paged(
            sorted(found.items, key=labels_text), ("SERIES",), lambda s: (labels_text(s),), dict,
            what="series", advice="a matcher", limit=limit, cursor=cursor,
            title=f"{at_least} series; values a label has: {told}",
            notes=[f"(warning: {w})" for w in found.warnings], cut=found.cut, extra={"distinct": dict(distinct)},
        )  # fmt: skip

    async def _hint(self, label: str, start: float, end: float) -> str:
        if not label:
            return "metrics_find searches metrics by word."
        names = (await self._api.label_names([], start, end)).items
        if label in names:
            return "Without match, or further back, there may be some."
        near = [n for n in names if label.lower() in n.lower() or n.lower() in label.lower()][:5]
        told = f" Near it: {one_line(', '.join(near))}." if near else ""
        return f"There is no such label.{told}"


def _selectors(match: str) -> list[str]:
    return [query_text(match, "match")] if match.strip() else []


def _within(match: str, since: str) -> str:
    of = f" of {one_line(match)[:200]}" if match.strip() else ""
    return f"{of} in the last {since}".strip()


def _described(name: str, told: Mapping[str, Sequence[Mapping[str, Any]]]) -> Metric:
    """A metric with its own metadata, else that of the histogram or summary it is a part of."""
    for known in (name, *(name.removesuffix(p) for p in _PARTS if name.endswith(p))):
        if told.get(known):
            found = told[known][0]
            return Metric(name, *(one_line(str(found.get(key) or "")) for key in ("type", "unit", "help")))
    return Metric(name)


def _rank(metric: Metric, words: Sequence[str]) -> int:
    """How well a metric matches all words; 0 when it does not."""
    name, text = metric.name.lower(), metric.help.lower()
    if not words or name == "_".join(words):
        return 3
    if all(w in name for w in words):
        return 2
    return 1 if all(w in name or w in text for w in words) else 0


def _distinct(series: Sequence[Mapping[str, str]]) -> list[tuple[str, int]]:
    values: dict[str, set[str]] = {}
    for labels in series:
        for name, value in labels.items():
            values.setdefault(name, set()).add(value)
    return sorted(((k, len(v)) for k, v in values.items()), key=lambda d: (-d[1], d[0]))
