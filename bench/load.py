"""The load: turns against one A2A endpoint, their wall time, their first token, and whether all of the answer came."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

import aiohttp

from bench.scripted import TOKENS

_STAMP = re.compile(r"@(\d{6,})")
_WORDS = "".join(f"tok{n:02d} " for n in range(1, TOKENS))


@dataclass
class Figures:
    """What some turns took. Times are in milliseconds."""

    walls: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def p50(self) -> float:
        return median(self.walls) if self.walls else float("nan")

    @property
    def p95(self) -> float:
        return quantiles(self.walls, n=20)[18] if len(self.walls) > 1 else float("nan")

    @property
    def first(self) -> float:
        return median(self.firsts) if self.firsts else float("nan")

    @property
    def rate(self) -> float:
        return len(self.walls) / self.seconds if self.seconds else float("nan")


async def run(
    url: str, turns: int, at_once: int, headers: Sequence[Mapping[str, str]] = ({},), *, question: str = "look"
) -> Figures:
    """`turns` turns, never more than `at_once` at a time, each with the next of `headers`."""
    figures = Figures()
    given = itertools.cycle(headers)
    left = iter(range(turns))
    connector = aiohttp.TCPConnector(limit=at_once)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as http:

        async def worker() -> None:
            for _ in left:
                await _turn(http, url, given, question, figures)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        figures.seconds = time.perf_counter() - began
    return figures


async def _turn(
    http: aiohttp.ClientSession, url: str, headers: Iterator[Mapping[str, str]], question: str, figures: Figures
) -> None:
    message = {"role": "ROLE_USER", "messageId": uuid.uuid4().hex, "parts": [{"text": question}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}}
    said, state, stamped = "", "", False
    began = time.perf_counter()
    try:
        async with http.post(url, json=body, headers={"A2A-Version": "1.0", **next(headers)}) as response:
            async for raw in response.content:
                if not raw.startswith(b"data:"):
                    continue
                result = json.loads(raw[5:]).get("result", {})
                if update := result.get("artifactUpdate"):
                    text = "".join(p.get("text", "") for p in update["artifact"]["parts"])
                    if not stamped and (found := _STAMP.search(text)):
                        figures.firsts.append((time.monotonic_ns() - int(found.group(1))) / 1e6)
                        stamped = True
                    said += text
                elif update := result.get("statusUpdate"):
                    state = update["status"]["state"]
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        figures.errors.append(f"{type(error).__name__}: {error}")
        return
    if state != "TASK_STATE_COMPLETED" or not said.endswith(_WORDS):
        figures.errors.append(f"ended {state or 'nowhere'} with {said[-60:]!r}")
        return
    figures.walls.append((time.perf_counter() - began) * 1000)
