"""The programs that are measured, each its own process: `python -m bench.peers.NAME PORT MODEL_URL TOOL_URL`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import uvicorn


@dataclass(frozen=True)
class Place:
    """Where a peer listens, and what it uses."""

    port: int
    model: str
    tool: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def place() -> Place:
    return Place(int(sys.argv[1]), sys.argv[2], sys.argv[3])


def serve(app: Any, at: Place) -> None:
    """Serves on uvloop and httptools, as Opswarm does."""
    uvicorn.run(
        app, host="127.0.0.1", port=at.port, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )
