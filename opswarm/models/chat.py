"""What goes to a model and what comes back, in the shape of OpenAI chat completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from opswarm.errors import ModelReplyInvalid

RoleName = Literal["system", "user", "assistant", "tool"]


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
        except ValueError as error:
            raise ModelReplyInvalid(f"The arguments of {self.name} are not valid JSON.") from error
        if not isinstance(value, dict):
            raise ModelReplyInvalid(f"The arguments of {self.name} must be a JSON object.")
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

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Message:
        """Raises `ModelReplyInvalid` when `body` is not a chat message."""
        role = body.get("role")
        if role == "developer":
            role = "system"
        if role not in ("system", "user", "assistant", "tool"):
            raise ModelReplyInvalid("A chat message's role must be system, user, assistant or tool.")
        calls = tuple(
            ToolCall(
                str(c.get("id", "")),
                str((c.get("function") or {}).get("name", "")),
                str((c.get("function") or {}).get("arguments") or "{}"),
            )
            for c in body.get("tool_calls") or ()
            if isinstance(c, Mapping)
        )
        return cls(role, _text(body.get("content")), calls, str(body.get("tool_call_id") or ""))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping) and "text" in p)
    return ""


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
class ChatRequest:
    """One model call. `model` is a tier or a LiteLLM model name; `schema` asks for JSON that fits it."""

    messages: tuple[Message, ...]
    model: str = "standard"
    tools: tuple[ToolSchema, ...] = ()
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    call: ToolCall


@dataclass(frozen=True, slots=True)
class UsagePiece:
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StopPiece:
    """Why the model stopped: `stop`, `tool_calls`, `length` or `content_filter`."""

    reason: str
    model: str = field(default="")


Piece = TextPiece | CallPiece | UsagePiece | StopPiece


class ChatModel(Protocol):
    """Whatever answers a `ChatRequest`: the gateway's client, or the offline playbook."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """The reply as it arrives; whole tool calls, text in pieces. Raises `ModelFailed`."""
        ...
