"""Credentials that rotate, break or are not there, against an API server on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_servers.cluster.connection import open_cluster
from mcp_servers.cluster.resources import Resources
from mcp_servers.cluster.settings import ClusterSettings
from opswarm.errors import InvalidInput, SettingsInvalid, Unauthenticated, Unavailable
from tests.mcp_servers.kubernetes.tools.stand_in import always, discovery, kind
from tests.support.hosting import serving, until


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
        self.late: asyncio.Event | None = None
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            self.refused += 1
            if self.late is not None and request.url.path == "/late":
                await self.late.wait()
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


async def test_a_token_file_may_end_in_a_newline(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server = Server("first")
    async with serving(server.app) as url, open_cluster(config(tmp_path, url, {"tokenFile": str(token)})) as cluster:
        await cluster.get("/version")
    assert server.refused == 0


async def test_a_request_that_was_refused_after_another_had_renewed_is_asked_again_too(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    server = Server("first")
    server.late = asyncio.Event()
    async with serving(server.app) as url, open_cluster(config(tmp_path, url, {"tokenFile": str(token)})) as cluster:
        server.token = "second"
        token.write_text("second")
        late = asyncio.create_task(cluster.get("/late"))
        await until(lambda: server.refused == 1)
        await cluster.get("/version")
        assert len(cluster._open) == 2  # The old client still has the late request.
        server.late.set()
        await late
        assert len(cluster._open) == 1
        assert server.refused == 2


async def test_the_server_of_a_kubeconfig_that_changed_is_asked(tmp_path: Path) -> None:
    old, new = Server("gone"), Server("second")
    async with (
        serving(old.app) as first,
        serving(new.app) as second,
        open_cluster(config(tmp_path, first, {"token": "first"})) as cluster,
    ):
        config(tmp_path, second, {"token": "second"})
        await cluster.get("/version")
        assert cluster.server == second


def plugin_saying(folder: Path, said: Path) -> dict[str, Any]:
    """A user whose exec plugin gives the token that `said` holds, and fails when it is gone."""
    plugin = folder / "plugin.sh"
    credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
    plugin.write_text(f"#!/bin/sh\nset -e\ntoken=$(cat {said})\nprintf '{credential}' \"$token\"\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }


async def test_an_exec_plugin_is_asked_again_when_its_token_ended(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("first")
    user = plugin_saying(tmp_path, said)
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


async def test_a_plugin_that_fails_later_is_named(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("first")
    server = Server("first")
    async with (
        serving(server.app) as url,
        open_cluster(config(tmp_path, url, plugin_saying(tmp_path, said))) as cluster,
    ):
        server.token = "second"
        said.unlink()
        with pytest.raises(Unauthenticated, match=r"credential plugin '.*plugin\.sh'"):
            await cluster.get("/version")


async def test_a_plugin_that_hangs_is_waited_for_again_and_not_started_twice(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("first")
    user = plugin_saying(tmp_path, said)
    server = Server("first")
    async with (
        serving(server.app) as url,
        open_cluster(replace(config(tmp_path, url, user), total=0.5)) as cluster,
    ):
        server.token = "second"
        answer, started = tmp_path / "answer", tmp_path / "started"
        os.mkfifo(answer)
        (tmp_path / "plugin.sh").write_text(f"#!/bin/sh\necho >>{started}\nexec cat {answer}\n")
        results = await asyncio.gather(*(cluster.get("/version") for _ in range(3)), return_exceptions=True)
        assert sorted("could not be renewed in time" in str(r) for r in results) == [False, False, True]
        assert all(isinstance(r, Unauthenticated) for r in results)
        credential = {"apiVersion": user["exec"]["apiVersion"], "kind": "ExecCredential", "status": {"token": "second"}}
        answer.write_text(json.dumps(credential))
        await until(lambda: cluster._loading is not None and cluster._loading.done())
        await cluster.get("/version")
        assert started.read_text() == "\n"


async def test_what_a_plugin_writes_goes_into_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsInvalid, match="credential plugin"):
        async with open_cluster(config(tmp_path, "http://127.0.0.1:9", plugin_saying(tmp_path, tmp_path / "none"))):
            pass
    assert [r for r in caplog.records if r.name.startswith("kubernetes")] == []


async def test_a_server_that_accepts_no_connection_cannot_be_reached(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    settings = replace(config(tmp_path, url, {"token": "t"}), connect=0.2)
    async with listener, open_cluster(settings) as cluster:
        with pytest.raises(Unavailable, match=r"can't be reached: no connection within 0\.2 s"):
            await cluster.get("/version")
        done.set()


@pytest.mark.parametrize("user", [{"tokenFile": "gone"}, {"client-certificate": "gone", "client-key": "gone"}])
async def test_a_file_that_the_kubeconfig_names_and_is_not_there_is_named(tmp_path: Path, user: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid, match=f"{tmp_path}/gone, which the kubeconfig names,"):
        async with open_cluster(config(tmp_path, "https://127.0.0.1:9", dict(user))):
            pass


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
        ("iam.aws.upbound.io", "v1", [kind("roles", "role", "Role")]),
        ("database.example", "v1", [kind("roles", "role", "Role")]),
        ("rbac.authorization.k8s.io", "v1", [kind("roles", "role", "Role")]),
    )

    async def answer(request: Request) -> Response:
        return JSONResponse(groups if request.url.path == "/apis" else {**groups, "items": []})

    async with serving(always(answer)) as url, open_cluster(config(tmp_path, url, {"token": "t"})) as cluster:
        resources = Resources(cluster)
        with pytest.raises(InvalidInput, match=r"backups\.longhorn\.io, backups\.velero\.io"):
            await resources.find("backup")
        assert (await resources.find("backups.velero.io")).group == "velero.io"
        assert (await resources.find("pods")).group == ""
        assert (await resources.find("role")).group == "rbac.authorization.k8s.io"
