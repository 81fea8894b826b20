"""Serving: TLS, the kubeconfig, the port, the ticking, and the clients people really use."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes.aio import client, config

from lab.app import create_lab
from lab.serve import serve
from tests.lab.conftest import ADMIN_TOKEN, Start, client_for, new_lab

KUBECTL = shutil.which("kubectl")


async def test_a_taken_port_is_an_os_error_that_names_it() -> None:
    async with await serve(new_lab()[0]) as running:
        port = int(running.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            await serve(new_lab()[0], port=port)


async def test_the_certificate_is_trusted_through_its_authority_only() -> None:
    async with await serve(new_lab()[0]) as running:
        async with client_for(running) as http:
            assert (await http.get("/version")).status_code == 200
        async with httpx.AsyncClient() as stranger:
            with pytest.raises(httpx.ConnectError):
                await stranger.get(f"{running.url}/version")


async def test_the_app_also_answers_without_tls() -> None:
    lab, _ = new_lab()
    transport = httpx.ASGITransport(lab.app)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://lab", headers=headers) as http:
        assert (await http.get("/api/v1/nodes")).json()["kind"] == "NodeList"


async def test_a_served_lab_ticks_by_itself() -> None:
    moment = [datetime(2026, 1, 1, tzinfo=UTC)]

    def now() -> datetime:
        moment[0] += timedelta(seconds=1)
        return moment[0]

    lab = create_lab(["oom"], token=ADMIN_TOKEN, now=now, tick_seconds=0.02)
    before = lab.store.revision
    async with await serve(lab):
        async with asyncio.timeout(10):
            while lab.store.revision < before + 10:
                await asyncio.sleep(0.02)


async def test_every_lab_has_its_own_token() -> None:
    assert create_lab(tick_seconds=0).token != create_lab(tick_seconds=0).token


async def test_the_official_client_works_with_the_kubeconfig(start: Start) -> None:
    served = await start("oom")
    loaded = client.Configuration()
    load: Any = config.load_kube_config_from_dict
    await load(yaml.safe_load(served.running.kubeconfig()), client_configuration=loaded)
    async with client.ApiClient(loaded) as api:
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        pods = await core.list_namespaced_pod("media", label_selector="app.kubernetes.io/name=sonarr")
        pod = pods.items[0].to_dict()
        name = pod["metadata"]["name"]
        assert pod["status"]["container_statuses"][0]["last_state"]["terminated"]["reason"] == "OOMKilled"
        assert "Sonarr" in await core.read_namespaced_pod_log(name, "media", previous=True)
        await core.delete_namespaced_pod(name, "media")
        deployment = await apps.read_namespaced_deployment("sonarr", "media")
        assert deployment.to_dict()["status"]["conditions"][0]["status"] == "False"
        custom = client.CustomObjectsApi(api)
        release: Any = await custom.get_namespaced_custom_object(
            "helm.toolkit.fluxcd.io", "v2", "media", "helmreleases", "sonarr"
        )
        assert release["spec"]["chart"]["spec"]["chart"] == "app-template"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("get pods -n media -o wide", "CrashLoopBackOff"),
        ("describe deploy sonarr -n media", "Available      False   MinimumReplicasUnavailable"),
        ("get events -n media", "Back-off restarting failed container app in pod"),
        ("logs -n media deploy/qbittorrent -c app --tail=1", "Detected external IP"),
        ("top nodes", "worker-2"),
        ("api-resources --api-group=apps", "deployments"),
        ("auth can-i delete pods -n media", "yes"),
        ("rollout status -n media deploy/radarr", "successfully rolled out"),
        ("rollout restart -n media deploy/radarr", "deployment.apps/radarr restarted"),
        ("scale -n network deploy/cloudflared --replicas=3", "scaled"),
        ("get hr,ks -A", "Applied revision"),
        ("apply -f {manifest}", "configmap/applied created"),
        ("label -f {manifest} seen=yes", "configmap/applied labeled"),
        ("delete -f {manifest}", 'configmap "applied" deleted'),
    ],
)
async def test_kubectl_works(shared: Start, tmp_path: Path, arguments: str, expected: str) -> None:
    served = await shared("oom")
    path = tmp_path / "kubeconfig"
    path.write_text(served.running.kubeconfig())
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: applied}, data: {a: b}}")
    arguments = arguments.format(manifest=manifest)
    assert KUBECTL is not None
    process = await asyncio.create_subprocess_exec(
        KUBECTL, *arguments.split(), env={**os.environ, "KUBECONFIG": str(path), "HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert expected in output.decode()
    assert process.returncode == 0
