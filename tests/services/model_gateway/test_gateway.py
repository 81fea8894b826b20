"""The gateway over real HTTP, LiteLLM included, against scripted providers on their real wires."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opswarm.errors import ModelBusy, ModelFailed, ModelKeyRejected, ModelUnknown, ModelUnreachable
from opswarm.fetch import Fetcher
from opswarm.guard.keys import make_person_token
from opswarm.models.chat import CallPiece, ChatRequest, Message, UsagePiece
from opswarm.models.client import GatewayClient
from opswarm.settings import Models
from services.model_gateway.app import create_app
from services.model_gateway.tiers import chain
from tests.services.model_gateway.gate import KEY, LITELLM_WARNS, TOOL, gateway, text
from tests.support.hosting import free_port, serving, settings_at
from tests.support.scripted_models import Reply, anthropic, ollama

pytestmark = LITELLM_WARNS


@pytest.mark.parametrize(("wire", "model"), [(anthropic, "anthropic/claude-x"), (ollama, "ollama_chat/qwen3")])
async def test_text_streams_from_a_real_wire(tmp_path: Path, wire: Any, model: str) -> None:
    async with gateway(tmp_path, Reply(text=("two pods ", "are ", "broken")), wire=wire) as gate:
        pieces = await gate.ask(model)
    assert text(pieces) == "two pods are broken"
    usage = next(p for p in pieces if isinstance(p, UsagePiece))
    assert usage.model == model and usage.input_tokens > 0 and usage.output_tokens > 0


@pytest.mark.parametrize(("wire", "model"), [(anthropic, "anthropic/claude-x"), (ollama, "ollama_chat/qwen3")])
async def test_a_tool_call_comes_whole_from_a_real_wire(tmp_path: Path, wire: Any, model: str) -> None:
    reply = Reply(calls=(("diagnose", {"name": "sonarr"}),))
    async with gateway(tmp_path, reply, wire=wire) as gate:
        pieces = await gate.ask(model, tools=(TOOL,))
        sent = gate.script.requests[0]
    calls = [p.call for p in pieces if isinstance(p, CallPiece)]
    assert [(c.name, c.parsed()) for c in calls] == [("diagnose", {"name": "sonarr"})]
    assert "diagnose" in json.dumps(sent["tools"])


async def test_ollama_is_asked_for_a_window_that_holds_the_tools(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("ok",)), wire=ollama) as gate:
        await gate.ask("ollama_chat/qwen3", tools=(TOOL,))
    assert gate.script.requests[0]["options"]["num_ctx"] == 16_384


async def test_the_key_goes_to_the_provider_and_nowhere_else(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(status=401, error=f"bad key {KEY}")) as gate:
        with pytest.raises(ModelKeyRejected) as caught:
            await gate.ask("anthropic/claude-x")
        body = {"model": "anthropic/claude-x", "messages": [{"role": "user", "content": "x"}]}
        raw = await gate.http.post("/v1/chat/completions", json=body)
        models = await gate.http.get("/v1/models")
    assert gate.script.headers[0]["x-api-key"] == KEY
    assert "does not accept the key" in str(caught.value)
    for shown in (str(caught.value), raw.text, models.text):
        assert KEY not in shown and "qqqq" not in shown


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (Reply(status=429, headers={"retry-after": "7"}), ModelBusy, "limits the rate"),
        (Reply(status=529), ModelBusy, "overloaded"),
        (Reply(status=500), ModelFailed, "anthropic"),
        (Reply(status=404), ModelUnknown, "has no model"),
    ],
)
async def test_an_anthropic_error_is_one_a_person_can_act_on(
    tmp_path: Path, reply: Reply, kind: type[ModelFailed], told: str
) -> None:
    async with gateway(tmp_path, reply) as gate:
        with pytest.raises(kind, match=told):
            await gate.ask("anthropic/claude-x")


async def test_an_ollama_model_that_is_not_pulled_is_told_with_the_command(tmp_path: Path) -> None:
    reply = Reply(status=404, error='model "qwen3" not found, try pulling it first')
    async with gateway(tmp_path, reply, wire=ollama) as gate:
        with pytest.raises(ModelUnknown, match="ollama pull qwen3"):
            await gate.ask("ollama_chat/qwen3")


async def test_a_provider_that_is_gone_is_told(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        pass
    settings = settings_at(tmp_path)
    gone = Models(ollama_api_base=f"http://127.0.0.1:{free_port()}")
    token = make_person_token(settings)
    app = create_app(settings.updated({"models": gone})).app()
    async with serving(app) as url, Fetcher() as http:
        client = GatewayClient(url, http, lambda: token)
        with pytest.raises(ModelUnreachable, match="ollama serve"):
            _ = [p async for p in client.stream(ChatRequest((Message("user", "x"),), model="ollama_chat/qwen3"))]
    assert gate.script.requests == []


async def test_the_playbook_is_a_model_like_any_other(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        pieces = await gate.ask("offline/playbook", tools=(TOOL,))
        body = {"model": "offline/playbook", "messages": [{"role": "user", "content": "write a poem"}]}
        whole = (await gate.http.post("/v1/chat/completions", json=body)).json()
    assert [p.call.name for p in pieces if isinstance(p, CallPiece)] == ["diagnose"]
    assert "offline playbook" in whole["choices"][0]["message"]["content"]
    assert whole["object"] == "chat.completion"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"messages":[]}', b'{"messages":"x"}', b'{"messages":[{"role":"king","content":"x"}]}',
     b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}',
     b'{"messages":[{"role":"user","content":"x"}],"model":"nonsense"}', b"\xff\xfe"],
)  # fmt: skip
async def test_a_bad_request_is_refused_in_openai_shape(tmp_path: Path, body: bytes) -> None:
    async with gateway(tmp_path) as gate:
        response = await gate.http.post("/v1/chat/completions", content=body)
    assert response.status_code in (400, 404)
    assert set(response.json()["error"]) == {"message", "type", "code"}


async def test_a_stranger_gets_no_model(tmp_path: Path) -> None:
    async with gateway(tmp_path, Reply(text=("x",))) as gate:
        response = await gate.http.post(
            "/v1/chat/completions", json={}, headers={"Authorization": "Bearer forged.token.here"}
        )
    assert response.status_code == 401
    assert gate.script.requests == []


def test_a_tier_that_is_auto_takes_what_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chain("standard", Models()) == ("offline/playbook",)
    assert chain("fast", Models(ollama_api_base="http://x")) == ("ollama_chat/qwen3:8b", "offline/playbook")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    first, *rest = chain("deep", Models(ollama_api_base="http://x"))
    assert first.startswith("anthropic/") and rest == ["ollama_chat/qwen3:8b", "offline/playbook"]
    assert chain("standard", Models(standard=("ollama_chat/mine",))) == ("ollama_chat/mine",)
    for name in ("nonsense", "a" * 201):
        with pytest.raises(ModelUnknown):
            chain(name, Models())


@pytest.mark.parametrize(
    "name",
    [
        "oobabooga/http://127.0.0.1:1/x",
        "huggingface/https://evil.example/x",
        "bedrock/anthropic.claude-sonnet-4-5",
        "custom/x",
        "ollama_chat//x",
        "ollama_chat/../x",
        "openai/http://127.0.0.1/x",
    ],
)
def test_a_caller_can_not_make_the_gateway_call_any_address_or_use_any_key(name: str) -> None:
    with pytest.raises(ModelUnknown):
        chain(name, Models(ollama_api_base="http://x", openai_api_base="http://y"))


def test_a_provider_that_the_settings_name_may_be_named_by_callers() -> None:
    settings = Models(standard=("gemini/gemini-2.5-pro",), providers=("groq",))
    assert chain("gemini/gemini-2.5-flash", settings) and chain("groq/llama-3.3-70b-versatile", settings)
    with pytest.raises(ModelUnknown, match="not in use here"):
        chain("anthropic/claude-x", settings)
