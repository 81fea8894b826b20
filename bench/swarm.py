"""The same turn with more of the swarm in its way: our gateway before the model, our orchestrator before the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.gateway import gateway as gateway_peer
from bench.processes import Child, child, free_port
from bench.turn import PEER_CORE, Headers, Row, World, peer, row, tokens
from opswarm.guard.keys import make_person_token
from opswarm.settings import load


@contextmanager
def _service(name: str, home: Path, port: int, environment: dict[str, str]) -> Iterator[Child]:
    arguments = ["-m", "opswarm.cli.main", "serve", name, "--port", str(port)]
    given = {"OPSWARM_HOME": str(home), "OPSWARM_LOG__LEVEL": "WARNING"}
    with child(arguments, port, core=PEER_CORE, environment={**given, **environment}, quiet=True) as made:
        yield made


def rows(at: World, turns: int) -> list[Row]:
    """Rows with the orchestrator, the gateway, and both of them in the path. CPU and memory are of all parts."""
    found = []
    for name, gateway, front in (("orchestrator", False, True), ("gateway", True, False), ("both", True, True)):
        home = at.folder / f"behind-{name}"
        with ExitStack() as stack:
            parts: list[Child] = []
            model = at.model
            if gateway:
                parts.append(stack.enter_context(gateway_peer(home, at)))
                model = parts[0].url
            headers: Headers = tokens(home)
            parts.insert(0, stack.enter_context(peer("ours", replace(at, model=model), home=home)))
            if front:
                headers = [{"Authorization": f"Bearer {make_person_token(load(home=home))}"}]
                addresses = json.dumps({"devops": parts[0].url, "gateway": model})
                environment = {"OPSWARM_ADDRESSES": addresses}
                parts.insert(0, stack.enter_context(_service("orchestrator", home, free_port(), environment)))
            # LiteLLM takes its time: fewer turns say as much.
            count = turns // 4 if gateway else turns
            found.append(asyncio.run(row(f"ours + {name}", parts[0].url, parts, headers, max(20, count))))
    return found
