"""Text for a model that pays per token: aligned tables, YAML, ages, and cuts that say what was cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from opswarm.guard.untrusted import cap_bytes, clean

TEXT_LIMIT = 16_000
_CELL = 120


def age(timestamp: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: `45s`, `12m`, `3h`, `6d`. "?" when there is no time."""
    when = parse_time(timestamp)
    return duration((now - when).total_seconds()) if when else "?"


def duration(seconds: float) -> str:
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7_200:
        return f"{seconds // 60}m"
    if seconds < 172_800:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def parse_time(timestamp: str | None) -> datetime | None:
    if not timestamp:
        return None
    try:
        when = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, the header first; every cell on one line and capped."""
    cells = [list(header), *([cell(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def one_line(value: str) -> str:
    """Text from the cluster, which can then neither end a line nor move a terminal's cursor."""
    return " ".join(clean(value).split())


def cell(value: str) -> str:
    """One cell of a table: on one line, 120 characters at most."""
    text = one_line(value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def server_table(body: Mapping[str, Any], *, with_namespace: bool) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a meta.k8s.io Table, its everyday columns only."""
    columns = body.get("columnDefinitions") or ()
    kept = [i for i, c in enumerate(columns) if int(c.get("priority") or 0) == 0]
    header = [str(columns[i].get("name", "")).upper() for i in kept]
    rows: list[list[str]] = []
    for row in body.get("rows") or ():
        cells = row.get("cells") or ()
        texts = ["" if i >= len(cells) or cells[i] is None else str(cells[i]) for i in kept]
        if with_namespace:
            texts.insert(0, str((((row.get("object") or {}).get("metadata")) or {}).get("namespace") or ""))
        rows.append(texts)
    if with_namespace:
        header.insert(0, "NAMESPACE")
    return header, rows


def to_yaml(value: Mapping[str, Any]) -> str:
    return clean(str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=110)))


def fitting(lines: Sequence[str], limit: int = TEXT_LIMIT) -> int:
    """How many lines from the first fit `limit` bytes."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size > limit:
            return number
    return len(lines)


def fit_lines(lines: Sequence[str], what: str, advice: str, *, head: int = 0, total: int | None = None) -> str:
    """`lines` within the cap, the first `head` of them not counted; a cut says "N of M … shown, narrow by …"."""
    kept = list(lines[: fitting(lines)])
    shown, every = max(0, len(kept) - head), max(total or 0, len(lines) - head)
    if shown < every:
        kept.append(f"({shown} of {every} {what} shown; narrow by {advice})")
    return "\n".join(kept)


def fit_text(text: str, advice: str) -> str:
    cut = cap_bytes(text, TEXT_LIMIT)
    if len(cut) == len(text):
        return text
    return f"{cut}\n({len(cut)} of {len(text)} characters shown; narrow by {advice})"
