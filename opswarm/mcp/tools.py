"""How a tool is written: a typed async function that returns a `ToolOutput`.

```python
async def pods_list(namespace: Annotated[str, Field(description="…")] = "") -> ToolOutput: ...

ToolSpec(pods_list, read_only=True, toolset="core")
```

The function's parameters become the tool's input schema (flat, unknown names rejected), its docstring the
description. A failure is an `OpswarmError`: its sentence reaches the model as an error result. Anything else
that escapes is a defect: it is logged, and the model reads only that the tool broke.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool gives: compact `text` for the model, `data` (a JSON object) for code, or None."""

    text: str
    data: Mapping[str, Any] | None = None


ToolFunction = Callable[..., Awaitable[ToolOutput]]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool as a server offers it.

    `read_only` tools change nothing in the world, may run in parallel and may be retried.
    `timeout` bounds one call, in seconds. `toolset` groups tools that are offered together.
    """

    function: ToolFunction
    read_only: bool = True
    toolset: str = "core"
    title: str = ""
    timeout: float = 60.0
    tags: tuple[str, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        return self.function.__name__
