"""The same turn with more of the swarm in its way: our gateway before the model, our orchestrator before the agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.processes import Child, child, free_port
from bench.turn import PEER_CORE, Headers, Row, World, peer, row, tokens
from opswarm.guard.keys import make_person_token
from opswarm.settings import load


@contextmanager
def _service(name: str, home: Path, port: int, environment: dict[str, str]) -> Iterator[Child]:
    arguments = ["-m", "opswarm.cli.main", "serve", name, "--port", str(port)]
    given = {"OPSWARM_HOME": str(home), "OPSWARM_LOG__LEVEL": "WARNING", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with child(arguments, port, core=PEER_CORE, environment={**given, **environment}, quiet=True) as made:
        yield made


@contextmanager
def _gateway(home: Path, at: World) -> Iterator[Child]:
    models = {
        "OPSWARM_MODELS__STANDARD": "openai/scripted",
        "OPSWARM_MODELS__OPENAI_API_BASE": f"{at.model}/v1",
        "OPSWARM_MODELS__OPENAI_API_KEY": "bench-has-no-key",
    }
    with _service("gateway", home, free_port(), models) as made:
        yield made


def rows(at: World, turns: int) -> list[Row]:
    """A row with the gateway in the path, and one with the orchestrator as well. CPU and memory are of all parts."""
    home = at.folder / "swarm"
    port = free_port()
    agent_url = f"http://127.0.0.1:{port}"
    headers: Headers = tokens(home)
    found = []
    with (
        _gateway(home, at) as gateway,
        peer("ours", replace(at, model=gateway.url), home=home, port=port) as agent,
    ):
        found.append(asyncio.run(row("ours + gateway", agent.url, [agent, gateway], headers, turns)))
        person = {"Authorization": f"Bearer {make_person_token(load(home=home))}"}
        addresses = json.dumps({"devops": agent_url, "gateway": gateway.url})
        with _service("orchestrator", home, free_port(), {"OPSWARM_ADDRESSES": addresses}) as front:
            parts = [front, agent, gateway]
            found.append(asyncio.run(row("ours + gateway + orchestrator", front.url, parts, [person], turns)))
    return found
