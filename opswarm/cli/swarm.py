"""`opswarm up`: the whole swarm in one process, real HTTP between its parts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from opswarm.cli import hosting, registry, running
from opswarm.cli.lab import start as start_lab
from opswarm.cli.running import Row, Running
from opswarm.errors import OpswarmError, Unavailable
from opswarm.guard.keys import make_person_token, private_folder, write_private
from opswarm.settings import Settings

Say = Callable[[str], None]

_PREFIX = {"orchestrator": "", "gateway": "/gateway"}
_BESIDE_A_LAB = ("github", "loki", "prometheus")
_ACTING_ON_A_LAB = ("flux", "github", "kubernetes", "prometheus")
_READY_SECONDS = 20.0
_STOP_SECONDS = 4.5
_FORCED = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """What to look at: the lab with its scenarios, or the cluster of a kubeconfig."""

    lab: bool
    scenarios: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _World:
    """What the swarm looks at: the settings for it, what to call it, and the tool servers that ask the lab (None where
    there is no lab)."""

    settings: Settings
    cluster: str
    of_the_lab: frozenset[str] | None = None

    def has_use_for(self, tool_server: str) -> bool:
        return self.of_the_lab is None or tool_server not in _BESIDE_A_LAB or tool_server in self.of_the_lab


def prefix(name: str, group: str) -> str:
    """Where a service is mounted in the one-process swarm."""
    if group == registry.TOOL_SERVERS:
        return f"/tools/{name}"
    return _PREFIX.get(name, f"/agents/{name}")


@asynccontextmanager
async def swarm(settings: Settings, choice: Choice, say: Say) -> AsyncIterator[Running]:
    """The swarm, up and ready. Raises `OpswarmError` with one sentence when it can't be."""
    async with AsyncExitStack() as stack:
        listener = hosting.listen(settings.server.host, settings.server.port)
        stack.callback(listener.close)
        base = hosting.url_of(listener)
        world = _World(settings, f"context {settings.kubernetes.context or '(current)'}")
        if choice.lab:
            world = await stack.enter_async_context(_lab(settings, choice.scenarios, say))
        settings = _wired(world.settings, base)
        token = make_person_token(settings)
        apps = await _apps(stack, settings, world, say)
        metrics = await stack.enter_async_context(hosting.metrics_hosted(settings.metrics, settings.server))
        front = hosting.mounted(apps, settings.server.stop_seconds)
        await stack.enter_async_context(hosting.hosted(front, listener, settings.server))
        say(f"listening on {base}")
        states = await _ready(base, apps)
        if (trouble := states.get(prefix("kubernetes", registry.TOOL_SERVERS), "ready")) != "ready":
            raise Unavailable(f"The cluster can't be used. {trouble}")
        models = await _models(f"{base}{prefix('gateway', registry.SERVICES)}", token)
        rows = _rows(base, apps, states, world, models)
        if metrics:
            rows.append(Row("metrics", metrics, "-", "ready"))
        found = Running(os.getpid(), base, world.cluster, tuple(rows))
        running.write(settings, found)
        stack.callback(running.clear, settings)
        yield found


def _wired(settings: Settings, base: str) -> Settings:
    """The settings with every address pointing into this process."""
    addresses = dict(settings.addresses)
    for group in (registry.SERVICES, registry.TOOL_SERVERS):
        for name in registry.names(group):
            addresses[name] = f"{base}{prefix(name, group)}"
    return settings.updated({"addresses": addresses})


@asynccontextmanager
async def _lab(settings: Settings, scenarios: Sequence[str], say: Say) -> AsyncIterator[_World]:
    lab = await start_lab(settings, scenarios, settings.lab.port)
    try:
        path = settings.home / "lab" / "kubeconfig"
        write_private(path, lab.kubeconfig().encode())
        shown = ", ".join(scenarios) or "none, all is well"
        say(f"lab cluster at {lab.url} (scenarios: {shown}); kubectl --kubeconfig {path}")
        for told in lab.missing:
            say(told)
        yield _World(_on_the_lab(settings, path, lab.settings), f"lab ({shown})", frozenset(lab.settings))
    finally:
        await lab.stop()


def _on_the_lab(settings: Settings, kubeconfig: Path, beside: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Nothing but the lab is asked: what the person has configured of their own is left out, so that what agents try
    out here reaches nothing that is real."""
    cluster = settings.kubernetes.model_copy(update={"kubeconfig": kubeconfig, "context": None, "in_cluster": False})
    found: dict[str, Any] = {"kubernetes": cluster}
    for name in _BESIDE_A_LAB:
        found[name] = type(getattr(settings, name)).model_validate(beside.get(name, {}))
    if "servers" not in settings.actions.model_fields_set:
        # It is nobody's cluster: what agents do to it is asked about all the same.
        found["actions"] = settings.actions.model_copy(update={"servers": _ACTING_ON_A_LAB})
    return settings.updated(found)


async def _apps(stack: AsyncExitStack, settings: Settings, world: _World, say: Say) -> dict[str, Starlette]:
    from opswarm.mcp.serving import http_service  # Here, as an agent alone has no use for it.

    apps: dict[str, Starlette] = {}
    for name in filter(world.has_use_for, registry.tool_servers(settings)):
        service = await stack.enter_async_context(http_service(registry.tool_server(name), settings))
        apps[prefix(name, registry.TOOL_SERVERS)] = service.app()
        say(f"tool server {name}")
    for name in registry.names(registry.SERVICES):
        apps[prefix(name, registry.SERVICES)] = registry.service_factory(name)(settings).app()
        say(f"service {name}")
    return apps


async def _ready(base: str, apps: Mapping[str, Starlette]) -> dict[str, str]:
    """The state of each service once all are ready, or when the wait is over."""
    until = asyncio.get_running_loop().time() + _READY_SECONDS
    async with httpx.AsyncClient(timeout=6, trust_env=False) as http:
        while True:
            results = await asyncio.gather(*(_state(http, f"{base}{p}") for p in apps))
            states = dict(zip(apps, results, strict=True))
            hopeless = any("Kubernetes API" in s and "not ready" in s for s in results)
            over = asyncio.get_running_loop().time() > until
            if all(s == "ready" for s in results) or hopeless or over:
                return states
            await asyncio.sleep(0.1)


async def _state(http: httpx.AsyncClient, url: str) -> str:
    try:
        body: Any = (await http.get(f"{url}/readyz")).json()
    except (httpx.HTTPError, ValueError):
        return "not ready: it does not answer"
    if body.get("status") == "ready":
        return "ready"
    bad = "; ".join(f"{k}: {v}" for k, v in body.get("checks", {}).items() if v != "ok")
    return f"not ready: {bad}"


async def _models(gateway: str, token: str) -> dict[str, str]:
    """What stands behind each tier. The gateway owns the rule, so it is asked."""
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            answer = await http.get(f"{gateway}/v1/models", headers={"Authorization": f"Bearer {token}"})
        return {str(m["id"]): str(m["root"]) for m in answer.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Unavailable("The model gateway does not say which models there are.", hint="Its log says why.") from error


def _rows(
    base: str,
    apps: Mapping[str, Starlette],
    states: Mapping[str, str],
    world: _World,
    models: Mapping[str, str],
) -> list[Row]:
    rows = []
    for at in sorted(apps, key=lambda p: (p != "", p)):
        name = at.rpartition("/")[2] or "orchestrator"
        behind = models.get("fast", "-") if not at else models.get("standard", "-")
        if at.startswith("/tools/"):
            behind = world.cluster if name in (*registry.READ_A_CLUSTER, *(world.of_the_lab or ())) else "-"
        elif at == prefix("gateway", registry.SERVICES):
            behind = ", ".join(sorted({m for t, m in models.items() if t in ("fast", "standard", "deep")}))
        rows.append(Row(name, f"{base}{at}", behind, states.get(at, "?")))
    return rows


async def until_stopped() -> None:
    """Waits for SIGINT or SIGTERM. From then on the process has a few seconds; a second signal takes them away."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopped.is_set():
            os._exit(_FORCED)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    await stopped.wait()
    last_resort = threading.Timer(_STOP_SECONDS, _cut_off)
    last_resort.daemon = True
    last_resort.start()


async def then_leave(work: Coroutine[Any, Any, None]) -> None:
    """Does the work and ends the process, which threads of libraries (a name lookup, an import) must not hold up."""
    await work
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _cut_off() -> None:
    """Not an error of the person's: a call into a library that can't be interrupted must not keep them waiting."""
    os.write(2, b"Some work did not end in time and was cut off.\n")
    os._exit(_FORCED)


def log_folder(settings: Settings) -> Path:
    return private_folder(settings.home / "log")


async def check_cluster(settings: Settings) -> None:
    """Raises `OpswarmError` with one sentence when the settings' cluster can't be used."""
    async with registry.tool_server("kubernetes")(settings) as provider:
        for check in provider.checks.values():
            try:
                async with asyncio.timeout(10):
                    await check()
            except TimeoutError:
                raise OpswarmError("The cluster's API server did not answer within 10 s.") from None
