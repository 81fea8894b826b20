"""The tools of the Loki server over the lab's Loki, on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lab.loki.app import Loki as Emulated
from lab.loki.store import NANO, Store
from mcp_servers.loki.app import open_store
from mcp_servers.loki.asking import Store as Asked
from mcp_servers.loki.tools import specs
from opswarm.mcp.tools import ToolOutput
from opswarm.settings import Loki
from tests.support.acting import Tools
from tests.support.hosting import serving

NOW = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC."""

JELLYFIN = {"namespace": "media", "pod": "jellyfin-6d4b9c5f7-x8k2m", "container": "jellyfin", "app": "jellyfin"}
OLD = {**JELLYFIN, "pod": "jellyfin-58cf6b9d44-2zqvw"}
WEB = {"namespace": "media", "pod": "jellyfin-web-7f9b8c6d5-kp4wz", "container": "web", "app": "jellyfin-web"}
POSTGRES = {"namespace": "data", "pod": "postgres-0", "container": "postgres", "app": "postgres"}


def at(minutes: float) -> int:
    """So many minutes ago."""
    return round((NOW - minutes * 60) * NANO)


def filled() -> Store:
    store = Store()
    for i in range(60):
        store.push(JELLYFIN, at(59.5 - i), f'level=info msg="GET /items/{i}" took={i}ms')
    for i in range(5):
        where = f"10.0.0.{i}:5432"
        store.push(JELLYFIN, at(30 - i), f'level=error msg="connection to {where} refused" attempt={i}')
    store.push(OLD, at(50), "panic: no space left on device")
    store.push(WEB, at(20), 'level=warn msg="slow answer"')
    for i in range(3):
        store.push(POSTGRES, at(10 - i), f"2026-09-21 14:0{i}:00 UTC [77] FATAL:  too many connections")
    return store


class Stage(Tools):
    points = True

    def __init__(self, loki: Emulated, store: Asked) -> None:
        self.loki = loki
        self.tools = {spec.name: spec for spec in specs(store)}

    async def ask(self, tool: str, /, **arguments: Any) -> ToolOutput:
        answer = await super().ask(tool, **arguments)
        assert len(answer.text.encode()) <= 16_500
        return answer


@asynccontextmanager
async def staged(store: Store | None = None, **more: Any) -> AsyncIterator[Stage]:
    """The tools over the lab's Loki; `more` are fields of it, or settings of ours."""
    own = {k: more.pop(k) for k in ("has", "tenant_of", "patterns") if k in more}
    loki = Emulated(store or filled(), tenant=own.pop("tenant_of", ""), clock=lambda: NOW, **own)
    async with serving(loki.app) as url, open_store(Loki(url=url, **more)) as opened:
        yield Stage(loki, Asked(opened.api, opened.budget, lambda: NOW))
