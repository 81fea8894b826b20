"""`offline/playbook`: the model for no key and no Ollama.

It is a deterministic function from a chat request to a reply, behind the same wire as any other model. It knows
no cluster, only words: it maps what is asked to the tools that it was offered, and writes its answer from what
those tools gave. It says what it is, and when it can't do what is asked it says that, with what it can.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from opswarm.models.chat import (
    CallPiece,
    ChatRequest,
    Message,
    Piece,
    StopPiece,
    TextPiece,
    ToolCall,
    UsagePiece,
)
from opswarm.models.intents import Intent, Plan, plan

MODEL = "offline/playbook"

_OPENING = "*Offline playbook (no language model): this is what the tools found.*\n\n"
_MAX_ROUNDS = 3


class Playbook:
    """The playbook as a `ChatModel`."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        text, calls = reply(request)
        for line in text.splitlines(keepends=True):
            yield TextPiece(line)
        for call in calls:
            yield CallPiece(call)
        size = sum(len(m.content) for m in request.messages) // 4
        yield UsagePiece(MODEL, size, len(text) // 4)
        yield StopPiece("tool_calls" if calls else "stop", MODEL)


def reply(request: ChatRequest) -> tuple[str, list[ToolCall]]:
    """The whole reply: its text, and the tools to call first (then the text is empty)."""
    if request.schema is not None:
        return _structured(request), []
    question, since = _question(request.messages)
    results = _results(since)
    wanted = plan(question, request.tools, [m.content for m in request.messages if m.role == "user"][:-1])
    if results:
        rounds = sum(1 for m in since if m.tool_calls)
        follow = _follow_up(wanted, results, request, rounds)
        if follow:
            return "", follow
        return _OPENING + _report(results), []
    if wanted.calls:
        return "", list(wanted.calls)
    return _cannot(wanted, request), []


def _question(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """The newest request, and what came after it."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return messages[index].content, messages[index + 1 :]
    return "", messages


def _results(since: tuple[Message, ...]) -> list[tuple[ToolCall, str]]:
    calls = {c.id: c for m in since for c in m.tool_calls}
    return [
        (calls.get(m.tool_call_id, ToolCall(m.tool_call_id, "tool")), _unwrap(m.content))
        for m in since
        if m.role == "tool"
    ]


def _unwrap(text: str) -> str:
    """A tool result without its envelope."""
    lines = text.strip().splitlines()
    if lines and lines[0].startswith("<untrusted") and lines[-1] == "</untrusted>":
        lines = lines[1:-1]
    return "\n".join(lines).strip()


def _follow_up(wanted: Plan, results: list[tuple[ToolCall, str]], request: ChatRequest, rounds: int) -> list[ToolCall]:
    """Calls that the first results make worth asking: the steps of the plan that were not run yet."""
    if rounds >= _MAX_ROUNDS:
        return []
    done = {(c.name, c.arguments) for c, _ in results}
    if wanted.intent is Intent.HEALTH and any(c.name.endswith("diagnose") for c, _ in results):
        return []
    return [c for c in wanted.calls if (c.name, c.arguments) not in done and c.name not in {n for n, _ in done}]


def _report(results: list[tuple[ToolCall, str]]) -> str:
    parts: list[str] = []
    for call, text in results:
        failed = text.startswith("ERROR:")
        body = text.removeprefix("ERROR:").strip()
        if failed:
            parts.append(f"`{call.name}` failed: {body}")
        elif call.name.endswith("diagnose"):
            parts.append(body)
        else:
            parts.append(f"`{_call_text(call)}`\n\n```\n{_fence_safe(body)}\n```")
    return "\n\n".join(parts) + "\n"


def _fence_safe(text: str) -> str:
    return text.replace("```", "'''")


def _call_text(call: ToolCall) -> str:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {}
    shown = ", ".join(f"{k}={v}" for k, v in arguments.items()) if isinstance(arguments, dict) else ""
    return f"{call.name}({shown})".replace("`", "'")


def _cannot(wanted: Plan, request: ChatRequest) -> str:
    if not request.tools:
        return "I am the offline playbook, not a language model, and I have no tools here, so I can't answer that.\n"
    lines = [
        "I am the offline playbook, not a language model. I answer from live tools by fixed rules, and "
        f"{wanted.why_not or 'none of my rules fits this request'}.",
        "",
        "What I can do here:",
        *(f"- {line}" for line in wanted.offers),
        "",
        "For free questions, configure a model: set `ANTHROPIC_API_KEY` or `OLLAMA_API_BASE`.",
    ]
    return "\n".join(lines) + "\n"


def _structured(request: ChatRequest) -> str:
    """The smallest honest JSON for a schema: the playbook has no judgement to give, so it gives empty values."""
    return json.dumps(_empty(dict(request.schema or {})))


def _empty(schema: dict[str, object]) -> object:
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    properties = schema.get("properties")
    match schema.get("type"):
        case "object":
            required = schema.get("required")
            names = required if isinstance(required, list) else []
            fields = properties if isinstance(properties, dict) else {}
            return {n: _empty(fields.get(n, {})) for n in names}
        case "array":
            return []
        case "string":
            return ""
        case "boolean":
            return False
        case "integer" | "number":
            return 0
    return None
