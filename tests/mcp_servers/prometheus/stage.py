"""The tools of the Prometheus server over one backend, called as a model's call reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from mcp_servers.prometheus.settings import backends
from mcp_servers.prometheus.tools import open_apis, specs
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import Api, Prometheus
from tests.mcp_servers.prometheus.history import NOW
from tests.support.acting import Tools


class Stage(Tools):
    """Tools by name."""

    points = True

    def __init__(self, tools: dict[str, ToolSpec]) -> None:
        self.tools = tools

    async def ask(self, tool: str, /, **arguments: Any) -> ToolOutput:
        answer = await super().ask(tool, **arguments)
        assert len(answer.text.encode()) <= 16_500
        return answer


@asynccontextmanager
async def staged(
    url: str = "", *, alertmanager: str = "", clock: Callable[[], float] = lambda: NOW, actions: bool = True,
    total: float = 20.0, **more: Any,
) -> AsyncIterator[Stage]:  # fmt: skip
    """The tools over a server at `url` and an Alertmanager, with further settings of the former."""
    chosen = Prometheus(url=url, alertmanager=Api(url=alertmanager), timeout_seconds=total, **more)
    async with open_apis(backends(chosen)) as apis:
        found = specs(replace(apis, clock=clock), actions=actions)
        yield Stage({spec.name: spec for spec in found})
