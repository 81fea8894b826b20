"""What `diagnose` and a list cost on 5,000 pods of 500 workloads: seconds, and what a model is made to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cluster import BROKEN
from bench.processes import child, free_port
from bench.size import kubeconfig_of
from bench.turn import HARNESS_CORE, PEER_CORE
from opswarm.agent.context import CHARACTERS_PER_TOKEN
from opswarm.guard.keys import mint_person, signing_key
from opswarm.guard.principal import Role
from opswarm.guard.tokens import AUDIENCE_TOOLS
from opswarm.mcp.client import ToolServerClient, bearer
from opswarm.settings import load


@dataclass(frozen=True)
class Large:
    """Figures on the large cluster. Tokens are characters by four."""

    diagnose_seconds: float
    diagnose_tokens: int
    found: int
    list_bytes: int
    list_says: str
    memory_mb: float


def large(folder: Path) -> Large:
    port = free_port()
    plain = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--port", str(port), "bench.cluster:app"]
    with child(plain, port, core=HARNESS_CORE) as cluster:
        kubeconfig = folder / "large-kubeconfig"
        kubeconfig.write_text(kubeconfig_of(cluster.url))
        home = folder / "large"
        settings = load(home=home)
        signing_key(settings)
        token = mint_person(settings, subject="bench", roles=(Role.VIEWER,), audience=AUDIENCE_TOOLS)
        environment = {"OPSWARM_HOME": str(home), "OPSWARM_KUBERNETES__KUBECONFIG": str(kubeconfig)}
        at = free_port()
        arguments = ["-m", "opswarm.cli.main", "mcp", "kubernetes", "--http", "--port", str(at)]
        with child(arguments, at, core=PEER_CORE, environment=environment, quiet=True) as tools:
            return asyncio.run(_measured(tools.url, token, tools.rss_mb))


async def _measured(url: str, token: str, memory: Callable[[], float]) -> Large:
    bearer.set(lambda: token)
    client = ToolServerClient("kubernetes", url)
    try:
        await client.schemas()
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            result = await client.call("diagnose", {}, read_only=True)
            seconds.append(time.perf_counter() - began)
            if not result.ok:
                raise SystemExit(f"diagnose failed: {result.text[:300]}")
        listed = await client.call("pods_list", {"limit": 500}, read_only=True)
        found = len((result.data or {}).get("findings", ()))
        return Large(
            sorted(seconds)[1],
            len(result.text) // CHARACTERS_PER_TOKEN,
            found,
            len(listed.text.encode()),
            listed.text.splitlines()[-1],
            memory(),
        )
    finally:
        await client.aclose()


def lines(figures: Large) -> str:
    return "\n".join(
        (
            "5,000 pods of 500 workloads:",
            f"  diagnose: {figures.diagnose_seconds:.2f} s, {figures.diagnose_tokens} tokens; {figures.found} findings"
            f" of {BROKEN} broken workloads; the server then has {figures.memory_mb:.0f} MB",
            f"  pods_list with limit 500: {figures.list_bytes} bytes; it ends: {figures.list_says}",
        )
    )
