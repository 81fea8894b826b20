"""Loki's HTTP API at its paths, as an ASGI application."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lab.loki.logql import Aggregated, LogQuery, ParseError, RangeQuery, Selector, parse
from lab.loki.store import NANO, Line, Store

_MOST_LINES = 5_000
_EVERYTHING = (
    "parse error : queries require at least one regexp or equality matcher that does not have an empty-compatible "
    'value. For instance, app=~".*" does not meet this requirement, but app=~".+" will'
)


class Refused(Exception):
    """What Loki says in plain text, with a status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Loki:
    """A Loki. `asked` has the path and parameters of each question. `tenant` is what it wants to be told, if anything.

    `has` is what it offers of what not every Loki does: `stats`, `volume`, `patterns`.
    """

    store: Store
    tenant: str = ""
    has: frozenset[str] = frozenset({"stats", "volume"})
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    patterns: list[dict[str, Any]] = field(default_factory=list)
    clock: Callable[[], float] = time.time

    @property
    def app(self) -> Starlette:
        on = self._route
        base = "/loki/api/v1"
        return Starlette(
            routes=[
                Route("/ready", lambda _: PlainTextResponse("ready")),
                on(f"{base}/query_range", self._query_range),
                on(f"{base}/query", self._query),
                on(f"{base}/labels", self._labels),
                on(f"{base}/label/{{name}}/values", self._values),
                on(f"{base}/series", self._series),
                on(f"{base}/index/stats", self._stats),
                on(f"{base}/index/volume", self._volume),
                on(f"{base}/patterns", self._patterns),
            ]
        )

    def _route(self, path: str, answer: Callable[[dict[str, str]], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            given = dict(parse_qsl(request.url.query))
            if request.method == "POST":
                given |= dict(parse_qsl((await request.body()).decode()))
            given |= {str(k): str(v) for k, v in request.path_params.items()}
            self.asked.append((request.url.path, given))
            if self.tenant and request.headers.get("x-scope-orgid") != self.tenant:
                return PlainTextResponse("no org id\n", 401)
            self.store.refresh()
            try:
                return JSONResponse(answer(given))
            except (Refused, ParseError) as error:
                return PlainTextResponse(f"{error}\n", error.status if isinstance(error, Refused) else 400)

        handler: Callable[[Request], Awaitable[Response]] = endpoint
        return Route(path, handler, methods=["GET", "POST"])

    def _window(self, given: Mapping[str, str]) -> tuple[int, int]:
        now = round(self.clock() * NANO)
        return int(given.get("start", now - 3_600 * NANO)), int(given.get("end", now))

    def _query_range(self, given: dict[str, str]) -> Any:
        query, (start, end) = _parsed(given["query"]), self._window(given)
        if isinstance(query, LogQuery):
            return self._streams(query, start, end, given)
        step = round(float(given.get("step", "60")) * NANO)
        if (end - start) / step > 11_000:
            raise Refused(400, "exceeded maximum resolution of 11,000 points per time series. Try increasing the step")
        series: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
        for at in range(start, end + 1, step):
            for key, value in self.store.value(query, at).items():
                series.setdefault(key, []).append([at / NANO, f"{value:g}"])
        return _success("matrix", [{"metric": dict(k), "values": v} for k, v in series.items()])

    def _query(self, given: dict[str, str]) -> Any:
        query = _parsed(given["query"])
        if isinstance(query, LogQuery):
            raise Refused(400, "log queries are not supported as an instant query type, please change your query")
        at = int(given.get("time", round(self.clock() * NANO)))
        found = self.store.value(query, at)
        return _success("vector", [{"metric": dict(k), "value": [at / NANO, f"{v:g}"]} for k, v in found.items()])

    def _streams(self, query: LogQuery, start: int, end: int, given: Mapping[str, str]) -> Any:
        limit = int(given.get("limit", "100"))
        if limit > _MOST_LINES:
            raise Refused(
                400, f"max entries limit per query exceeded, limit > max_entries_limit ({limit} > {_MOST_LINES})"
            )
        found = self.store.lines(query, start, end)
        backward = given.get("direction", "backward").lower() == "backward"
        kept = found[-limit:][::-1] if backward else found[:limit]
        streams: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
        for line, labels in kept:
            # Structured metadata are labels of the answer, unless a client asks to have them apart.
            streams.setdefault(tuple(sorted(labels.items())), []).append([str(line.time), line.text])
        return _success("streams", [{"stream": dict(k), "values": v} for k, v in streams.items()])

    def _labels(self, given: dict[str, str]) -> Any:
        found = self._matched(given)
        return {"status": "success", "data": sorted({n for labels, _ in found for n in labels})} if found else _EMPTY

    def _values(self, given: dict[str, str]) -> Any:
        found = self._matched(given)
        values = sorted({labels[given["name"]] for labels, _ in found if given["name"] in labels})
        return {"status": "success", "data": values} if values else _EMPTY

    def _series(self, given: dict[str, str]) -> Any:
        found = self._matched({**given, "query": given.get("match[]", "")})
        return {"status": "success", "data": [labels for labels, _ in found]}

    def _stats(self, given: dict[str, str]) -> Any:
        self._offers("stats")
        found = self._matched(given)
        lines = [line for _, kept in found for line in kept]
        size = sum(len(line.text.encode()) for line in lines)
        return {"streams": len(found), "chunks": len(found), "entries": len(lines), "bytes": size}

    def _volume(self, given: dict[str, str]) -> Any:
        self._offers("volume")
        found, end = self._matched(given), self._window(given)[1]
        by = [n for n in given.get("targetLabels", "").split(",") if n] or [
            n for n, _, _ in self._selector(given).conditions
        ]
        sizes: Counter[tuple[tuple[str, str], ...]] = Counter()
        for labels, lines in found:
            key = tuple((n, labels[n]) for n in by if n in labels)
            sizes[key] += sum(len(line.text.encode()) for line in lines)
        ranked = sizes.most_common(int(given.get("limit", "100")))
        return _success("vector", [{"metric": dict(k), "value": [end / NANO, str(v)]} for k, v in ranked])

    def _patterns(self, given: dict[str, str]) -> Any:
        self._offers("patterns")
        return {"status": "success", "data": self.patterns}

    def _offers(self, what: str) -> None:
        if what not in self.has:
            raise Refused(404, "404 page not found")

    def _matched(self, given: Mapping[str, str]) -> list[tuple[dict[str, str], list[Line]]]:
        start, end = self._window(given)
        return [(dict(labels), lines) for labels, lines in self.store.matching(self._selector(given), start, end)]

    def _selector(self, given: Mapping[str, str]) -> Selector:
        if not given.get("query"):
            return Selector(())
        query = _parsed(given["query"])
        if not isinstance(query, LogQuery) or query.stages:
            raise Refused(400, "only label matchers are supported")
        return query.selector


_EMPTY = {"status": "success"}
"""Loki leaves an empty list out."""


def _parsed(text: str) -> LogQuery | RangeQuery | Aggregated:
    query = parse(text)
    inner = query
    while isinstance(inner, Aggregated):
        inner = inner.inner
    log = inner.query if isinstance(inner, RangeQuery) else inner
    if log.selector.is_everything:
        raise Refused(400, _EVERYTHING)
    return query


def _success(kind: str, result: list[Any]) -> Any:
    return json.loads(json.dumps({"status": "success", "data": {"resultType": kind, "result": result, "stats": {}}}))
