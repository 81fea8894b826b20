"""Serving: TLS, the kubeconfig, the port, the ticking, and the clients people really use."""

from __future__ import annotations

import asyncio
import json
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
from tests.lab.conftest import ADMIN_TOKEN, Served, Start, client_for, new_lab

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


async def kubectl(served: Served, home: Path, *arguments: str) -> str:
    """What kubectl prints; it must succeed."""
    path = home / "kubeconfig"
    path.write_text(served.running.kubeconfig())
    assert KUBECTL is not None
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        *arguments,
        env={**os.environ, "KUBECONFIG": str(path), "HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, output.decode()
    return output.decode()


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
    ],
)
async def test_kubectl_works(shared: Start, tmp_path: Path, arguments: str, expected: str) -> None:
    served = await shared("oom")
    assert expected in await kubectl(served, tmp_path, *arguments.split())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
async def test_kubectl_applies_labels_and_deletes_a_manifest(shared: Start, tmp_path: Path) -> None:
    served = await shared("oom")
    manifest = tmp_path / "manifest.json"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}}
    manifest.write_text(json.dumps(body))
    assert "configmap/applied created" in await kubectl(served, tmp_path, "apply", "-f", str(manifest))
    assert "configmap/applied labeled" in await kubectl(served, tmp_path, "label", "cm", "applied", "seen=yes")
    manifest.write_text(json.dumps({**body, "data": {"a": "c"}}))
    assert "configmap/applied configured" in await kubectl(served, tmp_path, "apply", "-f", str(manifest))
    stored = await served.get("/api/v1/namespaces/default/configmaps/applied")
    assert (stored["data"], stored["metadata"]["labels"]) == ({"a": "c"}, {"seen": "yes"})
    assert 'configmap "applied" deleted' in await kubectl(served, tmp_path, "delete", "-f", str(manifest))
