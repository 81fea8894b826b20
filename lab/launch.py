"""Starting a lab by scenario names: what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from lab.app import create_lab
from lab.beside import ALL, Beside
from lab.serve import RunningLab, serve


class Launched:
    """A cluster with what stands beside it, being served. `settings` are those by which the other tool servers find
    theirs, by section; `missing` says in sentences what could not be started."""

    def __init__(self, running: RunningLab, beside: Beside, stack: AsyncExitStack) -> None:
        self._running, self._stack = running, stack
        self.url = running.url
        self.settings: Mapping[str, Mapping[str, Any]] = beside.settings
        self.missing: Sequence[str] = beside.missing

    def kubeconfig(self) -> str:
        """YAML that lets kubectl and the client libraries in."""
        return self._running.kubeconfig()

    async def stop(self) -> None:
        await self._stack.aclose()


async def start(
    scenarios: Sequence[str], *, port: int = 0, tick_seconds: float = 2.0, beside: Sequence[str] = ALL
) -> Launched:
    """Serves a lab on loopback. Raises `ValueError` for an unknown scenario, `OSError` for a port that is taken."""
    lab = create_lab(scenarios, tick_seconds=tick_seconds)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(await serve(lab, port=port))
        around = await stack.enter_async_context(Beside(lab, beside))
        return Launched(running, around, stack.pop_all())
