"""One service, one tool server or the lab, by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

import typer

from opswarm.cli import hosting, registry
from opswarm.cli.swarm import until_stopped
from opswarm.errors import SettingsInvalid
from opswarm.mcp.serving import http_service, serve_stdio
from opswarm.service import Service
from opswarm.settings import PORTS, Server, Settings
from opswarm.telemetry import configure_logging


def _server(settings: Settings, name: str, host: str | None, port: int | None) -> Server:
    """Where to listen: the flags, else the settings when they say it, else the service's own port."""
    said = "port" in settings.server.model_fields_set
    chosen = port if port is not None else settings.server.port if said else PORTS.get(name, 0)
    return settings.server.model_copy(update={"host": host or settings.server.host, "port": chosen})


async def _host(service: Service, server: Server, settings: Settings) -> None:
    listener = hosting.listen(server.host, server.port)
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


async def serve_service(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Runs one service until it is told to stop."""
    os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")
    configure_logging(settings.log)
    factory = registry.service_factory(name)
    await _host(factory(settings), _server(settings, name, host, port), settings)


async def serve_tools(settings: Settings, name: str, host: str | None, port: int | None) -> None:
    """Runs one tool server over HTTP until it is told to stop."""
    configure_logging(settings.log)
    async with http_service(registry.tool_server(name), settings) as service:
        await _host(service, _server(settings, name, host, port), settings)


async def serve_tools_stdio(settings: Settings, name: str) -> None:
    """Serves one desktop client until it hangs up. Logs go to stderr, as stdout is the wire."""
    configure_logging(settings.log)
    await serve_stdio(registry.tool_server(name), settings)


async def serve_lab(settings: Settings, scenarios: Sequence[str], port: int) -> None:
    """Serves the lab until it is told to stop; its kubeconfig goes to stdout."""
    start = registry.lab_module()
    try:
        lab = await start(scenarios, port=port, tick_seconds=settings.lab.tick_seconds)
    except (ValueError, OSError) as error:
        raise SettingsInvalid(str(error)) from error
    try:
        typer.echo(lab.kubeconfig())
        typer.echo(f"lab at {lab.url}; save the text above as a file for kubectl --kubeconfig", err=True)
        await until_stopped()
    finally:
        await lab.stop()
