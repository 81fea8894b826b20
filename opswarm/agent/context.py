"""Keeping a conversation within what a model can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from opswarm.guard.untrusted import shorten
from opswarm.models.chat import Message, ToolSchema

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English and JSON (OpenAI's tokenizer guide); no tokenizer is needed to stay safe."""

_KEPT_QUESTION = 300
_KEPT_ANSWER = 600
_KEPT_RESULT = 1_500
_SMALLEST_RESULT = 300


def estimate_tokens(messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
    """Tokens that these cost a model, roughly."""
    size = sum(len(m.content) + sum(len(c.name) + len(c.arguments) for c in m.tool_calls) + 16 for m in messages)
    size += sum(len(t.name) + len(t.description) + len(str(t.parameters)) for t in tools)
    return size // CHARACTERS_PER_TOKEN


def compact(messages: Sequence[Message], limit: int, tools: Sequence[ToolSchema] = ()) -> tuple[Message, ...]:
    """`messages`, shortened from the oldest on until they fit `limit` tokens, as far as they can.

    The system message and the newest request are kept whole. In order: earlier turns are cut to their gist,
    then dropped; then tool results of this turn are cut, the oldest first. A call and its result are never
    separated, as providers refuse that.
    """
    if estimate_tokens(messages, tools) <= limit:
        return tuple(messages)
    system = [m for m in messages[:1] if m.role == "system"]
    rest = list(messages[len(system) :])
    newest = max((i for i, m in enumerate(rest) if m.role == "user"), default=0)
    earlier, current = [_gist(m) for m in rest[:newest] if m.role != "tool" and not m.tool_calls], rest[newest:]
    dropped = 0
    while earlier and estimate_tokens([*system, *earlier, *current], tools) > limit:
        earlier.pop(0)
        dropped += 1
        while earlier and earlier[0].role != "user":
            earlier.pop(0)
    if dropped:
        earlier.insert(0, Message("user", "(Earlier parts of this conversation were left out for length.)"))
    for kept in (_KEPT_RESULT, _SMALLEST_RESULT):
        for index, message in enumerate(current):
            if estimate_tokens([*system, *earlier, *current], tools) <= limit:
                break
            if message.role == "tool":
                current[index] = replace(message, content=shorten(message.content, kept))
    return (*system, *earlier, *current)


def _gist(message: Message) -> Message:
    kept = _KEPT_QUESTION if message.role == "user" else _KEPT_ANSWER
    return replace(message, content=shorten(message.content, kept))
