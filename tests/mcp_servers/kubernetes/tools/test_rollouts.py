from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_servers.kubernetes.tools.bench import Bench, Said
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def status(stand_in: StandIn, plural: str, spec: dict[str, Any], state: dict[str, Any]) -> Said:
    """The rollout status of a workload `web` at generation 2."""
    item = {"metadata": {"name": "web", "namespace": "default", "generation": 2}, "spec": spec}
    stand_in.objects = {plural: [{**item, "status": {"observedGeneration": 2, **state}}]}
    return await stand_in.tools.say("rollout_status", name="web")


@pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", "overseerr"), ("sts", "postgres"), ("ds", "alloy"), ("", "alloy")]
)
async def test_a_finished_rollout_is_done(bench: Bench, kind: str, name: str) -> None:
    said = await bench.say("rollout_status", kind=kind, name=name)
    assert said.data["done"] is True
    assert f"/{name}: " in said.lines[0]


async def test_a_rollout_whose_pods_fail_is_not_done_and_says_what_it_waits_for(bench: Bench) -> None:
    said = await bench.say("rollout_status", name="sonarr")
    assert said.data["done"] is False
    assert "0 of 1 updated replicas are available" in said.lines[0]
    assert any("Available=False MinimumReplicasUnavailable" in line for line in said.lines)


async def test_a_stuck_image_keeps_the_old_replica(bench: Bench) -> None:
    said = await bench.say("rollout_status", name="radarr")
    assert said.data["done"] is False


@pytest.mark.parametrize(
    ("plural", "spec", "state", "done", "text"),
    [
        ("deployments", {"replicas": 2}, {"observedGeneration": 1}, False, "waiting for its controller"),
        ("deployments", {"replicas": 2}, {"updatedReplicas": 1}, False, "1 of 2 new replicas are updated"),
        ("deployments", {"replicas": 2}, {"updatedReplicas": 2, "replicas": 3, "availableReplicas": 2}, False, "1 old"),
        ("deployments", {"replicas": 0}, {}, True, "0 of 0"),
        ("deployments", {}, {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}, True, "1 of 1"),
        (
            "deployments",
            {"replicas": 2},
            {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]},
            False,
            "exceeded its progress deadline",
        ),
        (
            "statefulsets",
            {"replicas": 3},
            {"readyReplicas": 2, "updatedReplicas": 3},
            False,
            "2 of 3 replicas are ready",
        ),
        (
            "statefulsets",
            {"replicas": 3},
            {"readyReplicas": 3, "updatedReplicas": 1, "updateRevision": "b", "currentRevision": "a"},
            False,
            "1 of 3 replicas are updated",
        ),
        (
            "statefulsets",
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            {"readyReplicas": 3, "updatedReplicas": 1, "updateRevision": "b", "currentRevision": "a"},
            True,
            "partition",
        ),
        (
            "statefulsets",
            {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}},
            {"readyReplicas": 3, "updatedReplicas": 1, "updateRevision": "b", "currentRevision": "a"},
            False,
            "1 of 2",
        ),
        (
            "statefulsets",
            {"replicas": 1, "updateStrategy": {"type": "OnDelete"}},
            {"readyReplicas": 1},
            True,
            "on delete",
        ),
        (
            "daemonsets",
            {},
            {"desiredNumberScheduled": 3, "updatedNumberScheduled": 2},
            False,
            "2 of 3 pods are updated",
        ),
        (
            "daemonsets",
            {},
            {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2},
            False,
            "2 of 3 updated pods are available",
        ),
        (
            "daemonsets",
            {"updateStrategy": {"type": "OnDelete"}},
            {"desiredNumberScheduled": 3, "updatedNumberScheduled": 0, "numberAvailable": 3},
            True,
            "on delete",
        ),
    ],
)
async def test_a_rollout_stands_as_kubectl_would_say(
    stand_in: StandIn, plural: str, spec: dict[str, Any], state: dict[str, Any], done: bool, text: str
) -> None:
    said = await status(stand_in, plural, spec, state)
    assert text in said.lines[0]
    assert said.data["done"] is done


async def test_a_condition_cannot_add_lines_of_its_own(stand_in: StandIn) -> None:
    conditions = [{"type": "Available", "status": "True", "message": "fine\nDeployment default/fake: done\x1b[0m"}]
    said = await status(stand_in, "deployments", {"replicas": 0}, {"conditions": conditions})
    assert len(said.lines) == 2
    assert "\x1b" not in said.text


@pytest.mark.parametrize("name", ["sonarr", "postgres", "alloy"])
async def test_history_lists_revisions_with_their_images_newest_first(bench: Bench, name: str) -> None:
    said = await bench.say("rollout_history", name=name)
    numbers = [int(r["revision"]) for r in said.data["revisions"]]
    assert numbers == sorted(numbers, reverse=True)
    assert all(":" in r["images"] for r in said.data["revisions"])
    assert said.lines[0].split()[:2] == ["REVISION", "AGE"]


async def test_history_shows_only_the_revisions_of_its_own_workload(bench: Bench) -> None:
    sets = await bench.get("/apis/apps/v1/namespaces/media/replicasets")
    own = [s for s in sets["items"] if s["metadata"]["ownerReferences"][0]["name"] == "sonarr"]
    assert len((await bench.say("rollout_history", name="sonarr")).data["revisions"]) == len(own)


async def test_a_revision_that_is_no_number_does_not_break_the_history(stand_in: StandIn) -> None:
    owner = {"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {}}
    child = {
        "metadata": {
            "name": "web-1",
            "ownerReferences": [{"uid": "u"}],
            "annotations": {"deployment.kubernetes.io/revision": "odd"},
        }
    }
    stand_in.objects = {"deployments": [owner], "replicasets": [child]}
    said = await stand_in.tools.say("rollout_history", name="web")
    assert len(said.data["revisions"]) == 1


async def test_a_kind_without_rollouts_is_refused_with_those_that_have(bench: Bench) -> None:
    said = await bench.refuse("rollout_status", kind="service", name="sonarr")
    assert "Service has no rollout. These have: Deployment, StatefulSet, DaemonSet." in said


async def test_an_unknown_workload_is_said_to_be_unknown(bench: Bench) -> None:
    for tool in ("rollout_status", "rollout_history"):
        assert "No workload is named 'nope'" in await bench.refuse(tool, name="nope")


async def test_a_name_that_fits_several_workloads_lists_them(stand_in: StandIn) -> None:
    item = {"metadata": {"name": "web", "namespace": "default"}}
    stand_in.objects = {"deployments": [item], "statefulsets": [item]}
    said = await stand_in.tools.refuse("rollout_status", name="web")
    assert "fits several: Deployment default/web, StatefulSet default/web" in said


async def test_a_deployment_is_found_by_a_token_that_may_list_nothing_else(bench: Bench) -> None:
    async with bench.using("reader") as tools:
        said = await tools.say("rollout_status", name="sonarr", namespace="media")
        assert "Deployment media/sonarr" in said.lines[0]
        assert "RBAC denies" in await tools.refuse("rollout_status", name="postgres", namespace="media")
