"""Tools that need no LogQL: the logs of a workload, its errors by pattern, and what stands around a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import re2
from pydantic import Field

from mcp_servers.loki.api import Lines, LokiApi
from mcp_servers.loki.asking import MostLines, Since, Store, shown
from mcp_servers.loki.browsing import Match
from mcp_servers.loki.lines import WORSE, Group, clock, grouped, words
from mcp_servers.loki.selecting import (
    Labels,
    labels_of_kubernetes,
    only_selector,
    selector,
    streams_of,
    why_nothing,
)
from mcp_servers.observing import arguments, times
from mcp_servers.observing.arguments import Limit
from mcp_servers.observing.selectors import quoted
from mcp_servers.observing.times import spelt, stamp
from opswarm.errors import InvalidInput
from opswarm.mcp import arguments as checked
from opswarm.mcp.pages import paged
from opswarm.mcp.text import one_line
from opswarm.mcp.tools import ToolOutput

Level = Literal["", "warn", "error", "fatal"]
Namespace = Annotated[str, Field(description="Namespace.")]
Workload = Annotated[str, Field(description="Deployment, StatefulSet, DaemonSet, Job or pod; empty: all.")]

_SAMPLE = 2_000
_LONGEST_TEXT = 500
_NANOSECONDS = re.compile(r"\d{16,19}", re.ASCII)
_BEFORE = 1_800 * 1_000_000_000
_MOST_AROUND = 200
_KEPT_SOURCES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """Where to look: the streams, the window in nanoseconds, and how the person names it."""

    match: str
    labels: Labels
    start: int
    end: int
    name: str


class Workloads:
    """Questions in the words of Kubernetes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._api: LokiApi = store.api

    async def workload_logs(
        self,
        namespace: Namespace,
        workload: Workload = "",
        container: Annotated[str, Field(description="Container; empty: all.")] = "",
        level: Annotated[Level, Field(description="That bad or worse: warn, error, fatal.")] = "",
        text: Annotated[str, Field(description="Only lines with this text, in any case.")] = "",
        since: Since = "1h",
        limit: MostLines = 50,
    ) -> ToolOutput:
        """Read the newest lines of a workload, or of a whole namespace; also of pods that are gone."""
        arguments.limited(limit)
        asked = await self._asked(namespace, workload, container, since)
        notes = await self._store.guard(asked.match, asked.start, asked.end)
        filters = _containing(text)
        lines, more, note = await self._levelled(asked, filters, level, limit)
        notes += note
        if not lines.entries:
            what = f"No line{f' of level {level} or worse' if level else ''}{f' with {_told(text)}' if text else ''}"
            why = await why_nothing(self._api, asked.match, asked.start, asked.end)
            return ToolOutput(f"{what} of {asked.name}. {why}", {"lines": [], "truncated": False})
        return shown(
            asked.name,
            lines,
            more=more,
            direction="backward",
            advice="text, level, container or since",
            notes=notes,
            selector=asked.match,
        )

    async def error_patterns(
        self,
        namespace: Namespace,
        workload: Workload = "",
        level: Annotated[Level, Field(description="That bad or worse.")] = "error",
        since: Since = "1h",
        limit: Limit = 20,
    ) -> ToolOutput:
        """Group the errors of a workload, or of a namespace, by pattern: how often, since when, and an example."""
        arguments.limited(limit)
        asked = await self._asked(namespace, workload, "", since)
        notes = await self._store.guard(asked.match, asked.start, asked.end)
        lines, more, note = await self._levelled(asked, "", level or "error", _SAMPLE)
        notes += note
        if not lines.entries:
            return ToolOutput(
                f"No line of level {level or 'error'} or worse of {asked.name}.", {"items": [], "total": 0}
            )
        source = asked.labels.pod or asked.labels.app
        groups = grouped(lines.entries, source)
        if more:
            notes.append(f"(of the newest {len(lines.entries)} such lines; there are more: shorten since)")
        return paged(
            groups,
            ("LINES", "FIRST", "LAST", "FROM", "EXAMPLE"),
            lambda g: (str(g.count), clock(g.first)[:19], clock(g.last)[:19], _sources(g), g.example),
            lambda g: {
                "pattern": g.pattern,
                "count": g.count,
                "first": str(g.first),
                "last": str(g.last),
                "from": dict(g.sources),
                "example": g.example,
            },
            what="patterns",
            advice="workload, level or since",
            limit=limit,
            title=f"{len(lines.entries)} lines in {len(groups)} patterns, {asked.name}",
            notes=notes,
            last=400,
        )

    async def logs_context(
        self,
        match: Match,
        time: Annotated[str, Field(description="Of the line: as shown, RFC 3339, or nanoseconds.")],
        before: Annotated[int, Field(description="Lines before it, to 200.")] = 10,
        after: Annotated[int, Field(description="Lines from it on, to 200.")] = 10,
    ) -> ToolOutput:
        """Show what stands around a line, in the same streams."""
        checked.bounded(before, 0, _MOST_AROUND, "before")
        checked.bounded(after, 0, _MOST_AROUND, "after")
        if not before + after:
            raise InvalidInput("before and after are both 0.")
        chosen = only_selector(match, "match")
        at = _at(time, self._store.clock())
        first, last = at - _BEFORE, at + _BEFORE
        notes = await self._store.guard(chosen, first, last)
        old = (await self._store.some(chosen, first, at, before, "backward"))[0].entries if before else ()
        new = (await self._store.some(chosen, at, last, after, "forward"))[0].entries if after else ()
        found = Lines((*old, *new))
        if not found.entries:
            why = await why_nothing(self._api, chosen, first, last)
            return ToolOutput(
                f"No line within {spelt(_BEFORE / 1e9)} of {stamp(at / 1e9)}. {why}", {"lines": [], "truncated": False}
            )
        head = f"{len(old)} before and {len(new)} from {clock(at)} on"
        return shown(head, found, more=False, direction="backward", advice="before and after", notes=notes)

    async def _asked(self, namespace: str, workload: str, container: str, since: str) -> Asked:
        place = checked.namespace(namespace)
        if not place:
            raise InvalidInput("namespace is empty.", hint="Over all of them ask with logs_query.")
        what = checked.name(workload, "workload") if workload else ""
        inside = checked.name(container, "container") if container else ""
        start, end = self._store.window(since)
        labels = await labels_of_kubernetes(self._api, start, end)
        conditions = await streams_of(self._api, labels, place, what, inside, start, end)
        name = f"{place}{f'/{what}' if what else ''}{f' container {inside}' if inside else ''}, last {since.strip()}"
        return Asked(selector(conditions), labels, start, end, name)

    async def _levelled(self, asked: Asked, filters: str, level: str, limit: int) -> tuple[Lines, bool, list[str]]:
        """The newest lines of a level or worse, whether there are more, and how the level was found."""
        query = f"{asked.match}{filters}"
        if not level:
            return (*await self._store.some(query, asked.start, asked.end, limit, "backward"), [])
        levels = "|".join(WORSE[level])
        by_label = f'{query} | detected_level=~"(?i)({levels})" or level=~"(?i)({levels})"'
        lines, more = await self._store.some(by_label, asked.start, asked.end, limit, "backward")
        if lines.entries:
            return lines, more, []
        # Loki before 3 detects no level, and not every line has a label for it: then the words of the line count.
        by_words = f"{query} |~ {quoted(words(level))}"
        lines, more = await self._store.some(by_words, asked.start, asked.end, limit, "backward")
        note = ["(by the words of the lines: no level is stored with them)"] if lines.entries else []
        return lines, more, note


def _containing(text: str) -> str:
    """A filter for lines with `text`, whatever it holds. Raises `InvalidInput`."""
    if len(text) > _LONGEST_TEXT:
        raise InvalidInput(f"text is longer than {_LONGEST_TEXT} characters.")
    return f" |~ {quoted('(?i)' + re2.escape(text))}" if text else ""


def _at(text: str, now: float) -> int:
    plain = text.strip()
    if _NANOSECONDS.fullmatch(plain):
        return int(plain)
    return round(times.moment(plain, now, "time") * 1_000) * 1_000_000


def _told(text: str) -> str:
    return f"'{one_line(text)[:60]}'"


def _sources(group: Group) -> str:
    named = [name for name, _ in group.sources.most_common(_KEPT_SOURCES)]
    more = len(group.sources) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "") or "-"
