"""Loki's HTTP API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mcp_servers.observing.answers import Success, as_json, items_of, labels_of, object_of, pointed, success
from mcp_servers.observing.connection import Connection, Reply, segment
from mcp_servers.observing.selectors import MOST_QUERY
from mcp_servers.observing.values import Result, parsed
from opswarm.errors import InvalidInput, LimitExceeded, NotFound, OpswarmError, Unauthenticated, Unavailable

MOST_LINES = 5_000
"""Loki's own `max_entries_limit_per_query`, unless it is set otherwise."""

Direction = Literal["forward", "backward"]

_POSITION = re.compile(r"parse error at line (\d{1,6}), col (\d{1,6}): ")
_AROUND = 60
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: nanoseconds since 1970, the text, and its labels with structured metadata among them."""

    time: int
    line: str
    labels: Mapping[str, str]

    @property
    def seconds(self) -> float:
        return self.time / _NANO


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines that a query gave, the oldest first, with what Loki said beside them."""

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """What the index has of a selector in a window of time: `bytes` are those of the lines, unpacked."""

    streams: int
    chunks: int
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that Loki found, with how many lines it had."""

    text: str
    count: int
    level: str = ""


class LokiApi:
    """One Loki. Times are nanoseconds since 1970; `start` is in a window and `end` is not.

    Every method raises what `Connection.read` does, and Loki's own refusals as `OpswarmError`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.name = connection.name

    async def lines_or_values(
        self, query: str, start: int, end: int, *, limit: int, direction: Direction = "backward", step: float = 0
    ) -> Lines | Result:
        """What LogQL gives over a range: lines, or the values of a metric every `step` seconds."""
        params = [
            ("query", query), ("start", str(start)), ("end", str(end)), ("limit", str(limit)),
            ("direction", direction), *([("step", f"{step:g}")] if step else []),
        ]  # fmt: skip
        return self._result(await self._read("/query_range", params, query))

    async def lines(self, query: str, start: int, end: int, *, limit: int, direction: Direction = "backward") -> Lines:
        """The lines of a log query. Raises `InvalidInput` for a query of a metric."""
        found = await self.lines_or_values(query, start, end, limit=limit, direction=direction)
        if isinstance(found, Result):
            raise InvalidInput("This query gives values, not lines.")
        return found

    async def instant(self, query: str, at: int, *, limit: int = 100) -> Result:
        """The value of a metric query at a time. Raises `InvalidInput` for a query of lines."""
        params = [("query", query), ("time", str(at)), ("limit", str(limit))]
        found = self._result(await self._read("/query", params, query))
        if isinstance(found, Lines):
            raise InvalidInput("This query gives lines, which there are over a range only.")
        return found

    async def labels(self, start: int, end: int, query: str = "") -> tuple[str, ...]:
        """The names of labels; of the streams that the selector `query` matches, where this Loki heeds it."""
        found = await self._read("/labels", [*_window(start, end), *([("query", query)] if query else [])], query)
        return tuple(sorted(str(n) for n in items_of(found.data, self.name)))

    async def values(self, label: str, start: int, end: int, query: str = "") -> tuple[str, ...]:
        params = [*_window(start, end), *([("query", query)] if query else [])]
        found = await self._read(f"/label/{segment(label)}/values", params, query)
        return tuple(sorted(str(n) for n in items_of(found.data, self.name)))

    async def series(self, match: str, start: int, end: int) -> tuple[Mapping[str, str], ...]:
        """The label sets of the streams that a selector matches."""
        found = await self._read("/series", [*_window(start, end), ("match[]", match)], match)
        return tuple(labels_of(one, self.name) for one in items_of(found.data, self.name))

    async def stats(self, match: str, start: int, end: int) -> Stats:
        """Raises `NotFound` where this Loki (before 2.8) has no such statistics."""
        reply = await self._get("/index/stats", [("query", match), *_window(start, end)])
        self._refuse(reply, match)
        body = object_of(as_json(reply, self.name), self.name)
        body = body.get("data", body)
        streams, chunks, entries, size = (_count(body, k) for k in ("streams", "chunks", "entries", "bytes"))
        return Stats(streams, chunks, entries, size)

    async def volume(self, match: str, start: int, end: int, *, by: Sequence[str] = (), limit: int = 100) -> Result:
        """Bytes by the labels `by`, else by those of the selector; the largest first."""
        params = [("query", match), *_window(start, end), ("limit", str(limit))]
        params += [("targetLabels", ",".join(by))] if by else []
        found = await self._read("/index/volume", params, match)
        return parsed(found.data, self.name, found.warnings)

    async def patterns(self, match: str, start: int, end: int) -> tuple[Pattern, ...]:
        """The patterns of the lines, the most frequent first. Raises `NotFound` where Loki was not told to find any."""
        found = await self._read("/patterns", [("query", match), *_window(start, end)], match)
        items = [object_of(one, self.name) for one in items_of(found.data, self.name)]
        told = [Pattern(str(i.get("pattern") or ""), _sum(i.get("samples")), str(i.get("level") or "")) for i in items]
        return tuple(sorted(told, key=lambda p: -p.count))

    async def check(self) -> None:
        """Returns when it answers a question, with our credentials."""
        await self._read("/labels", [])

    def _result(self, found: Success) -> Lines | Result:
        data = object_of(found.data, self.name)
        if data.get("resultType") != "streams":
            return parsed(data, self.name, found.warnings)
        entries = [e for stream in items_of(data.get("result"), self.name) for e in _entries(stream, self.name)]
        return Lines(tuple(sorted(entries, key=lambda e: e.time)), found.warnings)

    async def _get(self, path: str, params: Sequence[tuple[str, str]]) -> Reply:
        return await self._connection.read(f"/loki/api/v1{path}", params, form=True)

    async def _read(self, path: str, params: Sequence[tuple[str, str]], query: str = "") -> Success:
        if len(query) > MOST_QUERY * 4:
            raise Unavailable("The query that was put together is too long.")
        reply = await self._get(path, params)
        self._refuse(reply, query)
        return success(reply, self.name, query)

    def _refuse(self, reply: Reply, query: str) -> None:
        """Raises what Loki says in plain text, which it does for nearly every failure."""
        if reply.status < 400 or reply.body.lstrip()[:1] in (b"{", b"<"):
            return
        told = " ".join(reply.body[:4_000].decode("utf-8", errors="replace").split())[:500].rstrip(".")
        if reply.status == 401 and "no org id" in told:
            raise Unauthenticated(f"{self.name} wants to know the tenant.", hint="Set `tenant`.")
        if query and (found := _POSITION.search(told)):
            raise InvalidInput(pointed(query, int(found[1]), int(found[2]), told[found.end() :]))
        if reply.status == 400 and ("at least one regexp or equality matcher" in told):
            raise InvalidInput(
                "The selector matches every stream.", hint='Name one label by its value, such as {namespace="media"}.'
            )
        if (kind := _kind(reply.status, told)) is not None:
            raise kind(f"{self.name} refuses that: {told}.", hint="Narrow the selector or the time, or ask for less.")


def _kind(status: int, told: str) -> type[OpswarmError] | None:
    lower = told.lower()
    if status == 429 or any(w in lower for w in ("limit", "too many", "would read", "exceed")):
        return LimitExceeded
    if status == 400 or "parse error" in lower:
        return InvalidInput
    if status == 404:
        return NotFound
    return None


def _window(start: int, end: int) -> list[tuple[str, str]]:
    return [("start", str(start)), ("end", str(end))]


def _entries(stream: Any, name: str) -> list[Entry]:
    """The lines of one stream; a value may have structured metadata, as two kinds of labels, for its third."""
    found = object_of(stream, name)
    labels = labels_of(found.get("stream") or {}, name)
    entries = []
    for value in items_of(found.get("values"), name):
        try:
            at, line = int(value[0]), str(value[1])
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Unavailable(f"{name} gave a line that is not one of its API.") from error
        more: dict[str, str] = {}
        if len(value) > 2 and isinstance(value[2], dict):
            for part in (value[2].get("structuredMetadata"), value[2].get("parsed")):
                more |= labels_of(part or {}, name)
        entries.append(Entry(at, line, {**labels, **more} if more else labels))
    return entries


def _count(body: Mapping[str, Any], key: str) -> int:
    try:
        return int(body.get(key) or 0)
    except (TypeError, ValueError):
        return 0


def _sum(samples: Any) -> int:
    """How many lines a pattern had: its samples are pairs of a time and a count."""
    try:
        return sum(int(s[1]) for s in samples or ())
    except (TypeError, ValueError, IndexError, KeyError):
        return 0
