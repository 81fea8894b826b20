"""Replies that must be JSON of a schema, from any model: asked for natively or by a forced tool, checked, mended once.

A caller's schema is data: it is never fetched from anywhere, and its patterns run in linear time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum
from typing import Any

import re2
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from opswarm.errors import InvalidInput, ModelFailed, ModelReplyInvalid
from opswarm.models.chat import (
    CallPiece,
    ChatRequest,
    Message,
    NoticePiece,
    Options,
    Piece,
    StopPiece,
    TextPiece,
    ToolSchema,
    UsagePiece,
)

TOOL = "give_answer"
"""The tool by which a model gives its answer where its provider has no JSON schema of its own."""

_MAX_REPLY = 200_000
_MAX_FAULTS = 5
_MOST_LOOKS = 200_000
"""Keywords looked at for one reply: about a second's work."""

_QUIET = re2.Options()
_QUIET.log_errors = False
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "properties"})
_VALUES = frozenset({"const", "default", "enum", "examples"})

Ask = Callable[[ChatRequest], AsyncGenerator[Piece, None]]


class Mode(StrEnum):
    """How a model is held to a schema."""

    NATIVE = "native"
    TOOL = "tool"
    WORDS = "words"


class _TooMuch(Exception):
    """A schema that says the same over and over costs more to check than a reply is worth."""


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not re2.compile(pattern, options=_QUIET).search(instance):
        yield ValidationError(f"does not match the pattern {pattern!r}")


def _counting(most: int) -> Any:
    """A validator class that gives up after `most` looks at a keyword."""
    left = most

    def counted(keyword: Any) -> Any:
        def look(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooMuch
            return keyword(validator, value, instance, schema)

        return look

    keywords = {**Draft202012Validator.VALIDATORS, "pattern": _pattern}
    extended: Any = extend
    return extended(Draft202012Validator, {name: counted(keyword) for name, keyword in keywords.items()})


class Shape:
    """A schema that replies are checked against. Raises `InvalidInput` for a schema that can't be used."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)
        try:
            Draft202012Validator.check_schema(self.schema)
            _refuse(self.schema)
            _resolve(self.schema)
        except SchemaError as error:
            where = ".".join(map(str, error.absolute_path)) or "its top"
            raise InvalidInput(f"response_format: the schema is not a JSON schema; look at {where}.") from None
        except RecursionError:
            raise InvalidInput("response_format: the schema nests too deep.") from None

    def faults(self, text: str) -> str:
        """What is wrong with a reply, in a sentence for the model; "" when it fits."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return "It is not valid JSON."
        try:
            validator = _counting(_MOST_LOOKS)(self.schema, registry=Registry())
            errors = sorted(validator.iter_errors(found), key=lambda e: list(map(str, e.absolute_path)))
        except _TooMuch:
            raise InvalidInput(
                "response_format: the schema takes too long to check.", hint="Use a simpler one."
            ) from None
        except Unresolvable:
            raise InvalidInput("response_format: the schema refers to what is not in it.") from None
        except RecursionError:
            return "It nests too deep."
        return "; ".join(f"{_where(e)}: {e.message[:200]}" for e in errors[:_MAX_FAULTS])


def _where(error: ValidationError) -> str:
    return "/".join(map(str, error.absolute_path)) or "the whole"


def _refuse(schema: Any) -> None:
    """Raises `InvalidInput` for patterns that this can't run in linear time."""
    for part in _schemas(schema):
        if "patternProperties" in part:
            raise InvalidInput("response_format: patternProperties is not supported.")
        if isinstance(pattern := part.get("pattern"), str):
            try:
                re2.compile(pattern, options=_QUIET)
            except re2.error:
                raise InvalidInput("response_format: a pattern of the schema is not supported (RE2 syntax).") from None


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all that are in it; values that are only compared with, and names, are none."""
    if isinstance(schema, list):
        for item in schema:
            yield from _schemas(item)
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            for inner in value.values():
                yield from _schemas(inner)
        elif keyword not in _VALUES:
            yield from _schemas(value)


def _resolve(schema: dict[str, Any]) -> None:
    """Raises `InvalidInput` for references to what is not in the schema."""
    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise InvalidInput("response_format: the schema refers to what is not in it.") from None


def _references(schema: Any) -> Iterator[str]:
    return (part["$ref"] for part in _schemas(schema) if isinstance(part.get("$ref"), str))


def wanted(request: ChatRequest) -> Shape | None:
    """The shape that a request's answer must have, or None: also where the model must call a tool of the caller's."""
    if request.options.tool or request.options.tool_choice == "required":
        return None
    if request.schema is not None:
        return Shape(request.schema)
    return Shape({"type": "object"}) if request.options.json_object else None


async def answered(
    request: ChatRequest, shape: Shape, modes: tuple[Mode, ...], ask: Ask
) -> AsyncGenerator[Piece, None]:
    """The reply to `request`, which fits `shape`; or, where the model calls the caller's own tools, those calls.

    The modes are tried in order where the provider refuses one. A reply that does not fit is asked for once more, with
    what is wrong with it. Raises `ModelReplyInvalid` when that does not fit either.
    """
    for index, mode in enumerate(modes):
        try:
            async with aclosing(_in_mode(request, shape, mode, ask)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        except ModelFailed as error:
            # Only a plain refusal may be about the mode; every other failure has a type of its own.
            if type(error) is not ModelFailed or index == len(modes) - 1:
                raise


async def _in_mode(request: ChatRequest, shape: Shape, mode: Mode, ask: Ask) -> AsyncGenerator[Piece, None]:
    turn = _shaped(request, shape, mode)
    used: UsagePiece | None = None
    for attempt in (1, 2):
        text: list[str] = []
        calls: list[CallPiece] = []
        last: StopPiece | None = None
        size = 0
        async with aclosing(ask(turn)) as pieces:
            async for piece in pieces:
                match piece:
                    case TextPiece(said):
                        size += len(said)
                        if size > _MAX_REPLY:
                            raise ModelReplyInvalid("The model's JSON had no end and was cut off.", hint="Ask again.")
                        text.append(said)
                    case CallPiece():
                        calls.append(piece)
                    case StopPiece():
                        last = piece
                    case UsagePiece():
                        used = _added(used, piece)
                    case _:
                        yield piece
        others = [c for c in calls if c.call.name != TOOL]
        given = next((c.call.arguments for c in calls), None)
        reply = unfenced("".join(text)) if given is None else given
        faults = "" if others else await asyncio.to_thread(shape.faults, reply)
        if not faults and used is not None:
            yield used
        if others:
            for call in others:
                yield call
            yield StopPiece("tool_calls", last.model if last else "")
            return
        if not faults:
            yield TextPiece(reply)
            yield StopPiece("stop", last.model if last else "")
            return
        if attempt == 1:
            yield NoticePiece("repair", "The model's JSON did not fit what was asked for; it is asked once more.")
            turn = _repair(turn, reply, faults)
    raise ModelReplyInvalid(
        "The model's reply is not the JSON that was asked for, twice.", hint="Use another model, or a simpler schema."
    )


def _added(before: UsagePiece | None, more: UsagePiece) -> UsagePiece:
    """What both calls used: whoever asked pays for both."""
    if before is None:
        return more
    return UsagePiece(
        more.model,
        before.input_tokens + more.input_tokens,
        before.output_tokens + more.output_tokens,
        before.cached_tokens + more.cached_tokens,
        before.cache_written_tokens + more.cache_written_tokens,
    )


def unfenced(text: str) -> str:
    """JSON that a model put into a Markdown code block, without the block."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") : -3].strip()
    return stripped


def _shaped(request: ChatRequest, shape: Shape, mode: Mode) -> ChatRequest:
    if mode is Mode.NATIVE:
        return request
    plain = replace(request, schema=None, options=replace(request.options, json_object=False))
    if mode is Mode.TOOL:
        tool = ToolSchema(TOOL, "Gives the answer. Call it once, with the whole answer.", shape.schema)
        forced = replace(plain.options, tool="", tool_choice="required") if request.tools else _only(plain.options)
        return replace(plain, tools=(*request.tools, tool), options=forced)
    words = (
        "Answer with one JSON value that fits this JSON schema, and with nothing else: no prose, no code block.\n"
        f"{json.dumps(shape.schema, ensure_ascii=False)}"
    )
    return replace(plain, messages=(Message("system", words), *request.messages))


def _only(options: Options) -> Options:
    return replace(options, tool=TOOL, tool_choice=None)


def _repair(turn: ChatRequest, reply: str, faults: str) -> ChatRequest:
    told = f"That does not fit: {faults}\nGive the corrected JSON, whole, and nothing else."
    messages = (*turn.messages, Message("assistant", reply[:20_000] or "(nothing)"), Message("user", told))
    return replace(turn, messages=messages)
