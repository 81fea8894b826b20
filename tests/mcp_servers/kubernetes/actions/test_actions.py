"""Each action on the lab: planned without a trace, done, told by the world, and seen."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lab.access import RbacUser, Rule
from mcp_servers.kubernetes.actions.rights import RIGHTS
from mcp_servers.kubernetes.reads import READS
from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, OpswarmError, PermissionDenied
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.bench import Place, placed

READER = RbacUser("reader", (Rule(("get", "list"), ("*",), ("*",)),))
JELLYFIN = {"kind": "Deployment", "namespace": "media", "name": "jellyfin"}


@pytest_asyncio.fixture
async def at(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path, rbac={"reader": READER}) as found:
        yield found


def one_pod(at: Place, namespace: str, prefix: str) -> str:
    return sorted(at.pods(namespace, prefix))[0]


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("rollout_restart", JELLYFIN),
    ("rollout_pause", {"namespace": "media", "name": "bazarr"}),
    ("scale", {**JELLYFIN, "replicas": 2}),
    ("cordon", {"name": "worker-2"}),
    ("trigger_cronjob", {"namespace": "media", "name": "recyclarr"}),
    ("delete_finished", {"kind": "Job", "namespace": "database", "names": ["schema-migrate"]}),
    ("label", {**JELLYFIN, "key": "team", "value": "media"}),
    ("annotate", {**JELLYFIN, "key": "example.com/note", "value": "hello"}),
]


@pytest.mark.parametrize(("tool", "arguments"), CALLS)
async def test_an_action_is_planned_without_a_trace_then_done_told_and_seen(
    at: Place, tool: str, arguments: dict[str, Any]
) -> None:
    before = copy.deepcopy(at.lab.store.all("deployments.apps", "media"))
    plan = await at.hands.plan(tool, **arguments)
    again = await at.hands.plan(tool, **arguments)
    assert (plan.summary, plan.preview, plan.risk) == (again.summary, again.preview, again.risk)
    assert plan.summary.endswith(".") and "\n" not in plan.summary and plan.touches
    assert at.lab.store.all("deployments.apps", "media") == before
    await at.hands.do(await at.hands.intent(tool, **arguments))


@pytest.mark.parametrize(("tool", "arguments"), CALLS)
async def test_without_the_right_it_is_refused_and_the_right_is_named(
    at: Place, tool: str, arguments: dict[str, Any]
) -> None:
    async with at.using("reader") as hands:
        with pytest.raises(PermissionDenied, match=r"RBAC does not let this tool server (patch|delete|create)"):
            await hands.plan(tool, **arguments)


async def test_its_rights_are_enough(tmp_path: Path) -> None:
    needed = {r for tool, _ in CALLS for r in RIGHTS[tool]} | READS
    rules = [
        Rule((r.verb,), (f"{r.resource}/{r.subresource}" if r.subresource else r.resource,), (r.group,)) for r in needed
    ]
    async with placed(tmp_path, rbac={"tools": RbacUser("tools", rules)}) as at, at.using("tools") as hands:
        for number, (tool, arguments) in enumerate(CALLS):
            await hands.do(await hands.intent(tool, once=f"k-{number}", **arguments))


async def test_a_restart_makes_new_pods(at: Place) -> None:
    old = at.pods("media", "jellyfin")
    said = await at.hands.do(await at.hands.intent("rollout_restart", **JELLYFIN))
    assert not set(old) & set(at.pods("media", "jellyfin")) and "jellyfin" in said


async def test_scaling_says_what_git_will_do_and_zero_is_risky(at: Place) -> None:
    up = await at.hands.plan("scale", **JELLYFIN, replicas=2)
    off = await at.hands.plan("scale", **JELLYFIN, replicas=0)
    assert up.risk is Risk.SAFE and off.risk is Risk.RISKY and "offline" in off.preview
    assert "Flux" in up.preview and "from 1 to 2" in up.summary
    await at.hands.do(await at.hands.intent("scale", **JELLYFIN, replicas=0))
    assert not at.pods("media", "jellyfin")


async def test_what_an_autoscaler_owns_is_not_scaled(at: Place) -> None:
    with pytest.raises(InvalidInput, match="HorizontalPodAutoscaler"):
        await at.hands.plan("scale", kind="Deployment", namespace="network", name="ingress-nginx", replicas=3)


async def test_undo_goes_back_to_the_images_of_before(at: Place) -> None:
    radarr = {"kind": "Deployment", "namespace": "media", "name": "radarr"}
    before = at.get("deployments.apps", "media", "radarr")["spec"]["template"]["spec"]["containers"][0]["image"]
    plan = await at.hands.plan("rollout_undo", **radarr)
    assert before in plan.preview
    await at.hands.do(await at.hands.intent("rollout_undo", **radarr))
    after = at.get("deployments.apps", "media", "radarr")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert after != before and after in plan.preview


@pytest.mark.parametrize("tool", ["delete_pod", "evict_pod"])
async def test_a_pod_ends_and_another_takes_its_place(at: Place, tool: str) -> None:
    name = one_pod(at, "media", "prowlarr")
    await at.hands.do(await at.hands.intent(tool, namespace="media", name=name))
    left = at.pods("media", "prowlarr")
    assert name not in left and len(left) == 1


async def test_a_disruption_budget_blocks_an_eviction_and_is_named(at: Place) -> None:
    names = sorted(at.pods("network", "ingress-nginx"))
    first = await at.hands.intent("evict_pod", namespace="network", name=names[0])
    await at.hands.action("evict_pod").perform(first)
    with pytest.raises(OpswarmError, match="ingress-nginx"):
        second = await at.hands.intent("evict_pod", once="k-2", namespace="network", name=names[1])
        await at.hands.action("evict_pod").perform(second)


async def test_another_object_under_the_same_name_is_left_alone(at: Place) -> None:
    name = one_pod(at, "database", "postgres-0")
    intent = await at.hands.intent("delete_pod", namespace="database", name=name)
    stale = type(intent)(intent.key, intent.tool, intent.arguments, {**intent.state, "uid": "another"})
    with pytest.raises(InvalidInput):
        await at.hands.action("delete_pod").perform(stale)
    restart = await at.hands.intent("rollout_restart", **JELLYFIN)
    stale = type(restart)(restart.key, restart.tool, restart.arguments, {**restart.state, "uid": "another"})
    with pytest.raises(InvalidInput, match="replaced or changed"):
        await at.hands.action("rollout_restart").perform(stale)
    assert await at.hands.probe(stale) is Happened.UNKNOWN


async def test_a_drain_leaves_daemons_and_asks_for_what_would_be_lost(at: Place) -> None:
    with pytest.raises(InvalidInput, match="emptyDir"):
        await at.hands.plan("drain", name="worker-2")
    plan = await at.hands.plan("drain", name="worker-2", delete_emptydir_data=True)
    assert plan.risk is Risk.RISKY and "alloy" not in str(plan.touches) and "sonarr" in plan.preview
    await at.hands.do(await at.hands.intent("drain", name="worker-2", delete_emptydir_data=True))
    left = [p for p in at.lab.store.all("pods") if p["spec"].get("nodeName") == "worker-2"]
    owners = {p["metadata"]["ownerReferences"][0]["kind"] for p in left if p["status"]["phase"] == "Running"}
    assert owners == {"DaemonSet"} and at.get("nodes", "", "worker-2")["spec"]["unschedulable"] is True


async def test_one_key_makes_one_job(at: Place) -> None:
    intent = await at.hands.intent("trigger_cronjob", namespace="media", name="recyclarr")
    before = len(at.lab.store.all("jobs.batch", "media"))
    await at.hands.do(intent)
    assert await at.hands.probe(intent) is Happened.YES
    await at.hands.action("trigger_cronjob").perform(intent)
    assert len(at.lab.store.all("jobs.batch", "media")) == before + 1


async def test_only_what_has_ended_is_deleted(at: Place) -> None:
    running = one_pod(at, "media", "jellyfin")
    with pytest.raises(InvalidInput):
        await at.hands.plan("delete_finished", kind="Pod", namespace="media", names=[running])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("rollout_restart", {"kind": "Deployment", "namespace": "kube-system", "name": "coredns"}),
        ("scale", {"kind": "Deployment", "namespace": "flux-system", "name": "helm-controller", "replicas": 0}),
        ("delete_pod", {"namespace": "kube-system", "name": "etcd-cp-1"}),
        ("label", {"kind": "Secret", "namespace": "media", "name": "x", "key": "a", "value": "b"}),
        ("label", {**JELLYFIN, "key": "kustomize.toolkit.fluxcd.io/name", "value": "x"}),
        ("annotate", {**JELLYFIN, "key": "opswarm.dev/action", "value": "k"}),
        ("annotate", {**JELLYFIN, "key": "a", "value": "\u202eevil"}),
        ("rollout_restart", {"kind": "Deployment", "namespace": "media", "name": "../../x"}),
        ("rollout_restart", {"kind": "DeploymentList", "namespace": "media", "name": "jellyfin"}),
        ("cordon", {"name": "*"}),
    ],
)
async def test_attack_what_may_never_be_is_refused_with_one_sentence(
    at: Place, tool: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(OpswarmError) as told:
        await at.hands.plan(tool, **arguments)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


async def test_a_rollout_that_had_failed_before_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    async with placed(tmp_path, ("image-typo",)) as at:
        radarr = {"kind": "Deployment", "namespace": "media", "name": "radarr", "replicas": 0}
        said = await at.hands.do(await at.hands.intent("scale", **radarr))
    assert "ImagePullBackOff" not in said
