from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.mcp_servers.kubernetes.tools.bench import Bench, benched, tools_at
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn, always, discovery, kind, pod
from tests.support.hosting import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_exact_name_comes_before_a_beginning_before_a_part(bench: Bench) -> None:
    said = await bench.say("find", keyword="postgres", limit=100)
    names = [m["name"] for m in said.data["matches"] if m["matched"] == "name"]
    ranks = [0 if n == "postgres" else 1 if n.startswith("postgres-") else 2 for n in names]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    assert said.data["matches"][0]["kind"] == "StatefulSet"


async def test_names_come_before_labels_before_images(bench: Bench) -> None:
    seen: set[int] = set()
    for word in ("grafana", "app-template"):
        said = await bench.say("find", keyword=word, limit=500)
        order = [("name", "label", "image").index(m["matched"].split()[0]) for m in said.data["matches"]]
        assert order == sorted(order)
        seen |= set(order)
    assert seen == {0, 1, 2}


async def test_the_case_of_the_word_does_not_matter(bench: Bench) -> None:
    assert (await bench.say("find", keyword=" SONARR ")).data == (await bench.say("find", keyword="sonarr")).data


async def test_what_was_not_shown_is_counted(bench: Bench) -> None:
    said = await bench.say("find", keyword="a", limit=5)
    assert len(said.data["matches"]) == 5
    assert "(5 of " in said.text


async def test_nothing_found_says_how_much_was_searched(bench: Bench) -> None:
    said = await bench.say("find", keyword="zzzzz")
    assert said.text.startswith("Nothing matches 'zzzzz' in ")
    assert int(said.text.split(" in ")[1].split()[0]) > 100


async def test_a_namespace_leaves_out_kinds_that_have_none(bench: Bench) -> None:
    said = await bench.say("find", keyword="media", namespace="media", limit=500)
    assert {m["namespace"] for m in said.data["matches"]} == {"media"}


async def test_the_image_of_a_cron_job_is_searched(bench: Bench) -> None:
    listed = await bench.get("/apis/batch/v1/cronjobs")
    job = listed["items"][0]
    image = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"]
    said = await bench.say("find", keyword=image, limit=500)
    assert ("CronJob", job["metadata"]["name"]) in {(m["kind"], m["name"]) for m in said.data["matches"]}


@pytest.mark.parametrize("word", ["", "  ", "x" * 254])
async def test_a_word_to_look_for_is_needed(bench: Bench, word: str) -> None:
    assert "1 to 253 characters" in await bench.refuse("find", keyword=word)


async def test_what_the_token_may_not_list_is_named_beside_what_was_found(bench: Bench) -> None:
    async with bench.using("reader") as tools:
        said = await tools.say("find", keyword="sonarr", namespace="media")
    assert {"Deployment", "Pod", "Service"} <= {m["kind"] for m in said.data["matches"]}
    denied = {line.split(":")[0] for line in said.data["not_searched"]}
    assert {"secrets", "configmaps", "statefulsets.apps"} <= denied
    assert "pods" not in denied
    assert "(not searched: secrets: The cluster's RBAC denies this:" in said.text


async def test_a_token_that_may_list_nothing_is_told_so(bench: Bench) -> None:
    async with bench.using("nobody") as tools:
        said = await tools.refuse("find", keyword="sonarr")
        assert "RBAC denies" in said
        assert 'User "nobody" cannot list' in said
        for tool, extra in (("pods_list", {}), ("nodes_list", {}), ("rollout_status", {"name": "sonarr"})):
            assert "RBAC denies" in await tools.refuse(tool, **extra)


async def test_lineage_goes_down_from_a_deployment_to_its_pods(bench: Bench) -> None:
    said = await bench.say("lineage", kind="deploy", name="sonarr", namespace="media")
    assert said.lines[0] == "Deployment media/sonarr   <- asked for"
    assert any(line.startswith("  ReplicaSet media/sonarr-") for line in said.lines)
    assert any(line.startswith("    Pod media/sonarr-") for line in said.lines)
    assert said.data["owners"] == []


async def test_lineage_goes_up_from_a_pod_to_its_deployment(bench: Bench) -> None:
    pods = await bench.get("/api/v1/namespaces/media/pods", labelSelector="app.kubernetes.io/name=sonarr")
    name = pods["items"][0]["metadata"]["name"]
    said = await bench.say("lineage", kind="pod", name=name)
    assert said.lines[0] == "Deployment media/sonarr"
    assert said.lines[1].startswith("  ReplicaSet media/sonarr-")
    assert said.lines[2].startswith(f"    Pod media/{name}")
    assert said.lines[2].endswith("<- asked for")


async def test_lineage_goes_from_a_cron_job_to_its_pods(bench: Bench) -> None:
    said = await bench.say("lineage", kind="cronjob", name="postgres-backup")
    assert [line.split()[0] for line in said.lines[:3]] == ["CronJob", "Job", "Pod"]


async def test_lineage_shows_the_owners_although_children_may_not_be_listed(bench: Bench) -> None:
    async with bench.using("reader") as tools:
        said = await tools.say("lineage", kind="deploy", name="sonarr", namespace="media")
    assert said.lines[0] == "Deployment media/sonarr   <- asked for"
    assert "(not searched: replicasets.apps: The cluster's RBAC denies this:" in said.text


async def test_an_owner_of_a_kind_that_two_groups_have_is_read_from_its_own_group(tmp_path: Path) -> None:
    async with benched(tmp_path) as own:
        owner = {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Deployment", "name": "x", "uid": "1"}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "ownerReferences": [owner]}}
        await own.create("/api/v1/namespaces/default/configmaps", body)
        said = await own.say("lineage", kind="cm", name="c", namespace="default")
        assert "(owner not readable: Deployment x: This cluster has no kind" in said.text


async def test_an_owner_that_was_made_anew_under_the_same_name_is_not_the_owner(tmp_path: Path) -> None:
    async with benched(tmp_path) as own:
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "homepage", "uid": "gone"}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "ownerReferences": [owner]}}
        await own.create("/api/v1/namespaces/default/configmaps", body)
        said = await own.say("lineage", kind="cm", name="c", namespace="default")
        assert said.data["owners"] == []
        assert "(owner not readable: Deployment homepage:" in said.text


async def test_lineage_of_what_is_not_there_is_an_error(bench: Bench) -> None:
    assert "No Deployment is named 'nope'" in await bench.refuse("lineage", kind="deploy", name="nope")


async def test_text_from_the_cluster_cannot_add_lines_to_a_lineage(stand_in: StandIn) -> None:
    stand_in.objects = {"pods": [pod(status={"phase": "Running)\nDeployment fake\x1b[31m"})]}
    said = await stand_in.tools.say("lineage", kind="pod", name="web", namespace="default")
    assert not any(line.startswith("Deployment fake") for line in said.lines)
    assert "\x1b" not in said.text


async def test_where_names_and_labels_are_all_that_is_looked_at_nothing_else_is_downloaded(tmp_path: Path) -> None:
    """As a real API server answers: its items call themselves PartialObjectMetadata."""
    asked: dict[str, str] = {}
    core = [kind("secrets", "secret", "Secret"), kind("configmaps", "configmap", "ConfigMap"), kind("pods", "", "Pod")]

    async def answer(request: Request) -> Response:
        path = request.url.path
        if path in ("/api", "/apis"):
            return JSONResponse(discovery(("", "v1", core)) if path == "/api" else discovery())
        asked[path.rpartition("/")[2]] = request.headers["accept"]
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        item = {**partial, "metadata": {"name": "vault", "namespace": "media", "labels": {"app": "vault"}}}
        items = [] if path.endswith("pods") else [item]
        return JSONResponse({"kind": "PartialObjectMetadataList", "metadata": {}, "items": items})

    async with serving(always(answer)) as url, tools_at(url, tmp_path) as tools:
        said = await tools.say("find", keyword="vault")
    metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
    assert asked == {"secrets": metadata, "configmaps": metadata, "pods": "application/json"}
    assert {m["kind"] for m in said.data["matches"]} == {"Secret", "ConfigMap"}
