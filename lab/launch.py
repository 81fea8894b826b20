"""Starting a lab by scenario names: what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.app import create_lab
from lab.beside import Beside, beside
from lab.serve import RunningLab, serve


class Launched:
    """A cluster with what stands beside it, being served. `settings` are those by which the other tool servers find
    theirs, by section; `missing` is a sentence about what could not be started, or ""."""

    def __init__(self, running: RunningLab, beside: Beside) -> None:
        self._running, self._beside = running, beside
        self.url = running.url
        self.settings: Mapping[str, Mapping[str, Any]] = beside.settings
        self.missing = beside.missing

    def kubeconfig(self) -> str:
        """YAML that lets kubectl and the client libraries in."""
        return self._running.kubeconfig()

    async def stop(self) -> None:
        await self._beside.stop()
        await self._running.stop()


async def start(scenarios: Sequence[str], *, port: int = 0, tick_seconds: float = 2.0) -> Launched:
    """Serves a lab on loopback. Raises `ValueError` for an unknown scenario, `OSError` for a port that is taken."""
    lab = create_lab(scenarios, tick_seconds=tick_seconds)
    running = await serve(lab, port=port)
    try:
        return Launched(running, await beside(lab))
    except BaseException:
        await running.stop()
        raise
