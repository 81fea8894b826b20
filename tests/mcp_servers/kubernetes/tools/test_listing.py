from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.kubernetes.tools.bench import Bench, benched
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn, pod

pytestmark = pytest.mark.asyncio(loop_scope="session")


def listed(data: dict[str, Any]) -> list[list[str]]:
    """The columns, and each row's first two: what does not change while a test runs, as ages do."""
    return [data["columns"], *(row[:2] for row in data["rows"])]


@pytest.mark.parametrize(
    ("names", "header", "member"),
    [
        (("pods", "pod", "Pod", "po", "PODS"), "RESTARTS", "sonarr-"),
        (
            ("deployments", "deployment", "Deployment", "deploy", "deployments.apps", "deployment.apps"),
            "READY",
            "sonarr",
        ),
        (("kustomizations", "Kustomization", "ks"), "STATUS", "cluster-apps"),
        (("helmreleases", "HelmRelease", "hr", "helmreleases.helm.toolkit.fluxcd.io"), "STATUS", "sonarr"),
        (("nodes", "no"), "VERSION", "worker-1"),
    ],
)
async def test_a_kind_is_known_by_all_its_names(bench: Bench, names: tuple[str, ...], header: str, member: str) -> None:
    answers = [(await bench.say("resources_list", kind=name, limit=500)).data for name in names]
    assert all(listed(one) == listed(answers[0]) for one in answers)
    assert header in answers[0]["columns"]
    assert any(member in row[0] + row[1] for row in answers[0]["rows"])


async def test_an_unknown_kind_brings_the_closest_names(bench: Bench) -> None:
    said = await bench.refuse("resources_list", kind="deploymint")
    assert "no kind 'deploymint'" in said
    assert "deployment" in said.partition("Did you mean")[2]
    assert "Did you mean" not in await bench.refuse("resources_list", kind="zzzzzzzzz")


@pytest.mark.parametrize("kind", ["pods/log", "../nodes", "pods?watch=1", "%2e%2e", ""])
async def test_a_kind_never_becomes_part_of_a_path_unless_the_cluster_has_it(bench: Bench, kind: str) -> None:
    said = await bench.refuse("resources_list", kind=kind)
    assert "no kind" in said or "No kind" in said


async def test_one_namespace_is_listed_without_a_namespace_column_and_all_with_one(bench: Bench) -> None:
    one, every = await bench.say("pods_list", namespace="media"), await bench.say("pods_list")
    assert one.lines[0].startswith("NAME ")
    assert every.lines[0].startswith("NAMESPACE ")
    for namespace in ("*", "all"):
        assert listed((await bench.say("pods_list", namespace=namespace)).data) == listed(every.data)


async def test_an_unknown_namespace_is_said_to_be_unknown(bench: Bench) -> None:
    for tool, extra in (
        ("pods_list", {}),
        ("resources_list", {"kind": "secrets"}),
        ("resources_get", {"kind": "pods", "name": "x"}),
        ("events_list", {}),
        ("pods_top", {}),
        ("pods_log", {"pod": "sonarr"}),
        ("find", {"keyword": "sonarr"}),
        ("rollout_status", {"name": "sonarr"}),
        ("lineage", {"kind": "pods", "name": "sonarr"}),
    ):
        said = await bench.refuse(tool, namespace="medai", **extra)
        assert "no namespace 'medai'" in said, f"{tool}: {said}"


async def test_an_empty_list_in_a_real_namespace_is_an_answer(bench: Bench) -> None:
    said = await bench.say("resources_list", kind="cronjobs", namespace="kube-public")
    assert said.text == "No cronjobs match in namespace kube-public."


async def test_a_namespace_does_not_narrow_a_kind_that_has_none(bench: Bench) -> None:
    said = await bench.say("resources_list", kind="nodes", namespace="media")
    assert "worker-1" in said.text
    none = await bench.say("resources_list", kind="nodes", namespace="media", label_selector="zone=moon")
    assert none.text == "No nodes match."


async def test_selectors_narrow_a_list(bench: Bench) -> None:
    labelled = await bench.say("pods_list", label_selector="app.kubernetes.io/name in (sonarr, radarr)")
    assert {row[1].split("-")[0] for row in labelled.data["rows"]} == {"sonarr", "radarr"}
    fielded = await bench.say("pods_list", field_selector="spec.nodeName=worker-2", limit=500)
    on_node = await bench.get("/api/v1/pods", fieldSelector="spec.nodeName=worker-2")
    assert {row[1] for row in fielded.data["rows"]} == {p["metadata"]["name"] for p in on_node["items"]}


@pytest.mark.parametrize("selector", ["a=b=c", "((", "a in b"])
async def test_a_bad_selector_is_refused_in_the_servers_words(bench: Bench, selector: str) -> None:
    assert "API server refused the request" in await bench.refuse("pods_list", label_selector=selector)


@pytest.mark.parametrize(
    ("tool", "arguments"), [("pods_list", {}), ("resources_list", {"kind": "pods", "output": "yaml"})]
)
async def test_the_cursor_walks_all_pods_exactly_once(bench: Bench, tool: str, arguments: dict[str, str]) -> None:
    every = await bench.get("/api/v1/pods")
    seen: list[str] = []
    cursor = ""
    for _ in range(100):
        page = await bench.say(tool, limit=7 if tool == "pods_list" else 3, cursor=cursor, **arguments)
        rows = page.data.get("rows") or [["", i["name"]] for i in page.data["items"]]
        seen += [row[1] for row in rows]
        cursor = page.cursor
        assert cursor == page.data["cursor"]
        if not cursor:
            break
    assert sorted(seen) == sorted(p["metadata"]["name"] for p in every["items"])


async def test_a_page_says_how_many_follow(bench: Bench) -> None:
    every = len((await bench.get("/api/v1/pods"))["items"])
    said = await bench.say("pods_list", limit=3)
    assert f"3 of {every} pods shown" in said.text
    assert f"({every - 3} more; continue with cursor=" in said.text


async def test_nodes_are_listed_page_by_page_too(bench: Bench) -> None:
    first = await bench.say("nodes_list", limit=2)
    assert first.cursor
    assert "2 of 3 nodes shown" in first.text
    second = await bench.say("nodes_list", limit=2, cursor=first.cursor)
    assert not second.cursor
    assert sorted([*first.data["nodes"], *second.data["nodes"]]) == ["cp-1", "worker-1", "worker-2"]


async def test_nodes_show_their_usage_in_units_that_compare(bench: Bench) -> None:
    said = await bench.say("nodes_list")
    row = next(line for line in said.lines if line.startswith("worker-1"))
    assert "Ready" in row
    assert "m of 8000m" in row
    used, room = row.split("Mi of ")
    assert 0 < int(used.split()[-1]) < int(room.split("Mi")[0])


async def test_namespaces_are_listed_with_their_state(bench: Bench) -> None:
    said = await bench.say("namespaces_list")
    assert said.lines[0].split() == ["NAME", "STATUS", "AGE"]
    assert {"media", "kube-system"} <= {row[0] for row in said.data["rows"]}


async def test_a_garbled_cursor_is_refused(bench: Bench) -> None:
    assert "continue key is not valid" in await bench.refuse("pods_list", cursor="garbage")


async def test_a_list_too_long_to_show_offers_no_cursor_that_would_skip_what_was_cut(
    bench: Bench, tmp_path: Path
) -> None:
    async with benched(tmp_path) as own:
        for number in range(160):
            name = f"{'setting-' * 13}{number:04}"
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
            await own.create("/api/v1/namespaces/default/configmaps", body)
        said = await own.say("resources_list", kind="cm", namespace="default", limit=150)
        assert not said.cursor
        shown = len(said.lines) - 2
        assert 0 < shown < 150
        assert f"({shown} of " in said.lines[-1]
        assert f"limit={shown}" in said.lines[-1]


async def test_the_data_of_a_list_has_what_its_text_shows(stand_in: StandIn) -> None:
    stand_in.objects = {"pods": [pod(f"{'web-' * 25}{n:03}", annotations={"a": "b" * 1000}) for n in range(400)]}
    as_table = await stand_in.tools.say("resources_list", kind="pods", limit=500)
    assert len(as_table.data["rows"]) == len(as_table.lines) - 2
    assert as_table.data["rows"][-1][1] in as_table.lines[-2]
    as_yaml = await stand_in.tools.say("resources_list", kind="pods", limit=500, output="yaml")
    names = [i["name"] for i in as_yaml.data["items"]]
    assert names == [p["metadata"]["name"] for p in stand_in.objects["pods"][: as_yaml.text.count("kind: Pod\n")]]
    assert len(str(as_table.data)) < 20_000
    assert len(str(as_yaml.data)) < 20_000


async def test_a_long_cell_is_cut_in_the_data_too(stand_in: StandIn) -> None:
    columns = [{"name": name, "priority": 0} for name in ("Name", "Message")]
    stand_in.table = {"kind": "Table", "columnDefinitions": columns, "rows": [{"cells": ["web", "x" * 100_000]}]}
    said = await stand_in.tools.say("resources_list", kind="pods", namespace="default")
    assert said.data["rows"] == [["web", f"{'x' * 119}…"]]
