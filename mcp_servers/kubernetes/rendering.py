"""Text of a cluster for a model that pays per token: the API server's tables, YAML and ages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mcp_servers.cluster.ages import age, parse_time
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
