"""What an installation brings along."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement


def _without_extras() -> set[str]:
    wanted = (Requirement(r) for r in requires("opswarm") or ())
    return {r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})}


def test_an_agent_brings_neither_litellm_nor_the_kubernetes_client() -> None:
    assert not {"litellm", "kubernetes", "sqlalchemy"} & _without_extras()
    assert {"a2a-sdk", "httpx", "mcp", "pydantic", "starlette", "uvicorn"} <= _without_extras()
