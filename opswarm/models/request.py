"""The OpenAI chat completion request: read, checked, and turned into ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from opswarm.errors import InvalidInput
from opswarm.models.chat import ChatRequest, Message, Options, ToolCall, ToolSchema, shallow

_MAX_SCHEMA_BYTES = 256 * 1024
_MAX_SCHEMA_DEPTH = 64
_MAX_FAULTS = 3

_OURS = "ours"
_SAID: Mapping[str, str] = {
    "json_invalid": "The request is not valid JSON of Unicode text, or nests too deep",
    "missing": "is needed",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "is longer than {max_length} characters",
    "string_pattern_mismatch": "has characters that it may not have",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} entry",
    "too_long": "has more than {max_length} entries",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Pydantic's kinds of fault in our words. Its own repeat what the caller sent."""


def _wrong(sentence: str) -> PydanticCustomError:
    return PydanticCustomError(_OURS, "{sentence}", {"sentence": sentence})


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    if not shallow(schema, _MAX_SCHEMA_DEPTH):
        raise _wrong(f"nests deeper than {_MAX_SCHEMA_DEPTH} levels")
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        raise _wrong("holds a number that JSON does not have") from None
    if size > _MAX_SCHEMA_BYTES:
        raise _wrong(f"is longer than {_MAX_SCHEMA_BYTES} bytes")
    return schema


def _as_parts(content: object) -> object:
    if content is None:
        return ()
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    if not isinstance(content, list):
        raise _wrong("must be text, or a list of text parts")
    return content


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


def _as_choice(choice: object) -> object:
    return {"type": choice} if isinstance(choice, str) else choice


_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\s\x00-\x1f\x7f]*$")]
_Schema = Annotated[dict[str, Any], AfterValidator(_plain)]
_Whole = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Part(_Wire):
    type: str
    text: str | None = None

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        if self.type != "text":
            raise _wrong("only text can be read here; images, sounds and files are refused")
        if self.text is None:
            raise _wrong("needs its text")
        return self


class _CalledFunction(_Wire):
    name: _Name
    arguments: str


class _Call(_Wire):
    id: _Name
    type: Literal["function"] = "function"
    function: _CalledFunction


class _Message(_Wire):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[tuple[_Part, ...], BeforeValidator(_as_parts)] = Field((), max_length=1000)
    tool_calls: tuple[_Call, ...] | None = Field(None, max_length=128)
    tool_call_id: _Name | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.role == "tool" and self.tool_call_id is None:
            raise _wrong("a tool message needs the tool_call_id that it answers")
        if self.tool_calls and self.role != "assistant":
            raise _wrong("only an assistant message has tool_calls")
        if self.role not in ("assistant", "tool") and not self.content:
            raise _wrong(f"a {self.role} message needs content")
        return self

    def ours(self) -> Message:
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments or "{}") for c in self.tool_calls or ())
        text = "\n".join(p.text or "" for p in self.content)
        return Message("system" if self.role == "developer" else self.role, text, calls, self.tool_call_id or "")


class _Function(_Wire):
    name: _Name
    description: str | None = None
    parameters: _Schema | None = None


class _Tool(_Wire):
    type: Literal["function"] = "function"
    function: _Function

    def ours(self) -> ToolSchema:
        parameters = self.function.parameters or {"type": "object", "properties": {}}
        return ToolSchema(self.function.name, self.function.description or "", parameters)


class _Named(_Wire):
    name: _Name


class _ToolChoice(_Wire):
    type: Literal["none", "auto", "required", "function"]
    function: _Named | None = None

    @model_validator(mode="after")
    def _names_a_function(self) -> Self:
        if self.type == "function" and self.function is None:
            raise _wrong("must name its function")
        return self


class _JsonSchema(_Wire):
    body: _Schema = Field(alias="schema")
    strict: StrictBool | None = None


class _Format(_Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise _wrong("needs its json_schema")
        return self


class _StreamOptions(_Wire):
    include_usage: StrictBool | None = None


class _Completion(_Wire):
    """The fields that are heeded. OpenAI's clients send more; those are ignored."""

    messages: tuple[_Message, ...] = Field(min_length=1, max_length=2000)
    model: Annotated[str, Field(max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]*$")] | None = None
    tools: tuple[_Tool, ...] | None = Field(None, max_length=256)
    tool_choice: Annotated[_ToolChoice | None, BeforeValidator(_as_choice)] = None
    parallel_tool_calls: StrictBool | None = None
    response_format: _Format | None = None
    temperature: _Number | None = Field(None, ge=0, le=2)
    top_p: _Number | None = Field(None, ge=0, le=1)
    stop: Annotated[tuple[Annotated[str, Field(max_length=256)], ...] | None, BeforeValidator(_as_list)] = Field(
        None, max_length=16
    )
    seed: _Whole | None = Field(None, ge=-(2**63), le=2**63 - 1)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    max_tokens: _Whole | None = Field(None, ge=1, le=10_000_000)
    max_completion_tokens: _Whole | None = Field(None, ge=1, le=10_000_000)
    n: _Whole | None = None
    stream: StrictBool | None = None
    stream_options: _StreamOptions | None = None

    @field_validator("n")
    @classmethod
    def _one_reply(cls, count: int | None) -> int | None:
        if count not in (None, 1):
            raise _wrong("only one reply is given to a request, so it must be 1")
        return count

    @model_validator(mode="after")
    def _chooses_a_tool_there_is(self) -> Self:
        chosen = self.tool_choice.function if self.tool_choice else None
        if chosen and chosen.name not in {t.function.name for t in self.tools or ()}:
            raise _wrong("tool_choice names a function that is not among the tools")
        return self

    def ours(self) -> ChatRequest:
        wanted = self.response_format.json_schema if self.response_format else None
        if self.response_format and self.response_format.type != "json_schema":
            wanted = None
        return ChatRequest(
            messages=tuple(m.ours() for m in self.messages),
            model=self.model or "standard",
            tools=tuple(t.ours() for t in self.tools or ()),
            schema=wanted.body if wanted else None,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            strict=bool(wanted and wanted.strict),
            options=self._options(),
        )

    def _options(self) -> Options:
        choice = self.tool_choice
        return Options(
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop or (),
            seed=self.seed,
            reasoning_effort=self.reasoning_effort,
            tool_choice=choice.type if choice and choice.type != "function" else None,
            tool=choice.function.name if choice and choice.function and choice.type == "function" else "",
            parallel_tool_calls=self.parallel_tool_calls,
            json_object=self.response_format is not None and self.response_format.type == "json_object",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whether it is to be streamed, and whether usage is to be told at the stream's end."""

    request: ChatRequest
    stream: bool
    usage: bool


def read_request(raw: bytes) -> Asked:
    """The request in a body. Raises `InvalidInput` that names each field at fault and repeats no value."""
    try:
        body = _Completion.model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidInput(f"{'; '.join(_sentence(f) for f in faults[:_MAX_FAULTS])}.") from None
    options = body.stream_options
    return Asked(body.ours(), bool(body.stream), bool(options and options.include_usage))


def _sentence(fault: ErrorDetails) -> str:
    said = _SAID.get(fault["type"], "is not valid")
    if fault["type"] == _OURS:
        said = fault["msg"]
    elif "ctx" in fault:
        said = said.format(**fault["ctx"])
    where = ".".join(str(step) for step in fault["loc"])
    return f"{where}: {said}" if where else said
