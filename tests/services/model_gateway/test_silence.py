"""A model that is silent: the client sees life, and the gateway ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import ModelUnreachable
from tests.services.model_gateway.gate import LITELLM_WARNS, gateway, gateway_to, text
from tests.support.hosting import until
from tests.support.scripted_models import Reply

pytestmark = LITELLM_WARNS


class Slow:
    """An Ollama that says one thing, then waits until it is released, then ends."""

    def __init__(self, *, first: bool = True) -> None:
        self.release = asyncio.Event()
        self.closed = asyncio.Event()
        self._first = first

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/api/chat", self._chat, methods=["POST"])])

    async def _chat(self, request: Request) -> Response:
        return StreamingResponse(self._lines(), media_type="application/x-ndjson")

    async def _lines(self) -> AsyncIterator[bytes]:
        def line(said: str, **more: object) -> bytes:
            message = {"role": "assistant", "content": said}
            return json.dumps({"model": "q", "message": message, "done": False, **more}).encode() + b"\n"

        try:
            if self._first:
                yield line("well, ")
            await self.release.wait()
            yield line("that took long")
            yield line("", done=True, done_reason="stop", prompt_eval_count=1, eval_count=1)
        finally:
            self.closed.set()


@pytest.mark.parametrize("first", [True, False])
async def test_a_stream_tells_that_it_is_alive_while_the_model_is_silent(tmp_path: Path, first: bool) -> None:
    slow = Slow(first=first)
    body = {"model": "ollama_chat/q", "messages": [{"role": "user", "content": "x"}], "stream": True}
    lines = []
    async with (
        gateway_to(tmp_path, slow.app(), keep_alive=0.05, timeout_seconds=30) as gate,
        gate.http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        async for line in response.aiter_lines():
            lines.append(line)
            if lines.count(": keep-alive") == 3:
                slow.release.set()
    assert lines.count(": keep-alive") >= 3
    said = [json.loads(x[6:])["choices"] for x in lines if x.startswith("data: {")]
    assert "".join(c[0]["delta"].get("content") or "" for c in said if c).endswith("that took long")
    assert [x for x in lines if x][-1] == "data: [DONE]"


async def test_our_client_hears_only_the_reply(tmp_path: Path) -> None:
    slow = Slow()
    async with gateway_to(tmp_path, slow.app(), keep_alive=0.05, timeout_seconds=30) as gate:
        asking = asyncio.create_task(gate.ask("ollama_chat/q"))
        await asyncio.wait((asking,), timeout=0.5)
        slow.release.set()
        assert text(await asking) == "well, that took long"


@pytest.mark.parametrize("first", [True, False])
async def test_the_gateway_ends_the_silence_whatever_it_told_meanwhile(tmp_path: Path, first: bool) -> None:
    slow = Slow(first=first)
    async with gateway_to(tmp_path, slow.app(), keep_alive=0.1, timeout_seconds=1) as gate:
        with pytest.raises(ModelUnreachable, match="silent for 1 s"):
            await gate.ask("ollama_chat/q")
        await asyncio.wait_for(slow.closed.wait(), 10)


async def test_a_client_that_leaves_ends_the_call_of_the_model(tmp_path: Path) -> None:
    slow = Slow()
    async with gateway_to(tmp_path, slow.app(), keep_alive=0.1, timeout_seconds=60) as gate:
        asking = asyncio.create_task(gate.ask("ollama_chat/q"))
        await asyncio.wait((asking,), timeout=0.5)
        asking.cancel()
        await asyncio.wait_for(slow.closed.wait(), 10)


def _called(model: str) -> float:
    found = [m for m in REGISTRY.collect() if m.name == "opswarm_model_calls"]
    return sum(
        s.value
        for m in found
        for s in m.samples
        if s.name.endswith("_total") and s.labels["model"] == model
    )  # fmt: skip


async def test_only_models_of_tiers_are_named_in_the_metrics(tmp_path: Path) -> None:
    others = _called("other")
    async with gateway(tmp_path, Reply(text=("x",)), standard="anthropic/claude-mine") as gate:
        for model in ("standard", "anthropic/made-up-1", "anthropic/made-up-2", "offline/playbook"):
            assert (await gate.post(model=model)).status_code == 200
        await until(lambda: _called("other") == others + 2)
    assert _called("anthropic/claude-mine") == 1 and _called("offline/playbook") >= 1
    assert _called("anthropic/made-up-1") == 0
