"""The figures as tables, ratios to the SDK floor of the same run in brackets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.size import Size
from bench.turn import Row

Cell = Callable[[Row], tuple[float, int, bool]]
"""The figure of a row, its decimals, and whether its ratio is of interest."""

_COLUMNS: dict[str, Cell] = {
    "CPU ms/turn @1": lambda r: (r.cpu[1], 1, True),
    "@64": lambda r: (r.cpu[64], 1, True),
    "p50 ms @1": lambda r: (r.figures[1].p50, 1, True),
    "first token ms": lambda r: (r.figures[1].first, 1, False),
    "turns/s @1": lambda r: (r.figures[1].rate, 0, True),
    "@16": lambda r: (r.figures[16].rate, 0, True),
    "@64 ": lambda r: (r.figures[64].rate, 0, True),
    "p95 ms @64": lambda r: (r.figures[64].p95, 0, False),
    "idle MB": lambda r: (r.idle_mb, 0, False),
    "ready s": lambda r: (r.ready_seconds, 1, False),
    "first turn ms": lambda r: (r.first_turn_ms, 0, False),
}


def turns(rows: Sequence[Row]) -> str:
    """The rows, and the first errors there were."""
    floor = next((r for r in rows if r.name == "floor"), rows[0])
    lines = [["", *(c.strip() for c in _COLUMNS), "errors"]]
    for row in rows:
        cells = [row.name]
        for column in _COLUMNS.values():
            value, decimals, compared = column(row)
            ratio = f" ({value / column(floor)[0]:.2f}x)" if compared else ""
            cells.append(f"{value:.{decimals}f}{ratio}")
        lines.append([*cells, str(len(row.errors))])
    return "\n".join([aligned(lines), *(f"{r.name}: {e}" for r in rows for e in r.errors[:3])])


def sizes(found: Sequence[Size]) -> str:
    lines = [["", "idle MB", "ready s"]]
    lines += [[s.name, f"{s.idle_mb:.0f}", f"{s.ready_seconds:.2f}"] for s in found]
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The cells of each line, in columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
