"""JSON of a schema from every provider, checked here whatever the provider promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opswarm.errors import InvalidInput, ModelReplyInvalid
from opswarm.models.chat import CallPiece, NoticePiece, StopPiece, UsagePiece
from services.model_gateway.structured import TOOL as ANSWER_TOOL
from services.model_gateway.structured import Shape, unfenced
from tests.services.model_gateway.gate import LITELLM_WARNS, TOOL, gateway, text
from tests.support.scripted_models import Reply, anthropic, ollama, openai

pytestmark = LITELLM_WARNS

SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"enum": ["ok", "bad"]}, "count": {"type": "integer"}},
    "required": ["verdict", "count"],
    "additionalProperties": False,
}
GOOD = '{"verdict":"ok","count":3}'
FITS = {"verdict": "ok", "count": 3}


@pytest.mark.parametrize(
    ("wire", "model", "reply", "asked"),
    [
        (ollama, "ollama_chat/qwen3", Reply(text=(GOOD,)), lambda sent: sent["format"] == SCHEMA),
        (openai, "openai/m", Reply(text=(GOOD,)), lambda sent: sent["response_format"]["type"] == "json_schema"),
        (
            anthropic,
            "anthropic/claude-x",
            Reply(calls=((ANSWER_TOOL, FITS),)),
            lambda sent: sent["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL},
        ),
    ],
)
async def test_every_wire_is_asked_in_its_own_way(
    tmp_path: Path, wire: Any, model: str, reply: Reply, asked: Any
) -> None:
    async with gateway(tmp_path, reply, wire=wire) as gate:
        pieces = await gate.ask(model, schema=SCHEMA)
        assert asked(gate.script.requests[0]), gate.script.requests[0]
    assert json.loads(text(pieces)) == FITS
    assert isinstance(pieces[-1], StopPiece) and pieces[-1].reason == "stop"


async def test_a_reply_that_does_not_fit_is_asked_for_once_more_with_what_is_wrong(tmp_path: Path) -> None:
    bad, good = Reply(text=('{"verdict":"maybe"}',)), Reply(text=(f"```json\n{GOOD}\n```",))
    async with gateway(tmp_path, bad, good, wire=ollama) as gate:
        pieces = await gate.ask("ollama_chat/qwen3", schema=SCHEMA)
        again = gate.script.requests[1]["messages"]
    assert json.loads(text(pieces)) == FITS
    assert [p.code for p in pieces if isinstance(p, NoticePiece)] == ["repair"]
    assert [(p.input_tokens, p.output_tokens) for p in pieces if isinstance(p, UsagePiece)] == [(34, 10)], "both calls"
    assert "'maybe' is not one of" in again[-1]["content"] and "'count' is a required" in again[-1]["content"]


async def test_a_reply_that_never_fits_is_a_typed_error_after_two_calls(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("Sure! Here it is: ok",)), wire=ollama) as gate:
        with pytest.raises(ModelReplyInvalid, match="twice"):
            await gate.ask("ollama_chat/qwen3", schema=SCHEMA)
        assert len(gate.script.requests) == 2


async def test_the_next_model_is_asked_when_one_never_fits(tmp_path: Path) -> None:
    chain = ("ollama_chat/a", "ollama_chat/b")
    replies = [Reply(text=("no",)), Reply(text=("no",)), Reply(text=(GOOD,))]
    async with gateway(tmp_path, *replies, wire=ollama, standard=chain) as gate:
        pieces = await gate.ask("standard", schema=SCHEMA)
    assert json.loads(text(pieces)) == FITS


async def test_a_provider_that_refuses_schemas_is_asked_by_a_forced_tool(tmp_path: Path) -> None:
    refused = Reply(status=400, error="response_format is not supported")
    async with gateway(tmp_path, refused, Reply(calls=((ANSWER_TOOL, FITS),)), wire=openai) as gate:
        pieces = await gate.ask("openai/m", schema=SCHEMA)
        assert gate.script.requests[1]["tool_choice"]["function"]["name"] == ANSWER_TOOL
        assert "response_format" not in gate.script.requests[1]
    assert json.loads(text(pieces)) == FITS


async def test_the_callers_own_tools_are_still_called(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(calls=(("diagnose", {"name": "web"}),)), wire=anthropic) as gate:
        pieces = await gate.ask("anthropic/claude-x", schema=SCHEMA, tools=(TOOL,))
    calls = [p.call.name for p in pieces if isinstance(p, CallPiece)]
    assert calls == ["diagnose"] and isinstance(pieces[-1], StopPiece) and pieces[-1].reason == "tool_calls"


async def test_an_endless_reply_is_cut(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("[1" + ",1" * 50_000,) * 4), wire=ollama) as gate:
        with pytest.raises(ModelReplyInvalid, match="no end"):
            await gate.ask("ollama_chat/qwen3", schema=SCHEMA)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "objekt"}, "not a JSON schema"),
        ({"patternProperties": {"^a": {}}}, "patternProperties"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "pattern"),
    ],
)
async def test_a_schema_that_can_not_be_used_is_refused_before_a_model_is_asked(
    tmp_path: Path, schema: dict[str, Any], told: str
) -> None:
    async with gateway(tmp_path, Reply(text=("{}",)), wire=ollama) as gate:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        answer = await gate.post(model="ollama_chat/qwen3", response_format=form)
        assert gate.script.requests == []
    assert answer.status_code == 400 and told in answer.json()["error"]["message"]


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/x", "file:///etc/passwd", "#/nowhere"])
def test_a_schema_never_reaches_out(where: str) -> None:
    with pytest.raises(InvalidInput, match="not in it"):
        Shape({"properties": {"a": {"$ref": where}}})


def test_words_that_only_look_like_keywords_are_none() -> None:
    names = {"patternProperties": {"type": "string"}, "pattern": {"const": {"$ref": "http://x", "pattern": "(?="}}}
    assert Shape({"properties": names}).faults('{"patternProperties": "x"}') == ""


def test_a_schema_that_turns_in_a_circle_ends() -> None:
    assert Shape({"$ref": "#"}).faults("{}") == "It nests too deep."


def test_a_schema_that_says_the_same_over_and_over_is_given_up() -> None:
    definitions: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 8} for n in range(8)}
    definitions["d8"] = {"type": "object"}
    with pytest.raises(InvalidInput, match="too long to check"):
        Shape({"$ref": "#/$defs/d0", "$defs": definitions}).faults("{}")


def test_a_pattern_that_would_run_for_ever_does_not() -> None:
    shape = Shape({"type": "string", "pattern": "^(a+)+$"})
    assert "pattern" in shape.faults(json.dumps("a" * 5_000 + "!"))
    assert shape.faults(json.dumps("aaa")) == ""


def test_only_a_block_around_the_whole_is_taken_off() -> None:
    assert unfenced("```json\n{}\n```") == "{}"
    assert unfenced("text ```json\n{}\n``` text") == "text ```json\n{}\n``` text"
    assert unfenced("``` ```") == "``` ```"
