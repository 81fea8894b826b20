"""What a service weighs: memory while nobody asks, and the time until it answers; as pods run them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import run
from bench.processes import child, free_port
from bench.turn import PEER_CORE, World, peer, tokens

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: bench
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
clusters: [{name: bench, cluster: {server: "SERVER"}}]
users: [{name: bench, user: {}}]
"""
_WHOLE = "the whole swarm in one process, playbook only, lab included"
_SERVICES = {
    _WHOLE: ("up",),
    "devops agent": ("serve", "devops"),
    "orchestrator": ("serve", "orchestrator"),
    "kubernetes tool server": ("mcp", "kubernetes", "--http"),
}
_REST_SECONDS = 1.0


@dataclass(frozen=True)
class Size:
    name: str
    idle_mb: float
    ready_seconds: float


def kubeconfig_of(server: str) -> str:
    """A kubeconfig for an API server that asks for no proof."""
    return _KUBECONFIG.replace("SERVER", server)


def sizes(folder: Path) -> list[Size]:
    """One after the other, so that none takes another's CPU while it starts."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of("http://127.0.0.1:9"))
    home = {"OPSWARM_HOME": str(folder / "sizes"), "OPSWARM_METRICS__PORT": "0", "OPSWARM_LAB__PORT": "0"}
    cluster = {"OPSWARM_KUBERNETES__KUBECONFIG": str(kubeconfig)}
    found = []
    for name, words in _SERVICES.items():
        environment = home if name == _WHOLE else {**home, **cluster}
        port = free_port()
        arguments = ["-m", "opswarm.cli.main", *words, "--port", str(port)]
        with child(arguments, port, core=PEER_CORE, environment=environment, quiet=True) as made:
            time.sleep(_REST_SECONDS)
            found.append(Size(name, made.rss_mb(), made.ready_seconds))
    return found


def growth(at: World, turns: int) -> tuple[float, float]:
    """An agent's memory in MB, after a hundred turns and after `turns` more."""
    home = at.folder / "growth"
    headers = tokens(home)
    with peer("ours", at, home=home) as made:
        asyncio.run(run(f"{made.url}/", 100, 4, headers))
        before = made.rss_mb()
        asyncio.run(run(f"{made.url}/", turns, 4, headers))
        return before, made.rss_mb()
