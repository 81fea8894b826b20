"""What a model can be trusted with: a short probe of what an agent's turn needs of it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from opswarm.errors import ModelReplyInvalid, OpswarmError
from opswarm.models.chat import CallPiece, ChatModel, ChatRequest, Message, Piece, TextPiece, ToolCall, ToolSchema

_SECONDS = 180.0
"""For one model: a small one on a small machine loads for a minute before its first word."""


class Fitness(StrEnum):
    """What came out. An agent's turns need `TOOLS`; chat without tools and routing do with less."""

    TOOLS = "good for agents: it picks a tool, fills the arguments, uses the result and stops"
    CHAT = "good for chat only: its tool calls can't be relied on"
    NONE = "of no use here"


@dataclass(frozen=True, slots=True)
class Probe:
    """One model's result. `steps` are the things tried, in order, and whether each went well; `trouble` is why not."""

    model: str
    fitness: Fitness
    steps: tuple[tuple[str, bool], ...]
    json: bool
    seconds: float
    trouble: str = ""


def _tool(name: str, what: str, argument: str) -> ToolSchema:
    schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return ToolSchema(name, what, schema)


_TOOLS = (
    _tool("count_pods", "Counts the pods of a namespace.", "namespace"),
    _tool("read_weather", "Reads the weather of a town.", "town"),
)
_HEALTHY = Message("user", "A deployment has 3 of 3 pods ready and no restarts. Is it healthy or broken?")
_VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["healthy", "broken"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}


async def probe(model: str, client: ChatModel) -> Probe:
    """Tries `model`, a tier or LiteLLM name. Never raises an `OpswarmError`: what went wrong is in the result."""
    started = time.monotonic()
    steps: list[tuple[str, bool]] = []
    spoke, json, trouble = False, False, ""
    try:
        async with asyncio.timeout(_SECONDS):
            spoke = await _tools(model, client, steps)
    except TimeoutError:
        trouble = f"It took more than {_SECONDS:.0f} s."
    except OpswarmError as error:
        trouble = str(error)
    if not spoke:
        spoke, more = await _answers(client, ChatRequest((_HEALTHY,), model=model))
        trouble = trouble or more
    if spoke:
        json, more = await _answers(client, ChatRequest((_HEALTHY,), model=model, schema=_VERDICT))
        trouble = trouble or more
    well = len(steps) == 4 and all(ok for _, ok in steps)
    fitness = Fitness.TOOLS if well else Fitness.CHAT if spoke else Fitness.NONE
    return Probe(model, fitness, tuple(steps), json, round(time.monotonic() - started, 1), trouble)


async def _tools(model: str, client: ChatModel, steps: list[tuple[str, bool]]) -> bool:
    """Fills `steps`; says whether the model said or called anything."""
    namespace, number = f"team-{secrets.token_hex(3)}", 1_000 + secrets.randbelow(9_000)
    asked = [
        Message("system", "You look after a Kubernetes cluster. Use the tools; then answer in one short sentence."),
        Message("user", f"How many pods are in the namespace {namespace}?"),
    ]
    text, calls = await _ask(client, ChatRequest(tuple(asked), model=model, tools=_TOOLS))
    chosen = [c for c in calls if c.name == "count_pods"]
    steps.append(("picks a tool", bool(chosen) and len(chosen) == len(calls)))
    if not chosen:
        return bool(text or calls)
    steps.append(("fills the arguments", _argument(chosen[0]) == namespace))
    asked += [
        Message("assistant", text, tuple(chosen)),
        *(Message("tool", f"pods in {namespace}: {number}", tool_call_id=c.id) for c in chosen),
    ]
    text, calls = await _ask(client, ChatRequest(tuple(asked), model=model, tools=_TOOLS))
    said = text.replace(",", "").replace("\u202f", "").replace(".", " ")
    steps.append(("uses the result", str(number) in said))
    steps.append(("stops", not calls))
    return True


async def _answers(client: ChatModel, request: ChatRequest) -> tuple[bool, str]:
    """Whether the model says anything, and what went wrong where it does not."""
    try:
        async with asyncio.timeout(_SECONDS):
            text, _ = await _ask(client, request)
    except TimeoutError:
        return False, f"It took more than {_SECONDS:.0f} s."
    except OpswarmError as error:
        return False, str(error)
    return bool(text), ""


def _argument(call: ToolCall) -> str:
    try:
        return str(call.parsed().get("namespace", ""))
    except ModelReplyInvalid:
        return ""


async def _ask(client: ChatModel, request: ChatRequest) -> tuple[str, Sequence[ToolCall]]:
    text: list[str] = []
    calls: list[ToolCall] = []
    async with aclosing(client.stream(request)) as pieces:
        async for piece in pieces:
            _take(piece, text, calls)
    return "".join(text), calls


def _take(piece: Piece, text: list[str], calls: list[ToolCall]) -> None:
    match piece:
        case TextPiece(said):
            text.append(said)
        case CallPiece(call):
            calls.append(call)
