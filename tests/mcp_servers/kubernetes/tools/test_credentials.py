"""Credentials that rotate, break or are not there, against an API server on loopback."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_servers.kubernetes.cluster import open_cluster
from mcp_servers.kubernetes.resources import Resources
from mcp_servers.kubernetes.settings import ClusterSettings
from opswarm.errors import InvalidInput, SettingsInvalid, Unauthenticated
from tests.mcp_servers.kubernetes.tools.stand_in import discovery, kind
from tests.support.hosting import serving


def config(folder: Path, server: str, user: dict[str, Any], **cluster: str) -> ClusterSettings:
    body = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path = folder / "config"
    path.write_text(json.dumps(body))
    return ClusterSettings(path)


class Server:
    """Accepts one token at a time and counts who was refused."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.refused = 0
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            self.refused += 1
            return JSONResponse({"kind": "Status", "message": "Unauthorized"}, status_code=401)
        return JSONResponse({"gitVersion": "v1.34.0"})


async def test_a_token_file_that_was_rotated_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    server = Server("first")
    async with serving(server.app) as url, open_cluster(config(tmp_path, url, {"tokenFile": str(token)})) as cluster:
        await cluster.get("/version")
        server.token = "second"
        token.write_text("second")
        await cluster.get("/version")
        assert server.refused == 1


async def test_an_exec_plugin_is_asked_again_when_its_token_ended(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("first")
    plugin = tmp_path / "plugin.sh"
    credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
    plugin.write_text(f"#!/bin/sh\nprintf '{credential}' \"$(cat {said})\"\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }
    server = Server("first")
    async with serving(server.app) as url, open_cluster(config(tmp_path, url, user)) as cluster:
        await cluster.get("/version")
        server.token = "second"
        said.write_text("second")
        await cluster.get("/version")
        assert server.refused == 1


async def test_a_token_that_is_simply_wrong_is_refused_without_a_loop(tmp_path: Path) -> None:
    server = Server("right")
    async with serving(server.app) as url, open_cluster(config(tmp_path, url, {"token": "wrong"})) as cluster:
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="does not accept the credentials"):
                await cluster.get("/version")
        assert server.refused == 4


async def test_a_plugin_that_is_missing_is_named(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    with pytest.raises(SettingsInvalid, match="credential plugin 'no-such-plugin'"):
        async with open_cluster(config(tmp_path, "http://127.0.0.1:9", user)):
            pass


@pytest.mark.parametrize("field", ["certificate-authority", "client-certificate"])
async def test_a_certificate_that_is_none_is_one_sentence(tmp_path: Path, field: str) -> None:
    bad = tmp_path / "bad.crt"
    bad.write_text("this is no certificate")
    user = {"client-certificate": str(bad), "client-key": str(bad)} if field == "client-certificate" else {"token": "t"}
    cluster = {"certificate-authority": str(bad)} if field == "certificate-authority" else {}
    with pytest.raises(SettingsInvalid, match="certificate or key"):
        async with open_cluster(config(tmp_path, "https://127.0.0.1:9", user, **cluster)):
            pass


async def test_a_name_that_several_groups_have_is_not_guessed(tmp_path: Path) -> None:
    groups = discovery(
        ("", "v1", [kind("pods", "pod", "Pod")]),
        ("velero.io", "v1", [kind("backups", "backup", "Backup")]),
        ("longhorn.io", "v1beta2", [kind("backups", "backup", "Backup")]),
        ("metrics.k8s.io", "v1beta1", [kind("pods", "pod", "PodMetrics")]),
    )

    async def answer(request: Request) -> Response:
        return JSONResponse(groups if request.url.path == "/apis" else {**groups, "items": []})

    app = Starlette(routes=[Route("/{path:path}", answer)])
    async with serving(app) as url, open_cluster(config(tmp_path, url, {"token": "t"})) as cluster:
        resources = Resources(cluster)
        with pytest.raises(InvalidInput, match=r"backups\.longhorn\.io, backups\.velero\.io"):
            await resources.find("backup")
        assert (await resources.find("backups.velero.io")).group == "velero.io"
        assert (await resources.find("pods")).group == ""
