"""A streamed chat completion: its chunks, checked, and the reply put together from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opswarm.errors import ModelReplyInvalid
from opswarm.models.chat import CallPiece, NoticePiece, Piece, StopPiece, TextPiece, ToolCall, UsagePiece

_MAX_CALLS = 32
_MAX_ARGUMENTS = 100_000
"""Characters of the arguments of one reply: more than any tool takes, so that an endless call ends."""

_Count = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class _Function(_Wire):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Fragment(_Wire):
    index: _Count | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(_Wire):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_Fragment, ...] | None = None


class _Choice(_Wire):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(_Wire):
    cached_tokens: _Count | None = None
    cache_creation_tokens: _Count | None = None


class _Notice(_Wire):
    code: str = Field(max_length=64)
    text: str = Field(max_length=2_000)


class _Ours(_Wire):
    notice: _Notice | None = None


class _Usage(_Wire):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


class Chunk(_Wire):
    """One chunk, as it came over the wire or as LiteLLM gives it."""

    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None
    opswarm: _Ours | None = None

    @property
    def written(self) -> int:
        """Characters that the model wrote: text, reasoning, and arguments of tool calls."""
        return sum(_written(c.delta) for c in self.choices or () if c.delta is not None)


def _written(delta: _Delta) -> int:
    size = len(delta.content or "") + len(delta.reasoning_content or "")
    for fragment in delta.tool_calls or ():
        if fragment.function is not None:
            size += len(fragment.function.name or "") + len(fragment.function.arguments or "")
    return size


def read_chunk(raw: object) -> Chunk:
    """The chunk in JSON bytes, or in an object with its fields as attributes. Raises `ModelReplyInvalid`."""
    try:
        return Chunk.model_validate_json(raw) if isinstance(raw, bytes) else Chunk.model_validate(raw)
    except ValidationError as error:
        raise ModelReplyInvalid("The model's reply holds a chunk that can't be read.", hint="Ask again.") from error


class Reply:
    """One reply, put together from its chunks. `model` is its name where the chunks are not to say it."""

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._named = bool(model)
        self._calls: dict[int, list[str]] = {}
        self._arguments = 0
        self._usage: _Usage | None = None
        self._stopped = ""

    def add(self, chunk: Chunk) -> Iterator[Piece]:
        """The text of the chunk; the rest of it is kept for the end."""
        if not self._named:
            self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if chunk.opswarm is not None and (told := chunk.opswarm.notice) is not None:
            yield NoticePiece(told.code, told.text)
        for choice in chunk.choices or ():
            if choice.delta is not None:
                if choice.delta.content:
                    yield TextPiece(choice.delta.content)
                for fragment in choice.delta.tool_calls or ():
                    self._collect(fragment)
            self._stopped = choice.finish_reason or self._stopped

    @property
    def whole(self) -> bool:
        """Whether usage and the reason to stop are known: nothing comes after those."""
        return bool(self._stopped) and self._usage is not None

    def end(self) -> Iterator[Piece]:
        """Usage, whole tool calls, and why the model stopped. Raises `ModelReplyInvalid` if it never said."""
        if self._usage is not None:
            yield _usage(self._model, self._usage)
        if not self._stopped:
            raise ModelReplyInvalid("The model's reply broke off in the middle.", hint="Ask again.")
        for index, (identifier, name, arguments) in sorted(self._calls.items()):
            yield CallPiece(ToolCall(identifier or f"call_{index}", name, arguments or "{}"))
        yield StopPiece("tool_calls" if self._calls else self._stopped, self._model)

    def _collect(self, fragment: _Fragment) -> None:
        index = fragment.index or 0
        if index not in self._calls and len(self._calls) >= _MAX_CALLS:
            raise ModelReplyInvalid(f"The model asked for more than {_MAX_CALLS} tool calls in one step.")
        parts = self._calls.setdefault(index, ["", "", ""])
        function = fragment.function or _Function()
        parts[0] = parts[0] or fragment.id or ""
        parts[1] = parts[1] or function.name or ""
        arguments = function.arguments or ""
        more = arguments if isinstance(arguments, str) else json.dumps(arguments)
        self._arguments += len(more)
        if self._arguments > _MAX_ARGUMENTS:
            raise ModelReplyInvalid("The model's tool call had no end and was cut off.", hint="Ask again.")
        parts[2] += more


def _usage(model: str, usage: _Usage) -> UsagePiece:
    details = usage.prompt_tokens_details or _Details()
    cached = details.cached_tokens or usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or details.cache_creation_tokens or 0
    return UsagePiece(model, usage.prompt_tokens or 0, usage.completion_tokens or 0, cached, written)
