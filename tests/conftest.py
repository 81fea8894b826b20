from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import postgres

os.environ["OTEL_INSTRUMENTATION_A2A_SDK_ENABLED"] = "false"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _away_from_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads this machine's settings, keys or kubeconfig."""
    for name in list(os.environ):
        if name.startswith("OPSWARM_") or name in (
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "OLLAMA_API_BASE",
            "KUBECONFIG",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Any]:
    with postgres.server() as running:
        yield running


@pytest.fixture
def postgres_url(_postgres_server: Any) -> str:
    """The URL of a fresh database on a real Postgres."""
    return postgres.new_database(_postgres_server)
