"""Serves our tool servers on loopback and runs the public MCP conformance suite against them.

    python -m tests.conformance.run NODE SUITE

`NODE` is the program (22 or newer), `SUITE` the suite's JavaScript. The fixtures have to pass what each era requires;
each tool server what is asked of a server that has only tools. Exits 1 where something does not pass. The suite can't
send a token, so one is put on what it sends, on its way into our app: nothing is served without.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from lab.app import create_lab
from lab.beside import Beside
from lab.serve import host, serve
from opswarm.cli.registry import TOOL_SERVERS, tool_server
from opswarm.guard.keys import make_person_token, verifier
from opswarm.mcp.serving import http_service
from opswarm.settings import Settings
from tests.conformance.everything import everything

ERAS = ("2025-11-25", "2026-07-28")
_BOTH = ("tools-list", "resources-list", "prompts-list", "server-sse-multiple-streams", "dns-rebinding-protection")
DOMAIN = {
    "2025-11-25": ("server-initialize", "ping", *_BOTH, "server-session-lifecycle"),
    "2026-07-28": (*_BOTH, "caching", "http-header-validation"),
}
"""By era, what a server without prompts and resources can be asked."""

_SECONDS = 300.0


class WithToken:
    """An app that takes every call for one with this token, but for what says who it is itself."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {self._token}".encode())]}
        await self._app(scope, receive, send)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    running = await host(app)
    try:
        yield f"{running.url}/mcp"
    finally:
        await running.stop()


async def suite(node: str, script: str, url: str, *words: str) -> tuple[bool, str]:
    """Whether all passed, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        node, script, "server", "--url", url, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        return False, f"not done within {_SECONDS:.0f} s"
    return process.returncode == 0, out.decode(errors="replace")


async def main(node: str, script: str) -> int:
    faults = 0
    with tempfile.TemporaryDirectory(prefix="opswarm-conformance-") as folder:
        settings = Settings(home=Path(folder))
        token = make_person_token(settings)
        server = everything(verifier(settings))
        app = Starlette(routes=[Mount("/", app=server.http())], lifespan=lambda _: server.lifespan())
        async with served(WithToken(app, token)) as url:
            for era in ERAS:
                ok, out = await suite(node, script, url, "--requirements", era)
                faults += not ok
                print(f"everything {era}: {_score(out)} required scenarios pass", flush=True)
                print(out if not ok else "", end="", flush=True)
        async for name, url in _domain(Path(folder), token):
            for era, scenarios in DOMAIN.items():
                passed = []
                for one in scenarios:
                    ok, out = await suite(node, script, url, "--scenario", one, "--spec-version", era)
                    faults += not ok
                    passed.append(f"{one}{'' if ok else ' FAILS'}")
                    if not ok:
                        print(out, flush=True)
                print(f"{name} {era}: {', '.join(passed)}", flush=True)
    print("All pass." if not faults else f"{faults} do not pass.")
    return 1 if faults else 0


def _score(out: str) -> str:
    """How many of the scenarios that the era requires passed, by what the suite prints."""
    marks = dict(reversed(found) for found in re.findall(r"^([✓✗]) ([\w-]+): \d+ passed", out, re.MULTILINE))
    beside = re.findall(r"^  [✓✗] ([\w-]+) \(", out, re.MULTILINE)
    required = {name: mark for name, mark in marks.items() if name not in beside}
    return f"{sum(mark == '✓' for mark in required.values())} of {len(required)}"


async def _domain(folder: Path, token: str) -> AsyncIterator[tuple[str, str]]:
    """Each tool server by name, on the lab."""
    lab = create_lab(tick_seconds=0)
    async with await serve(lab) as running, Beside(lab, ("github", "loki")) as around:
        file = folder / "kubeconfig"
        file.write_text(running.kubeconfig())
        known: dict[str, Any] = {
            "home": folder, "kubernetes": {"kubeconfig": file}, "prometheus": {"url": "http://127.0.0.1:9"},
            **around.settings,
        }  # fmt: skip
        settings = Settings(**known)
        for entry in sorted(entry_points(group=TOOL_SERVERS), key=lambda one: one.name):
            opened = http_service(tool_server(entry.name), settings)
            async with opened as service, served(WithToken(service.app(), token)) as url:
                yield entry.name, url


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)  # What 2025 has and 2026 has not, on purpose.
    logging.disable(logging.WARNING)  # Of the bad hosts and states that the suite sends.
    sys.exit(asyncio.run(main(*sys.argv[1:])))
