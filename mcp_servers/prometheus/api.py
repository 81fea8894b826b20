"""Prometheus's HTTP API, as Prometheus, VictoriaMetrics, Thanos, Mimir and Cortex speak it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_servers.observing.answers import Success, items_of, labels_of, object_of, success
from mcp_servers.observing.connection import Connection, segment
from mcp_servers.observing.selectors import MOST_QUERY, is_plain_label
from mcp_servers.observing.values import Result, parsed
from opswarm.errors import Unavailable

MOST_SERIES = 10_000
"""Asked for at once. Servers that know no limit (before Prometheus 2.53 or so) send more."""

_LONGEST_OURS = MOST_QUERY * 4


@dataclass(frozen=True, slots=True)
class Listed:
    """Names or series, and whether there may be more than were given."""

    items: tuple[Any, ...]
    cut: bool
    warnings: tuple[str, ...] = ()


class PrometheusApi:
    """One server's API. Every method raises what `Connection.read` does, and the API's own refusals as `OpswarmError`.

    `rules` is where rules and alerts are asked for, where that is another server.
    """

    def __init__(self, metrics: Connection, rules: Connection | None = None) -> None:
        self._metrics = metrics
        self._rules = rules or metrics
        self.name = metrics.name
        self.timeout = f"{max(1, round(metrics.total * 0.9))}s"
        """What the server is told to give up after, a little before we do."""

    async def query(self, query: str, at: float) -> Result:
        """The value of PromQL at a time (Unix seconds)."""
        params = [("query", query), ("time", f"{at:.3f}"), ("timeout", self.timeout), ("limit", str(MOST_SERIES))]
        return await self._evaluated("/api/v1/query", params, query)

    async def query_range(self, query: str, start: float, end: float, step: float) -> Result:
        """The values of PromQL from `start` to `end`, both counted, every `step` seconds."""
        params = [
            ("query", query), ("start", f"{start:.3f}"), ("end", f"{end:.3f}"), ("step", f"{step:.3f}"),
            ("timeout", self.timeout), ("limit", str(MOST_SERIES)),
        ]  # fmt: skip
        return await self._evaluated("/api/v1/query_range", params, query)

    async def label_names(self, match: Sequence[str], start: float, end: float) -> Listed:
        return await self._names("/api/v1/labels", match, start, end)

    async def label_values(self, label: str, match: Sequence[str], start: float, end: float) -> Listed:
        return await self._names(f"/api/v1/label/{segment(in_path(label))}/values", match, start, end, form=False)

    async def series(self, match: Sequence[str], start: float, end: float) -> Listed:
        """The label sets of the series that any of the selectors matches."""
        found = await self._list("/api/v1/series", _window(start, end, match), " or ".join(match), form=True)
        return Listed(tuple(labels_of(s, self.name) for s in found.items), found.cut, found.warnings)

    async def metadata(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """By metric, what its exporters say of it: `type`, `help`, `unit`."""
        found = await self._read("/api/v1/metadata", [("limit_per_metric", "1")])
        return {k: v for k, v in object_of(found.data, self.name).items() if isinstance(v, list)}

    async def targets(self) -> Mapping[str, Any]:
        """`activeTargets` and what else there is, of those that are scraped."""
        return object_of((await self._read("/api/v1/targets", [("state", "active")])).data, self.name)

    async def rules(self) -> Success:
        """The groups of rules, under `groups`."""
        found = await self._read("/api/v1/rules", [], connection=self._rules)
        return Success(
            items_of(object_of(found.data, self._rules.name).get("groups"), self._rules.name), found.warnings
        )

    async def alerts(self) -> Success:
        """The alerts that rules have raised, as a list."""
        found = await self._read("/api/v1/alerts", [], connection=self._rules)
        return Success(
            items_of(object_of(found.data, self._rules.name).get("alerts"), self._rules.name), found.warnings
        )

    async def check(self) -> None:
        """Returns when it answers a query, with our credentials."""
        await self._read("/api/v1/query", [("query", "vector(1)"), ("timeout", self.timeout)])

    async def _evaluated(self, path: str, params: Sequence[tuple[str, str]], query: str) -> Result:
        if len(query) > _LONGEST_OURS:
            raise Unavailable("The query that was put together is too long.")
        found = await self._read(path, params, query, form=True)
        return parsed(found.data, self.name, found.warnings)

    async def _names(self, path: str, match: Sequence[str], start: float, end: float, *, form: bool = True) -> Listed:
        found = await self._list(path, _window(start, end, match), " or ".join(match), form=form)
        return Listed(tuple(sorted(str(n) for n in found.items)), found.cut, found.warnings)

    async def _list(self, path: str, params: Sequence[tuple[str, str]], query: str, *, form: bool) -> Listed:
        found = await self._read(path, [*params, ("limit", str(MOST_SERIES))], query, form=form)
        items = items_of(found.data, self.name)
        return Listed(tuple(items[:MOST_SERIES]), len(items) >= MOST_SERIES, found.warnings)

    async def _read(
        self,
        path: str,
        params: Sequence[tuple[str, str]],
        query: str = "",
        *,
        form: bool = False,
        connection: Connection | None = None,
    ) -> Success:
        asked = connection or self._metrics
        return success(await asked.read(path, params, form=form), asked.name, query)


def in_path(label: str) -> str:
    """A label's name as a path has it: what is not plain is encoded, as Prometheus 3 does (`U__`)."""
    if is_plain_label(label):
        return label
    parts = []
    for index, char in enumerate(label):
        plain = char.isascii() and (char.isalpha() or char == ":" or (char.isdigit() and index > 0))
        parts.append("__" if char == "_" else char if plain else f"_{ord(char):x}_")
    return "U__" + "".join(parts)


def _window(start: float, end: float, match: Sequence[str]) -> list[tuple[str, str]]:
    return [("start", f"{start:.3f}"), ("end", f"{end:.3f}"), *(("match[]", m) for m in match)]
