from __future__ import annotations

import os
from pathlib import Path

import pytest

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
