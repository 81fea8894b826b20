"""The turn: model → tool → model → 32 streamed tokens, at an agent and at the two baselines, in one run."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.load import Figures, run
from bench.processes import Child, child, free_port
from opswarm.guard.exchange import Exchange
from opswarm.guard.keys import signing_key, verifier
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.service import WORK_HEADER
from opswarm.settings import load

_PEER_CORE, _HARNESS_CORE = 1, 0
_WARM = 40


@dataclass(frozen=True)
class Row:
    """One peer's figures. `cpu` is milliseconds of its own CPU a turn; memory is in MB."""

    name: str
    cpu: float
    one: Figures
    sixteen: Figures
    sixty_four: Figures
    idle_mb: float
    after_mb: float
    ready_seconds: float
    first_turn_ms: float

    @property
    def errors(self) -> list[str]:
        return [*self.one.errors, *self.sixteen.errors, *self.sixty_four.errors]


def tokens(home: Path) -> dict[str, str]:
    """The headers that an orchestrator would send along with a delegated request."""
    settings = load(home=home)
    exchange = Exchange(signing_key(settings), verifier(settings), lambda: ("devops",))
    person = Principal(kind=Kind.PERSON, subject="person:bench", roles=frozenset({Role.VIEWER}))
    sent = exchange.for_agent(person, "devops", "bench")
    return {"Authorization": f"Bearer {sent.door}", WORK_HEADER: sent.work}


def measure(names: tuple[str, ...], turns: int) -> list[Row]:
    """A row for each peer, against one scripted model and one tool server."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model_port, tool_port = free_port(), free_port()
        plain = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--port"]
        with (
            child([*plain, str(model_port), "bench.scripted:app"], model_port, core=_HARNESS_CORE) as model,
            child([*plain, str(tool_port), "bench.tools:app"], tool_port, core=_HARNESS_CORE) as tool,
        ):
            for name in names:
                port = free_port()
                home = Path(folder) / name
                headers = tokens(home) if name == "ours" else {}
                arguments = ["-m", f"bench.peers.{name}", str(port), model.url, tool.url, str(home)]
                with child(arguments, port, core=_PEER_CORE) as peer:
                    rows.append(asyncio.run(_row(name, peer, headers, turns)))
    return rows


async def _row(name: str, peer: Child, headers: dict[str, str], turns: int) -> Row:
    await asyncio.sleep(0.5)
    idle = peer.rss_mb()
    url = f"{peer.url}/"
    first = await run(url, 1, 1, headers)
    await run(url, _WARM, 4, headers)
    before = peer.cpu_ms()
    one = await run(url, turns, 1, headers)
    cpu = (peer.cpu_ms() - before) / turns
    sixteen = await run(url, turns * 2, 16, headers)
    sixty_four = await run(url, turns * 3, 64, headers)
    one.errors += first.errors
    return Row(
        name,
        cpu,
        one,
        sixteen,
        sixty_four,
        idle,
        peer.rss_mb(),
        peer.ready_seconds,
        first.walls[0] if first.walls else 0,
    )


def table(rows: list[Row]) -> str:
    """The rows, each with its ratio to the SDK floor of the same run."""
    floor = next((r for r in rows if r.name == "floor"), rows[0])
    head = ("", "CPU ms/turn", "p50 ms @1", "first token ms", "turns/s @16", "turns/s @64", "p95 ms @64", "idle MB",
            "ready s", "first turn ms", "errors")  # fmt: skip
    lines = [head]
    for r in rows:
        lines.append((
            r.name, f"{r.cpu:.1f} ({r.cpu / floor.cpu:.2f}x)", f"{r.one.p50:.1f} ({r.one.p50 / floor.one.p50:.2f}x)",
            f"{r.one.first:.1f}", f"{r.sixteen.rate:.0f} ({r.sixteen.rate / floor.sixteen.rate:.2f}x)",
            f"{r.sixty_four.rate:.0f} ({r.sixty_four.rate / floor.sixty_four.rate:.2f}x)", f"{r.sixty_four.p95:.0f}",
            f"{r.idle_mb:.0f}", f"{r.ready_seconds:.1f}", f"{r.first_turn_ms:.0f}", str(len(r.errors)),
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown += [f"{r.name}: {e}" for r in rows for e in r.errors[:3]]
    return "\n".join(shown)
