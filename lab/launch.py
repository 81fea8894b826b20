"""Starting a lab by scenario names: what the command line calls."""

from __future__ import annotations

from collections.abc import Sequence

from lab.app import create_lab
from lab.serve import RunningLab, serve


async def start(scenarios: Sequence[str], *, port: int = 0, tick_seconds: float = 2.0) -> RunningLab:
    """Serves a lab on loopback. Raises `ValueError` for an unknown scenario, `OSError` for a port that is taken."""
    return await serve(create_lab(scenarios, tick_seconds=tick_seconds), port=port)
