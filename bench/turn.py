"""The turn: model → tool → model → 32 streamed tokens, at an agent and at the two baselines, in one run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import Figures, run
from bench.processes import Child, child, free_port
from opswarm.guard.exchange import Exchange
from opswarm.guard.keys import signing_key, verifier
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.service import WORK_HEADER
from opswarm.settings import load

PEER_CORE, HARNESS_CORE = 1, 0
AT_ONCE = (1, 16, 64)
_WARM = 40
_TOKENS = 400
"""Tokens made beforehand: each turn has its own, as a turn has in life, and none is cheaper for being known."""

Headers = Sequence[dict[str, str]]


@dataclass(frozen=True)
class World:
    """What peers work with: a model without latency, a tool server, and a folder."""

    model: str
    tool: str
    folder: Path


@dataclass
class Row:
    """The figures of one peer. `cpu` is milliseconds of its own CPU a turn, by turns at once; memory is in MB."""

    name: str
    idle_mb: float
    ready_seconds: float
    first_turn_ms: float = float("nan")
    figures: dict[int, Figures] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    after_mb: float = float("nan")

    @property
    def errors(self) -> list[str]:
        return [e for f in self.figures.values() for e in f.errors]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """The model and the tool server, beside the harness."""
    plain = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--port"]
    with ExitStack() as stack:
        found = []
        for name in ("scripted", "tools"):
            port = free_port()
            made = child([*plain, str(port), f"bench.{name}:app"], port, core=HARNESS_CORE)
            found.append(stack.enter_context(made).url)
        yield World(*found, folder)


def tokens(home: Path) -> Headers:
    """The headers that an orchestrator would send along with delegated requests."""
    settings = load(home=home)
    exchange = Exchange(signing_key(settings), verifier(settings), lambda: ("devops",))
    person = Principal(kind=Kind.PERSON, subject="person:bench", roles=frozenset({Role.VIEWER}))
    sent = [exchange.for_agent(person, "devops", f"bench-{n}") for n in range(_TOKENS)]
    return [{"Authorization": f"Bearer {s.door}", WORK_HEADER: s.work} for s in sent]


@contextmanager
def peer(name: str, at: World, *, home: Path | None = None, port: int = 0) -> Iterator[Child]:
    """One peer in its own process, on its own core."""
    port = port or free_port()
    arguments = ["-m", f"bench.peers.{name}", str(port), at.model, at.tool, str(home or at.folder / name)]
    with child(arguments, port, core=PEER_CORE) as made:
        yield made


def measured(name: str, at: World, turns: int) -> Row:
    """A peer's row."""
    headers: Headers = tokens(at.folder / name) if name == "ours" else [{}]
    with peer(name, at) as made:
        return asyncio.run(row(name, made.url, [made], headers, turns))


async def row(name: str, url: str, parts: Sequence[Child], headers: Headers, turns: int) -> Row:
    """The row of what listens at `url` and consists of `parts`."""
    await asyncio.sleep(0.5)
    found = Row(name, sum(p.rss_mb() for p in parts), max(p.ready_seconds for p in parts))
    first = await run(f"{url}/", 1, 1, headers)
    found.first_turn_ms = first.walls[0] if first.walls else float("nan")
    await run(f"{url}/", _WARM, 4, headers)
    for times, at_once in enumerate(AT_ONCE, 1):
        before = sum(p.cpu_ms() for p in parts)
        found.figures[at_once] = await run(f"{url}/", turns * times, at_once, headers)
        found.cpu[at_once] = (sum(p.cpu_ms() for p in parts) - before) / (turns * times)
    found.figures[1].errors += first.errors
    found.after_mb = sum(p.rss_mb() for p in parts)
    return found
