"""What a table of one kind is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lab.objects import Obj

Cell = str | int | bool | None


@dataclass(frozen=True)
class Columns:
    """Names and their priorities (1: only with -o wide), and how to fill a row."""

    names: Sequence[str]
    wide: Sequence[str]
    row: Callable[[Obj, datetime], list[Cell]]
    integers: frozenset[str] = frozenset()

    def definitions(self) -> list[Obj]:
        found: list[Obj] = []
        for name in (*self.names, *self.wide):
            found.append(
                {
                    "name": name,
                    "type": "integer" if name in self.integers else "string",
                    "format": "name" if name == "Name" else "",
                    "description": f"{name} of the object.",
                    "priority": int(name in self.wide),
                }
            )
        return found


def listed(values: Sequence[object], none: str = "<none>") -> str:
    """Comma-separated, or `none` if there is nothing."""
    return ",".join(str(value) for value in values) or none
