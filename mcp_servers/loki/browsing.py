"""Tools that tell what is stored: labels, streams, how much, and which patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.loki.api import Pattern
from mcp_servers.loki.asking import Since, Store
from mcp_servers.loki.lines import grouped
from mcp_servers.loki.selecting import known_stats, matchers, only_selector, selector, why_nothing
from mcp_servers.observing import arguments
from mcp_servers.observing.arguments import Cursor, Limit
from mcp_servers.observing.selectors import is_plain_label, labels_text
from mcp_servers.observing.times import spelt
from mcp_servers.observing.values import number, size
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp.arguments import shown
from opswarm.mcp.pages import paged
from opswarm.mcp.text import one_line
from opswarm.mcp.tools import ToolOutput

Match = Annotated[str, Field(description='Selector, such as {namespace="media"}.')]

_SAMPLE = 1_000
_LONGEST_PATTERN = 300
_MOST_SERIES = 5_000


class Browsing:
    """What one Loki has stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._api = store.api

    async def logs_labels(
        self,
        label: Annotated[str, Field(description="Whose values; empty: the labels' names.")] = "",
        match: Match = "",
        keyword: Annotated[str, Field(description="Only what has this.")] = "",
        since: Since = "6h",
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List the labels there are, or the values of one."""
        arguments.limited(limit)
        word = arguments.word(keyword, "keyword")
        chosen = only_selector(match, "match") if match.strip() else ""
        start, end = self._store.window(since)
        if label and not is_plain_label(label):
            raise InvalidInput(f"label: {shown(label)} is not a label.")
        found = (
            await self._api.values(label, start, end, chosen) if label else await self._api.labels(start, end, chosen)
        )
        if not found:
            what = f"The label {label} has no value" if label else "There is no label"
            known = ", ".join(await self._api.labels(start, end)) if label else ""
            hint = f" Labels: {one_line(known)[:500]}." if known else " Nothing may have been shipped; is it running?"
            return ToolOutput(f"{what} in the last {spelt((end - start) / 1e9)}.{hint}", {"items": [], "total": 0})
        kept = [f for f in found if word in f.lower()]
        title = f"{len(kept)} of {len(found)} {f'values of {label}' if label else 'labels'}"
        return paged(
            kept,
            ("VALUE" if label else "LABEL",),
            lambda value: (value,),
            lambda value: value,
            what="values" if label else "labels",
            advice="keyword or match",
            limit=limit,
            cursor=cursor,
            title=title,
        )

    async def logs_series(
        self, match: Match, since: Since = "1h", limit: Limit = 50, cursor: Cursor = ""
    ) -> ToolOutput:
        """List the streams that a selector matches, and how many values each label has."""
        arguments.limited(limit)
        chosen = only_selector(match, "match")
        start, end = self._store.window(since)
        found = sorted(await self._api.series(chosen, start, end), key=lambda s: sorted(s.items()))
        distinct: Counter[str] = Counter()
        for name in {n for s in found for n in s}:
            distinct[name] = len({s.get(name, "") for s in found})
        counts = ", ".join(f"{one_line(n)} {c}" for n, c in distinct.most_common(12))
        title = f"{len(found)} streams; values by label: {counts}" if found else "No stream."
        return paged(
            found[:_MOST_SERIES],
            ("STREAM",),
            lambda s: (labels_text(s),),
            dict,
            what="streams",
            advice="match",
            limit=limit,
            cursor=cursor,
            title=title,
            cut=len(found) > _MOST_SERIES,
            extra={"distinct": dict(distinct)},
            last=600,
        )

    async def logs_volume(
        self,
        match: Match,
        by: Annotated[str, Field(description="Label to group by, such as pod; empty: those of match.")] = "",
        since: Since = "1h",
        limit: Limit = 20,
    ) -> ToolOutput:
        """Show how much was logged: streams, lines and bytes in all, and bytes by a label; the largest first."""
        arguments.limited(limit)
        chosen = only_selector(match, "match")
        if by and not is_plain_label(by):
            raise InvalidInput(f"by: {shown(by)} is not a label.")
        start, end = self._store.window(since)
        stats = await known_stats(self._api, chosen, start, end)
        if stats is None:
            raise NotFound(f"{self._api.name} has no index statistics.", hint="Loki has them from 2.8 on.")
        span = (end - start) / 1e9
        whole = f"{stats.streams} streams, {stats.entries} lines, {size(stats.bytes)}B in {spelt(span)}"
        data: dict[str, Any] = {"streams": stats.streams, "entries": stats.entries, "bytes": stats.bytes}
        if not stats.streams:
            why = await why_nothing(self._api, chosen, start, end)
            return ToolOutput(f"{whole}\n{why}", {**data, "items": [], "why": why})
        try:
            found = await self._api.volume(chosen, start, end, by=[by] if by else (), limit=limit)
        except OpswarmError as error:
            # It is off unless the settings of Loki have volume_enabled.
            return ToolOutput(f"{whole}\n(no volumes by label: {error.message})", {**data, "items": []})
        rows = sorted(found.series, key=lambda s: -s.last.value)
        return paged(
            rows,
            ("BYTES", "A SECOND", "OF"),
            lambda s: (f"{size(s.last.value)}B", f"{size(s.last.value / span)}B", labels_text(s.labels)),
            lambda s: {"labels": dict(s.labels), "bytes": s.last.value},
            what="groups",
            advice="match",
            limit=limit,
            title=whole,
            extra=data,
        )

    async def logs_patterns(self, match: Match, since: Since = "1h", limit: Limit = 20) -> ToolOutput:
        """Show which patterns the lines of some streams have, and how many lines each; the most frequent first."""
        arguments.limited(limit)
        chosen = only_selector(match, "match")
        start, end = self._store.window(since)
        try:
            found, notes = list(await self._api.patterns(chosen, start, end)), []
        except NotFound:
            found, notes = [], ["(this Loki finds no patterns itself; pattern_ingester.enabled is its setting)"]
        if not found:
            notes += await self._store.guard(chosen, start, end)
            lines, more = await self._store.some(chosen, start, end, _SAMPLE, "backward")
            found = [Pattern(g.pattern, g.count) for g in grouped(lines.entries, "")]
            which = f"the newest {len(lines.entries)}" if more else f"all {len(lines.entries)}"
            notes.append(f"(found here, in {which} lines)")
            if not lines.entries:
                notes.append(await why_nothing(self._api, chosen, start, end))
        return paged(
            found,
            ("LINES", "LEVEL", "PATTERN"),
            lambda p: (number(p.count), p.level or "-", p.text),
            _datum,
            what="patterns",
            advice="match or since",
            limit=limit,
            title=f"{len(found)} patterns of {selector(matchers(chosen))}",
            notes=notes,
            last=_LONGEST_PATTERN,
        )


def _datum(pattern: Pattern) -> Mapping[str, Any]:
    return {"pattern": pattern.text, "count": pattern.count, "level": pattern.level}
