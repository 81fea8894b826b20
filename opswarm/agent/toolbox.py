"""The tools that a turn may use, and what a call of one gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opswarm.agent.events import ApprovalRequest
from opswarm.errors import OpswarmError
from opswarm.models.chat import ToolSchema


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave: `text` for the model, `data` for code; `ok` is False for an error, which is in `error`
    where it is not the tool's own.

    `later` is whether the server said that the same call may go through later, as while actions are paused.
    With an `approval` nothing was done yet: it is done when the call is made again after a person said yes.
    """

    text: str
    ok: bool = True
    data: dict[str, Any] | None = None
    approval: ApprovalRequest | None = None
    error: OpswarmError | None = None
    later: bool = False


class Toolbox(Protocol):
    """The tools that a turn may use."""

    @property
    def schemas(self) -> Sequence[ToolSchema]: ...

    @property
    def missing(self) -> Sequence[OpswarmError]:
        """Why there are not more tools: what each tool server said that could not be asked."""
        ...

    async def call(self, name: str, arguments: dict[str, Any], *, key: str = "", proposal: str = "") -> ToolResult:
        """Runs one tool. Raises `OpswarmError` when it could not be asked at all.

        What changes something is done once for one `key`. `proposal` is the id of the approval that the call waited
        for.
        """
        ...
