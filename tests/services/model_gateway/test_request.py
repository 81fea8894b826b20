"""What an OpenAI client may send: good requests are heeded whole, bad ones are refused by the name of their field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opswarm.errors import InvalidInput
from opswarm.models.chat import ChatRequest, Message, Options, ToolCall, ToolSchema
from opswarm.models.request import read_request
from tests.services.model_gateway.gate import LITELLM_WARNS, TOOL, gateway
from tests.support.scripted_models import Reply, anthropic, ollama

pytestmark = LITELLM_WARNS

USER = {"role": "user", "content": "x"}
CALL = {"id": "c1", "type": "function", "function": {"name": "diagnose", "arguments": "{}"}}
FUNCTION = {"type": "function", "function": {"name": "diagnose"}}
OPTIONS: dict[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.5,
    "stop": "END",
    "seed": 7,
    "reasoning_effort": "low",
    "tool_choice": {"type": "function", "function": {"name": "diagnose"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
}


def deep(levels: int) -> Any:
    value: Any = "hunter22"
    for _ in range(levels):
        value = {"a": value}
    return value


def assistant(**fields: Any) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", "content": "", **fields}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"messages": assistant(tool_calls=5)}, "messages.1.tool_calls: must be a list"),
        ({"messages": assistant(tool_calls=[5])}, "messages.1.tool_calls.0: must be an object"),
        (
            {"messages": assistant(tool_calls=[{**CALL, "function": 3}])},
            "messages.1.tool_calls.0.function: must be an object",
        ),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content: must be text, or a list of text parts"),
        ({"messages": [{"role": "user"}]}, "messages.0: a user message needs content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0: a tool message needs the tool_call_id"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages.0: only an assistant message has tool_calls"),
        ({"messages": [{"role": "hunter22", "content": "x"}]}, "messages.0.role: must be 'system', 'developer'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "hunter22"}}]}]},
            "messages.0.content.0: only text can be read here",
        ),
        ({"messages": [USER] * 2001}, "messages: has more than 2000 entries"),
        ({"tools": [{"type": "function", "function": 3}]}, "tools.0.function: must be an object"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": deep(100)}}]},
            "tools.0.function.parameters: nests deeper than 64 levels",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "response_format.json_schema: must be an obj"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "hunter22"}}},
            "response_format.json_schema.schema: must be an object",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format: needs its json_schema"),
        ({"temperature": "hunter22"}, "temperature: must be a number"),
        ({"temperature": 9}, "temperature: must be at most 2"),
        ({"stop": 5}, "stop: must be a list"),
        ({"seed": 1.5}, "seed: must be a whole number"),
        ({"tool_choice": "hunter22"}, "tool_choice.type: must be 'none', 'auto'"),
        ({"tool_choice": {"type": "function", "function": {"name": "hunter22"}}}, "is not among the tools"),
        ({"n": 2}, "n: only one reply is given to a request"),
        ({"max_tokens": True}, "max_tokens: must be a whole number"),
        ({"stream": "yes"}, "stream: must be true or false"),
        ({"model": "a/b\nlevel=error forged"}, "model: has characters that it may not have"),
    ],
)
async def test_a_bad_field_is_named_and_its_value_is_not(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    async with gateway(tmp_path) as gate:
        response = await gate.post(**fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code"} and error["type"] == "invalid_request_error"
    assert told in error["message"] and "hunter22" not in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"messages":[{"role":"user","content":"\ud800"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"function":{"name":"a","parameters":{"x":NaN}}}]}',
        b'{"messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 5000 + b"}",
    ],
    ids=["surrogate", "nan", "infinity", "nan in a schema", "depth", "huge number"],
)
async def test_what_json_text_can_not_hold_is_refused(tmp_path: Path, body: bytes) -> None:
    async with gateway(tmp_path) as gate:
        response = await gate.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_nulls_and_what_we_do_not_know_are_ignored(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("temperature", "tools", "tool_choice", "stop", "response_format", "seed", "stream_options")
    )
    async with gateway(tmp_path) as gate:
        response = await gate.post(**nothing, user="ann", logprobs=False, metadata={"chat": 1}, n=1)
    assert response.status_code == 200


async def test_every_option_reaches_ollama(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("{}",)), wire=ollama) as gate:
        response = await gate.post(model="ollama_chat/qwen3", tools=[TOOL.wire()], **OPTIONS)
        sent = gate.script.requests[0]
    assert response.status_code == 200
    assert sent["format"] == "json" and sent["think"]
    assert {k: sent["options"][k] for k in ("temperature", "top_p", "seed", "stop")} == {
        "temperature": 0.25,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
    }


async def test_every_option_that_anthropic_knows_reaches_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("x",)), wire=anthropic) as gate:
        await gate.post(model="anthropic/claude-x", tools=[TOOL.wire()], **OPTIONS)
        sent = gate.script.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["stop_sequences"]) == (0.25, 0.5, ["END"])
    assert sent["tool_choice"] == {"type": "tool", "name": "diagnose", "disable_parallel_tool_use": True}


async def test_the_playbook_too_answers_in_json_when_asked(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        body = (await gate.post(response_format={"type": "json_object"})).json()
    assert json.loads(body["choices"][0]["message"]["content"]) == {}


@pytest.mark.parametrize(("wire", "model"), [(anthropic, "anthropic/claude-x"), (ollama, "ollama_chat/qwen3")])
@pytest.mark.parametrize("arguments", ["not json", "", "[1]", "[" * 50_000])
async def test_a_model_is_asked_again_after_it_called_a_tool_with_nonsense(
    tmp_path: Path, wire: Any, model: str, arguments: str
) -> None:
    call = {**CALL, "function": {"name": "diagnose", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "The arguments of diagnose are not valid JSON."}
    async with gateway(tmp_path, Reply(text=("ok",)), wire=wire) as gate:
        messages = [*assistant(tool_calls=[call]), answer]
        response = await gate.post(model=model, messages=messages, tools=[TOOL.wire()])
    assert response.status_code == 200


def test_what_our_client_sends_is_read_as_it_was() -> None:
    request = ChatRequest(
        messages=(
            Message("system", "s"),
            Message("user", "u"),
            Message("assistant", "", (ToolCall("c1", "diagnose", '{"name":"a"}'),)),
            Message("tool", "", tool_call_id="c1"),
        ),
        model="fast",
        tools=(TOOL,),
        schema={"type": "object"},
        max_tokens=300,
        options=Options(0.5, 0.9, ("a", "b"), 3, "high", "required", "", True),
    )
    assert read_request(json.dumps(request.wire()).encode()).request == request


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "a"]), inner),
    max_leaves=6,
)
_WHOLE: dict[str, Any] = {
    "messages": [*assistant(tool_calls=[CALL]), {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text"}]}],
    "tools": [FUNCTION],
    "n": 1,
    "max_tokens": 5,
    "stream_options": {"include_usage": True},
    **OPTIONS,
}


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [p for step, inner in steps for p in _paths(inner, (*at, step))]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(_paths(_WHOLE)), _JSON)
def test_any_field_may_be_anything_and_the_request_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    body = json.loads(json.dumps(_WHOLE))
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    try:
        asked = read_request(json.dumps(body).encode()).request
    except InvalidInput:
        return
    assert isinstance(asked, ChatRequest) and all(isinstance(t, ToolSchema) for t in asked.tools)
    json.dumps(asked.wire(), allow_nan=False, ensure_ascii=False).encode()
