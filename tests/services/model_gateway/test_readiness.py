"""The gateway is ready when the providers behind its tiers answer, and asks nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opswarm.settings import Models
from services.model_gateway.app import create_app
from tests.support.hosting import free_port, serving, settings_at


class Provider:
    """Answers every GET with one status, and keeps the paths."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.paths: list[str] = []

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        return Response(status_code=self.status)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.answer)])


async def ready(home: Path, **models: Any) -> tuple[int, str]:
    settings = settings_at(home).updated({"models": Models(**models)})
    async with serving(create_app(settings).app()) as url, httpx.AsyncClient(timeout=10) as http:
        answer = await http.get(f"{url}/readyz")
    return answer.status_code, answer.json()["checks"]["models"]


@pytest.mark.parametrize("status", [200, 404])
async def test_an_ollama_behind_a_tier_is_asked_for_its_version(tmp_path: Path, status: int) -> None:
    provider = Provider(status)
    async with serving(provider.app()) as base:
        assert await ready(tmp_path, ollama_api_base=f"{base}/") == (200, "ok")
    assert provider.paths == ["/api/version"]


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_any_answer_of_an_openai_endpoint_is_a_sign_of_life(tmp_path: Path, status: int) -> None:
    provider = Provider(status)
    async with serving(provider.app()) as base:
        assert await ready(tmp_path, standard="openai/llama", openai_api_base=f"{base}/v1") == (200, "ok")
    assert provider.paths == ["/v1/models"]


async def test_a_provider_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    status, told = await ready(tmp_path, ollama_api_base=gone, standard="openai/x", openai_api_base=f"{gone}/v1")
    assert status == 503
    assert f"Ollama does not answer at {gone}. Start it with `ollama serve`" in told
    assert f"The openai API does not answer at {gone}/v1. Start it, or correct models.openai_api_base." in told


async def test_a_proxy_with_no_ollama_behind_it_is_told(tmp_path: Path) -> None:
    async with serving(Provider(502).app()) as base:
        status, told = await ready(tmp_path, ollama_api_base=base)
    assert status == 503 and "answers HTTP 502" in told


async def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    status, told = await ready(tmp_path, ollama_api_base="http://[oops")
    assert status == 503 and "models.ollama_api_base" in told


async def test_a_provider_that_accepts_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        status, told = await ready(tmp_path, ollama_api_base=f"http://127.0.0.1:{port}")
    assert status == 503 and "Ollama does not answer" in told


async def test_nobody_is_asked_for_the_playbook_or_for_a_public_api(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    assert await ready(tmp_path) == (200, "ok")
    assert await ready(tmp_path, anthropic_api_key="sk-x", openai_api_base=gone) == (200, "ok")
    every = dict.fromkeys(("fast", "standard", "deep"), "offline/playbook")
    assert await ready(tmp_path, ollama_api_base=gone, **every) == (200, "ok")


async def test_an_anthropic_address_of_ones_own_is_asked(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    status, told = await ready(tmp_path, anthropic_api_key="sk-x", anthropic_api_base=gone)
    assert status == 503 and f"The anthropic API does not answer at {gone}" in told


async def test_a_key_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    status, told = await ready(tmp_path, anthropic_api_key_file=tmp_path / "no-key")
    assert status == 503 and "no-key can't be read" in told
