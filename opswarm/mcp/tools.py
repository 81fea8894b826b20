"""How a tool is written: a typed async function that returns a `ToolOutput`.

```python
async def pods_list(namespace: Annotated[str, Field(description="…")] = "") -> ToolOutput: ...

ToolSpec(pods_list, read_only=True, toolset="core")
```

The function's parameters become the tool's input schema (flat, unknown names rejected), its docstring the
description. A tool that changes something is an action: its function gives a `Plan` and changes nothing, and
`action` does the rest (see `opswarm.actions.action`):

```python
ToolSpec(scale, read_only=False, action=Action(perform, probe, verify), risk=Risk.SAFE)
```

A failure is an `OpswarmError`: its sentence reaches the model as an error result. Anything else
that escapes is a defect: it is logged, and the model reads only that the tool broke.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opswarm.actions.action import Action, Plan
from opswarm.guard.limits import Touch
from opswarm.guard.risk import Risk, worst


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool gives: compact `text` for the model, `data` (a JSON object) for code, or None."""

    text: str
    data: Mapping[str, Any] | None = None


CORE = "core"
"""The toolset of a tool that says none."""

ToolFunction = Callable[..., Awaitable[ToolOutput] | Awaitable[Plan]]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool as a server offers it.

    `read_only` tools change nothing in the world, may run in parallel and may be retried.
    `risk` is the least of any call (unsaid: read for what is read-only, else risky), `risk_of` that of a call with
    certain arguments, where it depends on them; what is not read-only is never less than safe. `touches` gives what a
    call lays hands on, as far as its arguments tell. What is not read-only has an `action`, but for what
    only passes a request on to agents (`delegates`), whose own tool servers decide.
    `timeout` bounds one call, in seconds. `toolset` groups tools that are offered together.
    """

    function: ToolFunction
    read_only: bool = True
    toolset: str = CORE
    title: str = ""
    timeout: float = 60.0
    tags: tuple[str, ...] = field(default_factory=tuple)
    risk: Risk | None = None
    risk_of: Callable[[Mapping[str, Any]], Risk] | None = None
    touches: Callable[[Mapping[str, Any]], Sequence[Touch]] | None = None
    action: Action | None = None
    delegates: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__

    def declared(self, arguments: Mapping[str, Any]) -> Risk:
        """The risk of a call with these arguments. Whatever `risk_of` raises is raised: then nothing may be called."""
        least = self.risk or (Risk.READ if self.read_only else Risk.SAFE)
        if self.risk_of is not None:
            least = worst(least, self.risk_of(arguments))
        elif self.risk is None and not self.read_only:
            least = Risk.RISKY
        return least if self.read_only else worst(least, Risk.SAFE)
