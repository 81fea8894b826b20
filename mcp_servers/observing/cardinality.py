"""What is said instead of a result that is too large: how many series, by which labels, and how to ask for less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_servers.observing.selectors import is_plain_label, wrapped
from mcp_servers.observing.times import spelt
from opswarm.mcp.text import cell, one_line
from opswarm.mcp.tools import ToolOutput

_TOP = 3
_MOST_LABELS = 20
_GROUPS = 50
"""A label with more values than this is not worth grouping by."""


def oversized(
    query: str, labels: Sequence[Mapping[str, str]], why: str, *, over: tuple[float, float] | None = None, matrix: bool
) -> ToolOutput:
    """The summary of a result with these `labels`, for which there is no room because of `why`.

    `over` is the length and step of a range query, in seconds; `matrix` whether an instant query gave ranges.
    """
    counts: dict[str, Counter[str]] = {}
    for found in labels:
        for name, value in found.items():
            counts.setdefault(name, Counter())[value] += 1
    ranked = sorted(counts.items(), key=lambda c: (-len(c[1]), c[0]))
    rewrites = _rewrites(query, counts, len(labels), over, matrix)
    lines = [f"{len(labels)} series, and none is shown: {why}.", "Labels, with how many values:"]
    lines += [f"  {one_line(name)}: {_told(values)}" for name, values in ranked[:_MOST_LABELS]]
    if len(ranked) > _MOST_LABELS:
        lines.append(f"  and {len(ranked) - _MOST_LABELS} more labels")
    lines += ["Add a matcher, or ask instead:", *(f"  {r}" for r in rewrites)]
    data: dict[str, Any] = {
        "oversized": True,
        "series": len(labels),
        "labels": {
            name: {"distinct": len(values), "top": dict(values.most_common(_TOP))}
            for name, values in ranked[:_MOST_LABELS]
        },
        "rewrites": rewrites,
    }
    return ToolOutput("\n".join(lines), data)


def uncounted(query: str, count: int | None) -> ToolOutput:
    """The same where not even the labels could be read. `count` is how many series there are, if that is known."""
    rewrite = wrapped("topk(10, ", query, ")")
    told = "An unknown number of" if count is None else str(count)
    text = f"{told} series: more bytes than are read of one answer, so none is shown. Ask instead:\n  {rewrite}"
    return ToolOutput(text, {"oversized": True, "series": count, "rewrites": [rewrite]})


def _told(values: Counter[str]) -> str:
    top = ", ".join(f"{cell(value)[:60]} ({count})" for value, count in values.most_common(_TOP))
    more = ", …" if len(values) > _TOP else ""
    return f"{len(values)} ({top}{more})" if len(values) > 1 else f"1 ({cell(next(iter(values)))[:60]})"


def _rewrites(
    query: str, counts: Mapping[str, Counter[str]], series: int, over: tuple[float, float] | None, matrix: bool
) -> list[str]:
    if matrix:
        return [wrapped("topk(10, max_over_time(", query, "))")]
    if over is None:
        found = [wrapped("topk(10, ", query, ")")]
    else:
        # The same ten series from end to end; by itself topk chooses anew at each step.
        length, step = (spelt(s) for s in over)
        found = [
            wrapped("(", query, ") and ") + wrapped("topk(10, max_over_time((", query, f")[{length}:{step}] @ end()))")
        ]
    grouping = [
        (len(values), name)
        for name, values in counts.items()
        if name != "__name__" and is_plain_label(name) and 1 < len(values) <= min(_GROUPS, series - 1)
    ]
    if grouping:
        _, name = min(grouping)
        found.append(wrapped(f"sum by ({name}) (", query, ")"))
    return found
