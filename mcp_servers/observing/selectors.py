"""Selectors of PromQL and LogQL from a caller's words: they only ever become label values, whole and escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping

from opswarm.errors import InvalidInput
from opswarm.mcp.text import one_line

MOST_QUERY = 8_000
"""Characters of a query that a caller writes."""

_PLAIN_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_SPECIAL = re.compile(r"[!-/:-@\[-^`{-~]")
_LONGEST_VALUE = 1_024
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def is_plain_label(name: str) -> bool:
    return _PLAIN_LABEL.fullmatch(name) is not None


def quoted(value: str) -> str:
    """`value` as a double-quoted string of a query, whatever it holds. Raises `InvalidInput` for half characters."""
    if len(value) > _LONGEST_VALUE:
        raise InvalidInput(f"A name is longer than {_LONGEST_VALUE} characters.")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidInput("A name holds half a character.")
    return '"' + "".join(_ESCAPES.get(c) or (c if c >= " " else f"\\x{ord(c):02x}") for c in value) + '"'


def literal(value: str) -> str:
    """A regular expression (RE2) that matches `value` and nothing else."""
    return _SPECIAL.sub(r"\\\g<0>", value)


def selector(metric: str, **labels: str) -> str:
    """A selector of a metric of ours by equality; labels with an empty value are left out."""
    return where(metric, {name: ("=", value) for name, value in labels.items() if value})


def where(metric: str, matchers: Mapping[str, tuple[str, str]]) -> str:
    """A selector by label name to operator and value. The values may be anyone's, the rest is ours."""
    return f"{metric}{{{','.join(f'{name}{op}{quoted(value)}' for name, (op, value) in matchers.items())}}}"


def query_text(text: str, field: str = "query", *, example: str = "") -> str:
    """A caller's own query, as it is. Raises `InvalidInput` for what can't be one."""
    if not text.strip():
        raise InvalidInput(f"{field} is empty.", hint=f"Write it like {example}." if example else "")
    if len(text) > MOST_QUERY:
        raise InvalidInput(f"{field} is longer than {MOST_QUERY} characters.")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInput(f"{field} holds half a character.")
    return text


def wrapped(before: str, query: str, after: str) -> str:
    """A caller's query inside one of ours. A comment at its end can't swallow what follows."""
    inner = query.strip()
    return f"{before}{inner}{chr(10) if '#' in inner else ''}{after}"


def labels_text(labels: Mapping[str, str], *, without: Mapping[str, str] | None = None) -> str:
    """A series as a query writes it, on one line. Names that are not plain are quoted, as PromQL has it."""
    left = {k: v for k, v in labels.items() if k not in (without or {})}
    metric = left.pop("__name__", "")
    parts = [f"{_name(k)}={quoted(one_line(v)[:_LONGEST_VALUE])}" for k, v in sorted(left.items())]
    if metric and not _PLAIN_METRIC.fullmatch(metric):
        parts.insert(0, quoted(one_line(metric)[:_LONGEST_VALUE]))
        metric = ""
    return f"{metric}{{{', '.join(parts)}}}" if parts or not metric else metric


def _name(label: str) -> str:
    return label if is_plain_label(label) else quoted(one_line(label)[:_LONGEST_VALUE])
