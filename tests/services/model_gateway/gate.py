"""The gateway on loopback before a scripted provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from opswarm.fetch import Fetcher
from opswarm.guard.keys import signing_key
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_GATEWAY, SigningKey
from opswarm.models.chat import ChatRequest, Message, Piece, TextPiece, ToolSchema
from opswarm.models.client import GatewayClient
from opswarm.settings import Budgets, Models
from services.model_gateway.app import create_app
from tests.support.hosting import serving, settings_at
from tests.support.scripted_models import Reply, Script, anthropic

LITELLM_WARNS = [
    # LiteLLM's own code and its dependencies warn; what they warn of is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
KEY = "sk-ant-" + "q" * 40
TOOL = ToolSchema("diagnose", "Diagnose.", {"type": "object", "properties": {"name": {"type": "string"}}})


@dataclass
class Gate:
    client: GatewayClient
    http: httpx.AsyncClient
    fetch: Fetcher
    script: Script
    url: str
    key: SigningKey

    def as_agent(self, agent: str, task: str) -> GatewayClient:
        """The client of an agent that works on `task` for the same person."""
        acting = Principal(kind=Kind.PERSON, subject="person:ann", actors=(f"agent:{agent}",), task=task)
        token = self.key.mint(acting, [AUDIENCE_GATEWAY], seconds=600)
        return GatewayClient(self.url, self.fetch, lambda: token)

    async def ask(self, model: str, *, tools: tuple[ToolSchema, ...] = (), **more: Any) -> list[Piece]:
        request = ChatRequest((Message("user", "what is broken?"),), model=model, tools=tools, **more)
        return [p async for p in self.client.stream(request)]

    async def post(self, **body: Any) -> httpx.Response:
        """The answer to a request of an OpenAI client; a message and the playbook where none are given."""
        body = {"model": "offline/playbook", "messages": [{"role": "user", "content": "x"}], **body}
        return await self.http.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def gateway(tmp_path: Path, *replies: Reply, wire: Any = anthropic, **models: Any) -> AsyncIterator[Gate]:
    """A gateway whose Anthropic and Ollama are one scripted server that speaks `wire`."""
    script = Script(list(replies))
    async with gateway_to(tmp_path, wire(script), script, **models) as gate:
        yield gate


@asynccontextmanager
async def gateway_to(
    tmp_path: Path, provider: ASGIApp, script: Script | None = None, *, keep_alive: float = 15.0, **models: Any
) -> AsyncIterator[Gate]:
    """A gateway to which `provider` is every provider."""
    settings = settings_at(tmp_path)
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(provider))
        given = {
            "anthropic_api_key": KEY,
            "anthropic_api_base": base,
            "ollama_api_base": base,
            "openai_api_base": base,
            "timeout_seconds": 5,
        }
        limits = models.pop("budgets", Budgets())
        settings = settings.updated({"models": Models(**{**given, **models}), "budgets": limits})
        app = create_app(settings, keep_alive_seconds=keep_alive).app()
        url = await stack.enter_async_context(serving(app))
        person = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.OPERATOR}))
        key = signing_key(settings)
        token = key.mint(person, [AUDIENCE_GATEWAY], seconds=600)
        headers = {"Authorization": f"Bearer {token}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=20))
        fetch = await stack.enter_async_context(Fetcher())
        yield Gate(GatewayClient(url, fetch, lambda: token), http, fetch, script or Script([]), url, key)


def asking(model: str) -> ChatRequest:
    return ChatRequest((Message("user", "what is broken?"),), model=model)


def text(pieces: list[Piece]) -> str:
    return "".join(p.text for p in pieces if isinstance(p, TextPiece))
