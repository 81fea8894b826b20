"""What goes to a model and what comes back, in the shape of OpenAI chat completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from opswarm.errors import ModelReplyInvalid

RoleName = Literal["system", "user", "assistant", "tool"]


_MAX_DEPTH = 64


def shallow(value: object, depth: int) -> bool:
    """Whether a JSON value nests at most `depth` levels."""
    if isinstance(value, dict):
        return depth > 0 and all(shallow(v, depth - 1) for v in value.values())
    return not isinstance(value, list) or (depth > 0 and all(shallow(v, depth - 1) for v in value))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"

    def parsed(self) -> dict[str, Any]:
        """The arguments as an object. Raises `ModelReplyInvalid` when they are not one."""
        try:
            value = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ModelReplyInvalid(f"The arguments of {self.name} are not valid JSON.") from error
        if not isinstance(value, dict):
            raise ModelReplyInvalid(f"The arguments of {self.name} must be a JSON object.")
        if not shallow(value, _MAX_DEPTH):
            raise ModelReplyInvalid(f"The arguments of {self.name} nest deeper than {_MAX_DEPTH} levels.")
        return value


@dataclass(frozen=True, slots=True)
class Message:
    role: RoleName
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    def wire(self) -> dict[str, Any]:
        """The message as chat completions spell it."""
        body: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            body["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        if self.role == "tool":
            body["tool_call_id"] = self.tool_call_id
        return body


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as a model is told of it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    read_only: bool = True

    def wire(self) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }


@dataclass(frozen=True, slots=True)
class Options:
    """How the model is to answer; what is not set is left to the model. `tool` names the one tool it must call."""

    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    tool_choice: Literal["none", "auto", "required"] | None = None
    tool: str = ""
    parallel_tool_calls: bool | None = None
    json_object: bool = False

    def wire(self, *, tools: bool) -> dict[str, Any]:
        """The options as chat completions spell them; those about tools only where there are `tools`."""
        body: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": list(self.stop) or None,
            "seed": self.seed,
            "reasoning_effort": self.reasoning_effort,
        }
        if tools:
            body["tool_choice"] = (
                {"type": "function", "function": {"name": self.tool}} if self.tool else self.tool_choice
            )
            body["parallel_tool_calls"] = self.parallel_tool_calls
        if self.json_object:
            body["response_format"] = {"type": "json_object"}
        return {k: v for k, v in body.items() if v is not None}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One model call. `model` is a tier or a LiteLLM model name.

    `schema` asks for JSON that fits it; with `strict`, a provider that can hold the model to it does.
    """

    messages: tuple[Message, ...]
    model: str = "standard"
    tools: tuple[ToolSchema, ...] = ()
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    strict: bool = True
    options: Options = field(default_factory=Options)

    def wire(self) -> dict[str, Any]:
        """The request as chat completions spell it, but for how it is to be streamed."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [m.wire() for m in self.messages],
            **self.options.wire(tools=bool(self.tools)),
        }
        if self.tools:
            body["tools"] = [t.wire() for t in self.tools]
        if self.schema is not None:
            schema = {"name": "reply", "schema": dict(self.schema), "strict": self.strict}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return body


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """What happens on the way to the answer; clients show it apart from the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    call: ToolCall


@dataclass(frozen=True, slots=True)
class UsagePiece:
    """Tokens of a call. Those read from a provider's prompt cache and written to it are part of `input_tokens`."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StopPiece:
    """Why the model stopped: `stop`, `tool_calls`, `length` or `content_filter`."""

    reason: str
    model: str = field(default="")


@dataclass(frozen=True, slots=True)
class NoticePiece:
    """What the gateway tells about the call while it is worked on; `code` as of the event `Notice`.

    `model` is the one that answers from now on, where that changed.
    """

    code: str
    text: str
    model: str = ""


Piece = TextPiece | ReasoningPiece | CallPiece | UsagePiece | StopPiece | NoticePiece


def joined(before: Piece, after: Piece) -> Piece | None:
    """Two pieces of text as one, or None for others."""
    if isinstance(before, TextPiece) and isinstance(after, TextPiece):
        return TextPiece(before.text + after.text)
    return None


class ChatModel(Protocol):
    """Whatever answers a `ChatRequest`: the gateway's client, or the offline playbook."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """The reply as it arrives; whole tool calls, text in pieces. Raises `ModelFailed`."""
        ...
