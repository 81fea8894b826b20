"""Text of a cluster for a model that pays per token: the API server's tables, YAML and ages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from opswarm.guard.untrusted import clean
from opswarm.mcp.text import TEXT_LIMIT, cell, duration, fit_lines, fit_text, fitting, one_line, table

__all__ = [
    "TEXT_LIMIT",
    "age",
    "cell",
    "duration",
    "fit_lines",
    "fit_text",
    "fitting",
    "one_line",
    "parse_time",
    "server_table",
    "table",
    "to_yaml",
]


def age(timestamp: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: `45s`, `12m`, `3h`, `6d`. "?" when there is no time."""
    when = parse_time(timestamp)
    return duration((now - when).total_seconds()) if when else "?"


def parse_time(timestamp: str | None) -> datetime | None:
    if not timestamp:
        return None
    try:
        when = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


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
