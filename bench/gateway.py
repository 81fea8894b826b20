"""What the model gateway adds to LiteLLM on each wire, and what many streams at once weigh."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from bench.processes import Child, child, free_port
from bench.scripted import SLOW, TOKENS
from bench.tables import aligned
from bench.turn import PEER_CORE, World
from opswarm.guard.keys import make_person_token
from opswarm.settings import load

WIRES = {"OpenAI": ("openai", "/v1"), "Ollama": ("ollama_chat", ""), "Anthropic": ("anthropic", "")}
"""LiteLLM's name of each wire's provider, and where below the scripted server it is."""

_WORD = re.compile(rb"tok\d\d ")
_STREAMS = 64
_ROUNDS = 6
_WARM = 20
_HELD_SECONDS = 0.5
_TOKENS = 200


@dataclass(frozen=True)
class Wire:
    """Milliseconds of a streamed completion of 32 tokens, the median, and of the CPU of the process it went through."""

    name: str
    direct_ms: float
    gateway_ms: float
    direct_cpu: float
    gateway_cpu: float


@dataclass(frozen=True)
class Streams:
    """Memory in MB with many streams: before, while all were open, after them, and after some rounds more."""

    lost: int
    before: float
    during: float
    after: float
    later: float


def report(at: World, calls: int) -> str:
    """The figures as text."""
    found, streams = measured(at, calls)
    lines = [["one completion", "LiteLLM p50 ms", "gateway p50 ms", "added", "LiteLLM CPU ms", "gateway CPU ms"]]
    for w in found:
        added = f"{w.gateway_ms - w.direct_ms:+.1f} ({w.gateway_ms / w.direct_ms:.2f}x)"
        figures = (f"{w.direct_ms:.1f}", f"{w.gateway_ms:.1f}", added, f"{w.direct_cpu:.1f}", f"{w.gateway_cpu:.1f}")
        lines.append([w.name, *figures])
    each = (streams.during - streams.before) * 1000 / _STREAMS
    told = (
        f"{_STREAMS} streams at once through the gateway: {streams.lost} lost; {streams.before:.0f} MB before, "
        f"{streams.during:.0f} MB with all open ({each:.0f} kB each), {streams.after:.0f} MB after, "
        f"{streams.later:.0f} MB after {_ROUNDS} rounds more."
    )
    return f"{aligned(lines)}\n\n{told}"


def measured(at: World, calls: int) -> tuple[list[Wire], Streams]:
    """Each wire directly, then through one gateway; then the streams."""
    direct = {name: _direct(at, name, calls) for name in WIRES}
    home = at.folder / "gateway"
    settings = load(home=home)
    headers = [{"Authorization": f"Bearer {make_person_token(settings)}"} for _ in range(_TOKENS)]
    with gateway(home, at) as made:
        wires = []
        for name, (provider, _) in WIRES.items():
            asyncio.run(_calls(made.url, f"{provider}/scripted", _WARM, headers))
            cpu = made.cpu_ms()
            walls = asyncio.run(_calls(made.url, f"{provider}/scripted", calls, headers))
            used = (made.cpu_ms() - cpu) / calls
            wires.append(Wire(name, direct[name]["p50"], median(walls), direct[name]["cpu"], used))
        return wires, asyncio.run(_streams(made, headers))


@contextmanager
def gateway(home: Path, at: World) -> Iterator[Child]:
    """The gateway as its pod runs it, each wire's provider being the scripted server."""
    port = free_port()
    environment = {
        "OPSWARM_HOME": str(home),
        "OPSWARM_LOG__LEVEL": "WARNING",
        "OPSWARM_MODELS__STANDARD": "openai/scripted",
        "OPSWARM_MODELS__OPENAI_API_BASE": f"{at.model}/v1",
        "OPSWARM_MODELS__OPENAI_API_KEY": "bench-has-no-key",
        "OPSWARM_MODELS__ANTHROPIC_API_BASE": at.model,
        "OPSWARM_MODELS__ANTHROPIC_API_KEY": "bench-has-no-key",
        "OPSWARM_MODELS__OLLAMA_API_BASE": at.model,
    }
    arguments = ["-m", "opswarm.cli.main", "serve", "gateway", "--port", str(port)]
    with child(arguments, port, core=PEER_CORE, environment=environment, quiet=True) as made:
        yield made


def _direct(at: World, wire: str, calls: int) -> dict[str, float]:
    provider, path = WIRES[wire]
    arguments = [sys.executable, "-m", "bench.peers.litellm", str(calls), f"{provider}/scripted", f"{at.model}{path}"]
    cores = list(range(os.cpu_count() or 1))
    ran = subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores[PEER_CORE % len(cores)]}),
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


async def _calls(url: str, model: str, calls: int, headers: Sequence[dict[str, str]]) -> list[float]:
    """Milliseconds of each of `calls` completions, one after the other."""
    given = itertools.cycle(headers)
    async with aiohttp.ClientSession() as http:
        return [await _completion(http, url, model, next(given)) for _ in range(calls)]


async def _completion(http: aiohttp.ClientSession, url: str, model: str, headers: dict[str, str]) -> float:
    """Milliseconds of one streamed completion. Raises `ValueError` where not all of it came."""
    messages = [{"role": "user", "content": "look"}]
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, "messages": messages}
    came = b""
    began = time.perf_counter()
    async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        async for data in response.content.iter_any():
            came += data
    took = (time.perf_counter() - began) * 1000
    if len(_WORD.findall(came)) != TOKENS - 1 or not came.endswith(b"data: [DONE]\n\n"):
        raise ValueError(f"{model} ended with {came[-200:]!r}")
    return took


async def _streams(made: Child, headers: Sequence[dict[str, str]]) -> Streams:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def all_at_once(model: str) -> int:
            asked = (_completion(http, made.url, model, headers[n]) for n in range(_STREAMS))
            return sum(1 for r in await asyncio.gather(*asked, return_exceptions=True) if isinstance(r, Exception))

        before = made.rss_mb()
        open_ones = asyncio.create_task(all_at_once(f"openai/{SLOW}"))
        await asyncio.sleep(_HELD_SECONDS)
        during = made.rss_mb()
        lost = await open_ones
        after = made.rss_mb()
        for _ in range(_ROUNDS):
            lost += await all_at_once("openai/scripted")
        return Streams(lost, before, during, after, made.rss_mb())
