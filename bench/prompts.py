"""What a model is made to read for the standard questions: prompt sizes, so that a regression is seen.

The whole swarm runs on the lab, with a model that reads, asks for one tool where it was offered any, and says "ok".
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from opswarm.agent.context import CHARACTERS_PER_TOKEN
from opswarm.cli import hosting
from opswarm.settings import Server

QUESTIONS = (
    "what is broken?",
    "is everything ok?",
    "why is sonarr not ready?",
    "how many pods run in the namespace media?",
    "show the nodes",
)
_START_SECONDS = 90.0
_ASK_SECONDS = 60.0


@dataclass
class Prompt:
    """One question: the model calls it cost, and the tokens (characters by four) of all prompts and of the largest."""

    question: str
    calls: int = 0
    tokens: int = 0
    largest: int = 0
    tools: int = 0


@dataclass
class _Model:
    prompts: list[Prompt] = field(default_factory=list)

    async def completions(self, request: Request) -> StreamingResponse:
        body = await request.json()
        size = len(json.dumps(body["messages"])) + len(json.dumps(body.get("tools", [])))
        prompt = self.prompts[-1]
        prompt.calls += 1
        prompt.tokens += size // CHARACTERS_PER_TOKEN
        prompt.largest = max(prompt.largest, size // CHARACTERS_PER_TOKEN)
        prompt.tools = len(json.dumps(body.get("tools", []))) // CHARACTERS_PER_TOKEN
        asks = bool(body.get("tools")) and not any(m["role"] == "tool" for m in body["messages"])
        return StreamingResponse(_reply(asks), media_type="text/event-stream")

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.completions, methods=["POST"])])


async def _reply(asks: bool) -> AsyncIterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    if asks:
        function = {"name": "namespaces_list", "arguments": "{}"}
        yield chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]})
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"content": "ok"})
        yield chunk({}, "stop")
    yield b"data: [DONE]\n\n"


def prompts(folder: Path) -> list[Prompt]:
    """Asks each question once, of a swarm of its own."""
    return asyncio.run(_asked(folder / "prompts"))


async def _asked(home: Path) -> list[Prompt]:
    model = _Model()
    listener = hosting.listen("127.0.0.1", 0)
    async with hosting.hosted(model.app(), listener, Server()):
        environment = {
            **os.environ,
            "OPSWARM_HOME": str(home),
            "OPSWARM_MODELS__FAST": "openai/bench",
            "OPSWARM_MODELS__STANDARD": "openai/bench",
            "OPSWARM_MODELS__OPENAI_API_BASE": f"{hosting.url_of(listener)}/v1",
            "OPSWARM_METRICS__PORT": "0",
            "OPSWARM_LAB__PORT": "0",
        }
        try:
            await _run(environment, _START_SECONDS, "up", "--port", "0", "--detach")
            for question in QUESTIONS:
                model.prompts.append(Prompt(question))
                await _run(environment, _ASK_SECONDS, "ask", question)
        finally:
            await _run(environment, _ASK_SECONDS, "down")
    return model.prompts


async def _run(environment: dict[str, str], seconds: float, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opswarm.cli.main", *words,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise SystemExit(f"opswarm {words[0]} took more than {seconds:.0f} s") from None
    if process.returncode:
        raise SystemExit(f"opswarm {' '.join(words)} ended with {process.returncode}: {said.decode()[-300:]}")


def lines(found: list[Prompt]) -> str:
    width = max(len(p.question) for p in found)
    rows = [
        f"  {p.question.ljust(width)}  {p.calls} model calls, {p.tokens} tokens in all, {p.largest} in the largest"
        f" ({p.tools} of them tool schemas)"
        for p in found
    ]
    return "\n".join(("What a model reads for the standard questions (characters by four):", *rows))
