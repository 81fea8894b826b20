"""The one vocabulary: what a turn tells while it runs.

The A2A server, the CLI, the store and (later) the console and the OpenAI endpoint each render this stream.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)


class TextDelta(_Event):
    """More of the answer, as Markdown."""

    kind: Literal["text"] = "text"
    text: str


class ToolStarted(_Event):
    kind: Literal["tool_started"] = "tool_started"
    call_id: str
    tool: str
    arguments: dict[str, Any] = {}


class ToolFinished(_Event):
    """`summary` is the first line of the result or of the error; `seconds` the call's wall time."""

    kind: Literal["tool_finished"] = "tool_finished"
    call_id: str
    tool: str
    ok: bool
    summary: str = ""
    seconds: float = 0.0


class Delegated(_Event):
    """The request went to `agent`, `because` of a named agent, a rule of the router, or a model's choice."""

    kind: Literal["delegated"] = "delegated"
    agent: str
    because: str = ""


class ApprovalRequest(BaseModel):
    """One action that waits for a person, as its tool server told the agent.

    `summary` and `preview` say what it would do; whoever answers is shown them by the orchestrator, which asks the
    tool server itself. `expires` is in Unix seconds. `digest` is the hash of all that is shown: an answer that brings
    it back counts for that and nothing else.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]{1,32}$")
    server: str = Field("", max_length=64)
    tool: str = Field("", max_length=128)
    summary: str = ""
    preview: str = ""
    risk: str = ""
    expires: float = 0.0
    digest: str = Field("", max_length=64)


class ApprovalNeeded(_Event):
    """Work is paused until a person has answered each of `approvals`."""

    kind: Literal["approval_needed"] = "approval_needed"
    approvals: tuple[ApprovalRequest, ...] = Field(min_length=1)

    def text(self) -> str:
        """What waits, and how to answer, for a person."""
        parts = []
        for one in self.approvals:
            preview = f"\n\n```\n{one.preview}\n```" if one.preview else ""
            parts.append(f"**Needs approval `{one.id}`:** {one.summary}{preview}")
        known = " ".join(f"`approve {one.id}` or `reject {one.id}`." for one in self.approvals)
        return "\n\n".join([*parts, f"Nothing was done yet. Answer exactly {known}"])


class Usage(_Event):
    """Tokens of one model call. `cached_tokens` are part of `input_tokens`."""

    kind: Literal["usage"] = "usage"
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Notice(_Event):
    """Something about the model that a person should know while they wait.

    `code`: `queued` (others are before this call), `retry` (the provider asked to wait), `fallback` (another model
    answers, and why), `budget_warning` (most of a budget is spent), `repair` (the reply did not fit and is asked for
    again).
    """

    kind: Literal["notice"] = "notice"
    code: str
    text: str


class Finished(_Event):
    """The turn ended well. `notice` says what a person should know about how, or is ""."""

    kind: Literal["finished"] = "finished"
    notice: str = ""


class Failed(_Event):
    """The turn ended badly. `message` is a sentence for a person, `code` the error's code."""

    kind: Literal["failed"] = "failed"
    code: str
    message: str


Event = Annotated[
    TextDelta | ToolStarted | ToolFinished | Delegated | ApprovalNeeded | Usage | Notice | Finished | Failed,
    Field(discriminator="kind"),
]


def line(event: Event) -> str:
    """What happens on the way to an answer, as a line for a person; "" for what is not such a thing."""
    match event:
        case Delegated(agent=agent, because=because):
            return f"→ {agent} ({because})"
        case ToolStarted(tool=tool, arguments=arguments):
            return f"· {tool}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
        case ToolFinished(tool=tool, ok=ok, summary=summary, seconds=seconds):
            return f"  {'✓' if ok else '✗'} {tool} {seconds:.2f} s  {summary[:100]}"
        case Notice(text=text):
            return f"! {text}"
    return ""


EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event from its JSON object; raises `pydantic.ValidationError`."""
