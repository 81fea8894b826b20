"""Text for a model that pays per token: aligned tables, lengths of time, and cuts that say what was cut."""

from __future__ import annotations

from collections.abc import Sequence

from opswarm.guard.untrusted import cap_bytes, clean

TEXT_LIMIT = 16_000
"""Bytes of a tool's text, about 4,000 tokens."""

_CELL = 120


def duration(seconds: float) -> str:
    """A length of time, as kubectl writes an age: `45s`, `12m`, `3h`, `6d`."""
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7_200:
        return f"{seconds // 60}m"
    if seconds < 172_800:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, last: int = _CELL) -> list[str]:
    """Aligned lines, the header first; every cell on one line and capped, those of the last column at `last`."""
    cells = [list(header), *([*(cell(c) for c in row[:-1]), cell(row[-1], last)] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def counted(count: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(value: str) -> str:
    """Text from outside, which can then neither end a line nor move a terminal's cursor."""
    return " ".join(clean(value).split())


def cell(value: str, most: int = _CELL) -> str:
    """One cell of a table: on one line, `most` characters at most."""
    text = one_line(value)
    return text if len(text) <= most else text[: most - 1] + "…"


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
