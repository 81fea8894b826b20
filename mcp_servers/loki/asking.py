"""What the tools over one Loki share: its API, the clock, and the budget of a question."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.loki.api import Direction, Entry, Lines, LokiApi
from mcp_servers.loki.guarding import Budget, guard
from mcp_servers.loki.lines import by_stream
from mcp_servers.observing import times
from mcp_servers.observing.times import Clock
from opswarm.mcp.tools import ToolOutput

Since = Annotated[str, Field(description="How far back, such as 30m.")]
Start = Annotated[str, Field(description="Such as 2h ago, or RFC 3339.")]
MostLines = Annotated[int, Field(description="Most lines, to 500.")]


@dataclass(frozen=True, slots=True)
class Store:
    """One Loki as the tools ask it."""

    api: LokiApi
    budget: Budget
    clock: Clock = field(default=time.time)

    def window(self, since: str) -> tuple[int, int]:
        """The last so much time, in nanoseconds. Raises `InvalidInput`."""
        now = self.clock()
        return nanoseconds(now - times.duration(since, "since")), nanoseconds(now)

    def span(self, start: str, end: str) -> tuple[int, int]:
        """From one time to another, in nanoseconds. Raises `InvalidInput`."""
        first, last = times.span(start, end, self.clock())
        return nanoseconds(first), nanoseconds(last)

    async def guard(self, query: str, start: int, end: int) -> list[str]:
        return await guard(self.api, self.budget, query, start, end)

    async def some(self, query: str, start: int, end: int, limit: int, direction: Direction) -> tuple[Lines, bool]:
        """At most `limit` lines, and whether there are more."""
        found = await self.api.lines(query, start, end, limit=limit + 1, direction=direction)
        return limited(found, limit, direction)


def limited(found: Lines, limit: int, direction: Direction) -> tuple[Lines, bool]:
    """One line more than `limit` was asked for: without it, and whether it was there."""
    if len(found.entries) <= limit:
        return found, False
    kept = found.entries[:limit] if direction == "forward" else found.entries[-limit:]
    return Lines(kept, found.warnings), True


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000) * 1_000_000


def shown(
    head: str, lines: Lines, *, more: bool, direction: Direction, advice: str, notes: Sequence[str] = (), **data: Any
) -> ToolOutput:
    """Lines under `head`, the oldest first, with what was left out and which end it is missing from."""
    end = direction == "backward"
    told, fit = by_stream(lines.entries, keep_end=end)
    count = len(lines.entries)
    some = f"{fit}" if fit == count and not more else f"{fit} of {count}{'+' if more else ''}"
    text = [f"{head}: {some} lines{', ' + told.pop(0) if told and told[0].startswith('all ') else ''}", *told]
    if more or fit < count:
        which = "newest" if end else "oldest"
        text.append(f"(the {which} {fit}; there are more: narrow by {advice})")
    text += [f"(warning: {w})" for w in lines.warnings] + list(notes)
    kept = lines.entries[count - fit :] if end else lines.entries[:fit]
    return ToolOutput("\n".join(text), {"lines": [_datum(e) for e in kept], "truncated": more or fit < count, **data})


def _datum(entry: Entry) -> dict[str, Any]:
    return {"time": str(entry.time), "line": entry.line[:2_000], "labels": dict(entry.labels)}
