from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from mcp_servers.cluster.connection import open_cluster, segment
from mcp_servers.cluster.settings import ClusterSettings
from opswarm.errors import InvalidInput, SettingsInvalid, Unauthenticated
from tests.mcp_servers.kubernetes.tools.bench import Bench, benched, tools_at
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn, always, discovery, hanging, kind, pod
from tests.support.hosting import free_port, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVERY: tuple[tuple[str, dict[str, str]], ...] = (
    ("pods_list", {}),
    ("find", {"keyword": "x"}),
    ("pods_log", {"pod": "x"}),
    ("nodes_list", {}),
)


async def refused(folder: Path, answer: Response, **settings: float) -> tuple[list[str], int]:
    """What two tools say when every request gets this answer, and how often they asked."""
    answer.headers.setdefault("retry-after", "0")
    asked: list[str] = []

    async def same(request: Request) -> Response:
        asked.append(request.url.path)
        return answer

    async with serving(always(same)) as url, tools_at(url, folder, **settings) as tools:
        said = [await tools.refuse("pods_list"), await tools.refuse("find", keyword="x")]
    return said, len(asked)


async def test_a_wrong_token_is_named_as_the_cause(bench: Bench) -> None:
    async with bench.using("wrong") as tools:
        for tool, extra in EVERY:
            said = await tools.refuse(tool, **extra)
            assert "does not accept the credentials" in said
            assert "wrong" not in said


async def test_an_api_server_that_is_down_is_said_to_be_unreachable(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with tools_at(url, tmp_path) as tools:
        for tool, extra in EVERY:
            assert f"The Kubernetes API server at {url} can't be reached." in await tools.refuse(tool, **extra)


async def test_an_api_server_that_hangs_ends_in_a_deadline_and_only_one(tmp_path: Path) -> None:
    async with serving(hanging()) as url, tools_at(url, tmp_path, total=0.3) as tools:
        began = time.monotonic()
        assert "did not answer within 0.3 s" in await tools.refuse("find", keyword="x")
        assert time.monotonic() - began < 2


async def test_an_api_server_that_stays_busy_is_asked_twice_and_then_named(tmp_path: Path) -> None:
    busy = JSONResponse({"kind": "Status", "message": "too many requests"}, 503, headers={"Retry-After": "0"})
    said, asked = await refused(tmp_path, busy)
    for sentence in said:
        assert "answered HTTP 503: too many requests." in sentence
    # Two tools; /api and /apis; each once more, but for one that is given up when the other has failed for good.
    assert 2 * 3 <= asked <= 2 * 2 * 2


async def test_an_api_server_that_was_busy_once_is_no_failure(tmp_path: Path) -> None:
    stand_in, failed = StandIn({"pods": [pod()]}), set[str]()

    async def once(request: Request) -> Response:
        if request.url.path not in failed:
            failed.add(request.url.path)
            return PlainTextResponse("busy", 429, headers={"Retry-After": "0"})
        return await stand_in._answer(request)

    async with serving(always(once)) as url, tools_at(url, tmp_path) as tools:
        assert "web" in (await tools.say("pods_list")).text
    assert failed == {"/api", "/apis", "/api/v1/pods"}


@pytest.mark.parametrize("header", ["²", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_retry_after_that_is_no_number_of_seconds_does_not_matter(tmp_path: Path, header: str) -> None:
    answer = PlainTextResponse("busy", 503)
    answer.raw_headers.append((b"retry-after", header.encode()))
    said, _ = await refused(tmp_path, answer)
    assert "answered HTTP 503" in said[0]


async def test_a_web_page_instead_of_an_api_is_said_to_be_none(tmp_path: Path) -> None:
    said, _ = await refused(tmp_path, HTMLResponse("<html><body>Log in</body></html>"))
    assert "not JSON" in said[0]


async def test_the_markup_of_an_error_page_is_not_shown(tmp_path: Path) -> None:
    page = HTMLResponse("<!doctype html><html><h1>502 Bad Gateway</h1></html>", 404)
    said, _ = await refused(tmp_path, page)
    assert "<" not in said[0]
    assert "HTTP 404" in said[0]


async def test_json_that_is_no_object_is_no_answer(tmp_path: Path) -> None:
    said, _ = await refused(tmp_path, JSONResponse([1]))
    assert "not an object" in said[0]


async def test_an_error_cannot_bring_escapes_or_lines_of_its_own(tmp_path: Path) -> None:
    said, _ = await refused(tmp_path, JSONResponse({"message": "no\x1b[31m\nroot: ok" + "x" * 5000}, 403))
    assert "\n" not in said[0]
    assert "\x1b" not in said[0]
    assert len(said[0]) < 700


async def test_an_expired_cursor_says_to_begin_again(tmp_path: Path) -> None:
    async with benched(tmp_path) as own:
        first = await own.say("pods_list", limit=3)
        await own.create(
            "/api/v1/namespaces/default/configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
        )
        own.store.compact()
        said = await own.refuse("pods_list", limit=3, cursor=first.cursor)
    assert "The cursor has expired" in said
    assert "List again from the start." in said


async def test_a_certificate_that_is_not_trusted_is_said_so(bench: Bench, tmp_path: Path) -> None:
    async with tools_at(bench.running.url, tmp_path) as tools:
        assert "certificate that this kubeconfig does not trust" in await tools.refuse("pods_list")


@pytest.mark.parametrize(
    "text", ["", "just a sentence", "- a\n- b\n", "a: [", "kind: Config\n", "\x00\x01", "clusters: 7\n"]
)
async def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(SettingsInvalid, match=str(file)):
        async with open_cluster(ClusterSettings(file)):
            pass


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(SettingsInvalid, match=str(place)):
            async with open_cluster(ClusterSettings(place)):
                pass


async def test_a_context_that_is_not_there_is_named(bench: Bench) -> None:
    file = bench.folder / "kubeconfig.yaml"
    with pytest.raises(SettingsInvalid, match="no context 'elsewhere'"):
        async with open_cluster(ClusterSettings(file, context="elsewhere")):
            pass


async def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsInvalid, match="does not run in a pod"):
        async with open_cluster(ClusterSettings(in_cluster=True)):
            pass


async def test_a_credential_plugin_that_is_missing_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    config = yaml.safe_load(bench.running.kubeconfig())
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "opswarm-no-such-plugin",
        "interactiveMode": "Never",
    }
    config["users"][0]["user"] = {"exec": plugin}
    file = tmp_path / "exec.yaml"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises((SettingsInvalid, Unauthenticated)):
        async with open_cluster(ClusterSettings(file)) as cluster:
            await cluster.get("/api/v1/pods")


async def test_plain_discovery_passes_over_a_broken_extension(tmp_path: Path) -> None:
    """As servers before 1.26 answer, where one extension API sends a web page and one fails."""
    entry = {
        "name": "pods",
        "singularName": "pod",
        "kind": "Pod",
        "namespaced": True,
        "verbs": ["list"],
        "shortNames": ["po"],
    }
    groups = [{"name": g, "preferredVersion": {"groupVersion": f"{g}/v1"}} for g in ("page.io", "down.io")]
    bodies = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": groups},
        "/api/v1": {"groupVersion": "v1", "resources": [entry, {**entry, "name": "pods/log"}]},
        "/api/v1/pods": {"metadata": {}, "items": [pod()]},
    }

    async def answer(request: Request) -> Response:
        path = request.url.path
        if path == "/apis/page.io/v1":
            return HTMLResponse("<html>")
        return JSONResponse(bodies[path]) if path in bodies else PlainTextResponse("no", 404)

    async with serving(always(answer)) as url, tools_at(url, tmp_path) as tools:
        assert "web" in (await tools.say("resources_list", kind="po")).text


async def test_a_cluster_without_metrics_says_so(tmp_path: Path) -> None:
    bodies = {
        "/api": discovery(("", "v1", [kind("nodes", "node", "Node", namespaced=False)])),
        "/apis": discovery(),
        "/api/v1/nodes": {"metadata": {}, "items": [{"metadata": {"name": "n1"}}]},
    }

    async def answer(request: Request) -> Response:
        return JSONResponse(bodies[request.url.path])

    async with serving(always(answer)) as url, tools_at(url, tmp_path) as tools:
        assert "serves no pod metrics" in await tools.refuse("pods_top")
        said = await tools.say("nodes_list")
        assert "? of ?" in said.text
        assert "serves no metrics.k8s.io" in said.text


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "x" * 254])
async def test_no_segment_of_a_path_can_leave_its_place(value: str) -> None:
    with pytest.raises(InvalidInput):
        segment(value)


async def test_a_segment_of_a_path_is_quoted() -> None:
    assert segment("a?b#c%2e d") == "a%3Fb%23c%252e%20d"
