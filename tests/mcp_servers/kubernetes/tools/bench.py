"""The tool server's tools, called as an agent calls them, against a lab or any other API server."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mcp
import yaml

from lab.access import RbacUser
from lab.app import Lab, create_lab
from lab.kubeconfig import kubeconfig
from lab.serve import RunningLab, serve
from mcp_servers.cluster.connection import Cluster, open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.kubernetes.tools import INSTRUCTIONS, specs
from opswarm.mcp.factory import ToolServer


@dataclass(frozen=True)
class Said:
    """What a tool answered: its text, and its data for code."""

    text: str
    data: dict[str, Any]

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @property
    def cursor(self) -> str:
        """Where the text says to continue; "" when it does not."""
        found = re.search(r"cursor=(\S+)\)", self.text)
        return found.group(1) if found else ""


class Tools:
    """One cluster's tools behind the real MCP factory."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.resources = Resources(cluster)
        self._server = ToolServer("kubernetes", specs(self.resources), instructions=INSTRUCTIONS)

    async def listed(self) -> list[Any]:
        async with mcp.Client(self._server._mcp) as client:
            return list((await client.list_tools()).tools)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, Said]:
        async with mcp.Client(self._server._mcp) as client:
            result = await client.call_tool(tool, arguments)
        text = result.content[0]
        assert isinstance(text, mcp.types.TextContent)
        return bool(result.is_error), Said(text.text, result.structured_content or {})

    async def say(self, tool: str, /, **arguments: Any) -> Said:
        """The answer of a call that must succeed."""
        failed, said = await self._call(tool, arguments)
        assert not failed, said.text
        return said

    async def refuse(self, tool: str, /, **arguments: Any) -> str:
        """The sentence of a call that must fail, and not by a defect."""
        failed, said = await self._call(tool, arguments)
        assert failed, said.text
        assert "broke inside" not in said.text
        return said.text


class Bench(Tools):
    """The tools of a lab, and the administrator's HTTP client to put things into it."""

    def __init__(self, cluster: Cluster, running: RunningLab, folder: Path) -> None:
        super().__init__(cluster)
        self.running, self.folder = running, folder
        self.store = running.lab.store
        trust = ssl.create_default_context(cadata=running.ca_pem.decode())
        self.http = httpx.AsyncClient(
            base_url=running.url, verify=trust, headers={"Authorization": f"Bearer {running.lab.token}"}, timeout=10
        )

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def patch(self, path: str, body: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = await self.http.patch(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @asynccontextmanager
    async def using(self, token: str) -> AsyncIterator[Tools]:
        """The tools with another bearer token."""
        file = self.folder / f"{token}.yaml"
        file.write_text(kubeconfig(self.running.url, self.running.ca_pem, token))
        async with open_cluster(ClusterSettings(file)) as cluster:
            yield Tools(cluster)


@asynccontextmanager
async def benched(
    folder: Path, scenarios: Iterable[str] = (), rbac: dict[str, RbacUser] | None = None, lab: Lab | None = None
) -> AsyncIterator[Bench]:
    """A lab that stands still, as of now."""
    lab = lab or create_lab(list(scenarios), rbac=rbac, tick_seconds=0)
    async with await serve(lab) as running:
        file = folder / "kubeconfig.yaml"
        file.write_text(running.kubeconfig())
        async with open_cluster(ClusterSettings(file)) as cluster:
            bench = Bench(cluster, running, folder)
            async with bench.http:
                yield bench


@asynccontextmanager
async def tools_at(url: str, folder: Path, **settings: Any) -> AsyncIterator[Tools]:
    """The tools of whatever serves `url` over plain HTTP."""
    file = folder / "elsewhere.yaml"
    config = yaml.safe_load(kubeconfig(url, b"", "a-token"))
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    file.write_text(yaml.safe_dump(config))
    async with open_cluster(ClusterSettings(file, **settings)) as cluster:
        yield Tools(cluster)
