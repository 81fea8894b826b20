"""What an agent is, to the A2A server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opswarm.agent.events import ApprovalNeeded, Event
from opswarm.guard.principal import Principal
from opswarm.models.chat import Message


@dataclass(frozen=True, slots=True)
class TurnInput:
    """One request to an agent, with the conversation before it and the proof of who asks.

    `resumes` is what the task was parked for, when the request is the answer to that; the conversation then ends
    with the task's own question and what was said so far.
    """

    text: str
    task_id: str
    context_id: str
    principal: Principal
    token: str
    history: tuple[Message, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    work_token: str = ""
    resumes: ApprovalNeeded | None = None


class Responder(Protocol):
    """Gives the events of one turn."""

    def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        """The turn's events, ending with `Finished` or `Failed`. Cancelled when the task is.

        A turn that ends with `ApprovalNeeded` parks its task: it waits for input, in the store and not in memory,
        and the next message to it begins a turn that resumes it. Where that raises `Unavailable` or `DeadlineExceeded`
        the task waits on as it did; whoever raises one of them has left everything as it was, or may do it again.
        """
        ...
