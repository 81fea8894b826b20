"""A page of a list: as many rows as were asked for and fit, and where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from opswarm.mcp import arguments
from opswarm.mcp.text import TEXT_LIMIT, fitting, table
from opswarm.mcp.tools import ToolOutput

T = TypeVar("T")

_ROOM_FOR_NOTES = 1_500


def paged(
    items: Sequence[T],
    header: Sequence[str],
    row: Callable[[T], Sequence[str]],
    datum: Callable[[T], Any],
    *,
    what: str,
    advice: str,
    limit: int,
    cursor: str = "",
    title: str = "",
    notes: Sequence[str] = (),
    cut: bool = False,
    extra: Mapping[str, Any] | None = None,
    last: int = 120,
) -> ToolOutput:
    """Rows of `items` from `cursor` on, under `title` and above `notes`.

    What is left out is said as "N of M", with the cursor of the next page. `cut` is whether the backend had more than
    `items`, `last` the most characters of a cell in the last column. The data has `items`, `total`, `cursor` ("" at the
    end) and what `extra` has.
    """
    first = min(arguments.after(cursor), len(items))
    chosen = items[first : first + limit]
    lines = table(header, [row(item) for item in chosen], last=last)
    room = TEXT_LIMIT - _ROOM_FOR_NOTES - len(title.encode())
    shown = max(min(len(chosen), 1), fitting(lines, room) - 1)
    end = first + shown
    more = end < len(items)
    total = f"{len(items)}{'+' if cut else ''}"
    text = [*([title] if title else []), *(lines[: shown + 1] if chosen else [])]
    if first or more or cut:
        where = f"; cursor={arguments.cursor_at(end)}" if more else ""
        text.append(f"({first + 1 if shown else first} to {end} of {total} {what}; narrow by {advice}{where})")
    text += notes
    data = {
        "items": [datum(item) for item in chosen[:shown]],
        "total": len(items),
        "complete": not cut,
        "cursor": arguments.cursor_at(end) if more else "",
        **(extra or {}),
    }
    return ToolOutput("\n".join(text), data)
