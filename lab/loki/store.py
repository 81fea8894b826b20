"""The streams of a Loki, and what its queries give of them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lab.loki.logql import Aggregated, Labels, LogQuery, RangeQuery, Selector, json_fields, logfmt_fields

NANO = 1_000_000_000
_LEVELS = {
    "trace": "trace", "debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error",
    "err": "error", "critical": "critical", "fatal": "fatal", "panic": "fatal",
}  # fmt: skip
_WORD = re.compile(r"\b(trace|debug|info|warn|warning|error|err|critical|fatal|panic)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Line:
    time: int
    text: str
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass
class Store:
    """Lines by stream. `detects` is whether it finds levels itself, as Loki does from 3 on; `follow`, where it is
    set, gives more lines at each question."""

    detects: bool = True
    streams: dict[tuple[tuple[str, str], ...], list[Line]] = field(default_factory=dict)
    follow: Callable[[], Iterable[tuple[Labels, Line]]] | None = None

    def push(self, labels: Labels, time: int, text: str, **metadata: str) -> None:
        self._add(labels, Line(time, text, tuple(sorted(metadata.items()))))

    def _add(self, labels: Labels, line: Line) -> None:
        lines = self.streams.setdefault(tuple(sorted(labels.items())), [])
        if self.detects:
            line = Line(line.time, line.text, (*line.metadata, ("detected_level", level_of(line.text))))
        at = bisect_left(lines, line)
        if at == len(lines) or lines[at] != line:
            lines.insert(at, line)

    def refresh(self) -> None:
        for labels, line in self.follow() if self.follow is not None else ():
            self._add(labels, line)

    def matching(self, selector: Selector, start: int, end: int) -> Iterable[tuple[Labels, list[Line]]]:
        """The streams with lines in a window, and those lines."""
        for key, lines in self.streams.items():
            labels = dict(key)
            if selector.matches(labels):
                kept = [line for line in lines if start <= line.time < end]
                if kept:
                    yield labels, kept

    def lines(self, query: LogQuery, start: int, end: int) -> list[tuple[Line, Labels]]:
        """What a log query gives, with the labels after its pipeline, the oldest first."""
        found = []
        for labels, lines in self.matching(query.selector, start, end):
            for line in lines:
                kept = query.run(line.text, {**labels, **dict(line.metadata)})
                if kept is not None:
                    found.append((line, kept))
        return sorted(found, key=lambda f: f[0].time)

    def value(self, query: RangeQuery | Aggregated, at: int) -> dict[tuple[tuple[str, str], ...], float]:
        """A metric at a time, by labels."""
        if isinstance(query, RangeQuery):
            return self._over(query, at)
        groups: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)
        inner = self.value(query.inner, at)
        if query.k:
            ranked = sorted(inner.items(), key=lambda i: i[1], reverse=query.operator == "topk")
            return dict(ranked[: query.k])
        for key, value in inner.items():
            kept = tuple((k, v) for k, v in key if (k in query.by) is not query.without)
            groups[kept].append(value)
        fold: Mapping[str, Callable[[list[float]], float]] = {
            "sum": sum, "count": len, "min": min, "max": max, "avg": lambda v: sum(v) / len(v)
        }  # fmt: skip
        return {key: float(fold[query.operator](values)) for key, values in groups.items()}

    def _over(self, query: RangeQuery, at: int) -> dict[tuple[tuple[str, str], ...], float]:
        counts: Counter[tuple[tuple[str, str], ...]] = Counter()
        for line, labels in self.lines(query.query, at - round(query.seconds * NANO) + 1, at + 1):
            counts[tuple(sorted(labels.items()))] += len(line.text.encode()) if "bytes" in query.function else 1
        if query.function == "absent_over_time":
            return {} if counts else {(): 1.0}
        over = query.seconds if query.function in ("rate", "bytes_rate") else 1.0
        return {key: count / over for key, count in counts.items()}


def level_of(text: str) -> str:
    """As Loki detects it: of a field named level, else of a word in the line."""
    fields = json_fields(text) if text.startswith("{") else logfmt_fields(text)
    named = (fields.get("level") or fields.get("severity") or "").lower()
    if named in _LEVELS:
        return _LEVELS[named]
    found = _WORD.search(text[:400])
    return _LEVELS[found[1].lower()] if found else "unknown"
