from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes import diagnosis
from mcp_servers.kubernetes.diagnosis import Diagnosis
from tests.mcp_servers.kubernetes.diagnose.build import ingress


class Reader:
    """Stands where `Resources` does: one kind with twelve Ingresses."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def find(self, name: str) -> Any:
        return SimpleNamespace(kind="Certificate", full_name="certificates.cert-manager.io")

    async def list_all(self, resource: str, namespace: str = "") -> list[Any]:
        self.asked.append(resource)
        return [ingress(f"web-{i}", backend="gone") for i in range(12)] if resource.startswith("ingresses.") else []


async def test_the_engine_runs_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    for name in ("diagnose", "render"):
        real = getattr(diagnosis, name)

        def noted(*args: Any, real: Any = real) -> Any:
            threads.append(threading.current_thread())
            return real(*args)

        monkeypatch.setattr(diagnosis, name, noted)
    await Diagnosis(cast(Resources, Reader())).diagnose()
    assert len(threads) == 2 and threading.main_thread() not in threads


async def test_the_data_holds_as_many_findings_as_the_text() -> None:
    answer = await Diagnosis(cast(Resources, Reader())).diagnose(limit=3)
    data = answer.data
    assert data is not None
    assert (len(data["findings"]), data["shown"], data["total"]) == (3, 3, 12)
    assert "showing 3 of 12 findings" in answer.text


async def test_a_kind_of_any_group_is_read_by_its_full_name() -> None:
    reader = Reader()
    await Diagnosis(cast(Resources, reader)).diagnose(kind="cert", name="web")
    assert "certificates.cert-manager.io" in reader.asked
