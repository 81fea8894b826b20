"""What the probe finds out about models that behave, and about those that don't."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable

import pytest

from opswarm.errors import ModelUnknown
from opswarm.models.chat import CallPiece, ChatRequest, Piece, StopPiece, TextPiece, ToolCall
from opswarm.models.probe import Fitness, probe

Behaviour = Callable[[ChatRequest], list[Piece]]


class Model:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        for piece in self.behaviour(request):
            yield piece
        yield StopPiece("stop")


def namespace(request: ChatRequest) -> str:
    return request.messages[min(1, len(request.messages) - 1)].content.rstrip("?").split()[-1]


def call(name: str, **arguments: str) -> CallPiece:
    return CallPiece(ToolCall("c1", name, json.dumps(arguments)))


def good(request: ChatRequest) -> list[Piece]:
    if request.schema is not None:
        return [TextPiece('{"verdict":"healthy"}')]
    last = request.messages[-1]
    if last.role == "tool":
        return [TextPiece(f"There are {last.content.split()[-1]} pods.")]
    return [call("count_pods", namespace=namespace(request))]


async def test_a_model_that_calls_tools_well_is_good_for_agents() -> None:
    found = await probe("m", Model(good))
    assert found.fitness is Fitness.TOOLS and found.json and found.trouble == ""
    did = [what for what, ok in found.steps if ok]
    assert did == ["picks a tool", "fills the arguments", "uses the result", "stops"]


def talks(request: ChatRequest) -> list[Piece]:
    return [TextPiece("I would call count_pods.")]


def wrong_tool(request: ChatRequest) -> list[Piece]:
    return [call("read_weather", town="team")]


def wrong_argument(request: ChatRequest) -> list[Piece]:
    return good(request) if request.messages[-1].role == "tool" else [call("count_pods", namespace="default")]


def garbage(request: ChatRequest) -> list[Piece]:
    return [CallPiece(ToolCall("c1", "count_pods", "{namespace:"))]


def never_stops(request: ChatRequest) -> list[Piece]:
    return [call("count_pods", namespace=namespace(request))]


def forgets(request: ChatRequest) -> list[Piece]:
    return [TextPiece("There are 12 pods.")] if request.messages[-1].role == "tool" else good(request)


@pytest.mark.parametrize("behaviour", [talks, wrong_tool, wrong_argument, garbage, never_stops, forgets])
async def test_a_model_that_does_one_of_it_badly_is_for_chat_only(behaviour: Behaviour) -> None:
    found = await probe("m", Model(behaviour))
    assert found.fitness is Fitness.CHAT and not all(ok for _, ok in found.steps)


async def test_a_model_that_says_nothing_or_is_not_there_is_of_no_use() -> None:
    assert (await probe("m", Model(lambda r: []))).fitness is Fitness.NONE

    def gone(request: ChatRequest) -> list[Piece]:
        raise ModelUnknown("ollama has no model m.", hint="Run `ollama pull m`.")

    found = await probe("m", Model(gone))
    assert found.fitness is Fitness.NONE and "ollama pull" in found.trouble


async def test_a_model_that_can_not_call_tools_may_still_chat() -> None:
    def chats(request: ChatRequest) -> list[Piece]:
        if request.tools:
            raise ModelUnknown("m can't call tools.", hint="Choose one that can.")
        return good(request) if request.schema is not None else [TextPiece("healthy")]

    found = await probe("m", Model(chats))
    assert found.fitness is Fitness.CHAT and found.json and "can't call tools" in found.trouble
