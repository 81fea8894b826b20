"""One service, one tool server or the lab, by itself."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from opswarm.cli import hosting, lab, registry
from opswarm.cli.swarm import until_stopped
from opswarm.errors import SettingsInvalid, Unavailable
from opswarm.guard.keys import keep_person_token, token_path
from opswarm.guard.untrusted import clean
from opswarm.service import Service
from opswarm.settings import PORTS, Server, Settings
from opswarm.store.database import database
from opswarm.telemetry import configure_logging

_DATABASE_SECONDS = 10.0


def _server(settings: Settings, name: str, host: str | None, port: int | None) -> Server:
    """Where to listen: the flags, else the settings when they say it, else the service's own port."""
    said = "port" in settings.server.model_fields_set
    chosen = port if port is not None else settings.server.port if said else PORTS.get(name, 0)
    return settings.server.model_copy(update={"host": host or settings.server.host, "port": chosen})


async def _host(service: Service, listener: socket.socket, server: Server, settings: Settings) -> None:
    url = hosting.url_of(listener)
    metrics = settings.metrics
    if "port" not in metrics.model_fields_set:
        # Several services on one machine can't share the port that each has to itself in a pod.
        metrics = metrics.model_copy(update={"port": 0})
    async with (
        hosting.metrics_hosted(metrics, server) as metrics_url,
        hosting.hosted(service.app(), listener, server),
    ):
        typer.echo(f"{service.name} at {url}, metrics at {metrics_url or 'nowhere (off)'}", err=True)
        await until_stopped()


async def check_database(settings: Settings, name: str) -> None:
    """Opens and closes the database of a service, before anything else is started.

    Raises `OpswarmError` with one sentence when it can't be used.
    """
    store = database(settings.database(name))
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            await store.rows("SELECT 1", {})
    except (TimeoutError, Unavailable) as error:
        raise Unavailable(
            f"The database of {name} can't be opened.", hint="Check database_url, the disk and OPSWARM_HOME."
        ) from error
    finally:
        await store.close()


async def _made(settings: Settings, name: str) -> Service:
    service = registry.service_factory(name)(settings)
    if {"database", "ledger"} & set(service.checks):
        await check_database(settings, name)
    return service


async def serve_service(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Runs one service until it is told to stop."""
    os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
    configure_logging(settings.log)
    server = _server(settings, name, host, port)
    listener = hosting.listen(server.host, server.port)
    if not settings.addresses.get(name):
        # The card says where the service is: where it does listen, when nothing else is said.
        settings = settings.updated({"addresses": {**settings.addresses, name: hosting.url_of(listener)}})
    service = await _made(settings, name)
    if name == "orchestrator" and keep_person_token(settings):
        typer.echo(f"a token for you is in {token_path(settings)}", err=True)
    await _host(service, listener, server, settings)


def require_cluster(settings: Settings, name: str) -> None:
    """Raises `SettingsInvalid` when nobody said which cluster the tool server is to look at.

    The current context of whatever kubeconfig lies around is never taken by itself.
    """
    chosen = settings.kubernetes
    said = chosen.context or chosen.kubeconfig or chosen.in_cluster or os.environ.get("KUBECONFIG")
    if name not in registry.READ_A_CLUSTER or said:
        return
    known = _contexts(Path.home() / ".kube" / "config")
    raise SettingsInvalid(
        "Say which cluster: --context NAME, --kubeconfig FILE, kubernetes.in_cluster in a pod, or KUBECONFIG.",
        hint=f"Contexts in ~/.kube/config: {', '.join(known) or 'none'}.",
    )


def _contexts(kubeconfig: Path) -> list[str]:
    try:
        body = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        return sorted(clean(str(c["name"])) for c in body["contexts"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return []


async def serve_tools(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Runs one tool server over HTTP until it is told to stop."""
    from opswarm.mcp.serving import http_service  # 27 MB that an agent has no use for.

    configure_logging(settings.log)
    require_cluster(settings, name)
    server = _server(settings, name, host, port)
    listener = hosting.listen(server.host, server.port)
    async with http_service(registry.tool_server(name), settings) as service:
        await _host(service, listener, server, settings)


async def serve_tools_stdio(settings: Settings, name: str) -> None:
    """Serves one desktop client until it hangs up. Logs go to stderr, as stdout is the wire."""
    from opswarm.mcp.serving import serve_stdio

    configure_logging(settings.log)
    require_cluster(settings, name)
    await serve_stdio(registry.tool_server(name), settings)


def _variable(section: str, key: str, value: Any) -> str:
    """A setting as a shell is told of it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"OPSWARM_{section.upper()}__{key.upper()}={shlex.quote(text)}"


async def serve_lab(settings: Settings, scenarios: Sequence[str], port: int) -> None:
    """Serves the lab until it is told to stop; its kubeconfig goes to stdout."""
    running = await lab.start(settings, scenarios, port)
    try:
        typer.echo(running.kubeconfig())
        typer.echo(f"lab at {running.url}; save the text above as a file for kubectl --kubeconfig", err=True)
        for section, values in running.settings.items():
            typer.echo(" ".join(_variable(section, key, value) for key, value in values.items()), err=True)
        for told in running.missing:
            typer.echo(told, err=True)
        await until_stopped()
    finally:
        await running.stop()
