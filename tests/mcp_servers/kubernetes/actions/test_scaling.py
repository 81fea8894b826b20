"""Setting how many pods there are."""

from __future__ import annotations

import pytest

from opswarm.actions.action import Happened
from opswarm.errors import PermissionDenied
from opswarm.guard.limits import Limits
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage, deployment

WHERE = {"kind": "Deployment", "name": "cloudflared", "namespace": "network"}


async def test_scaling_says_from_what_to_what_and_waits_for_the_pods(stage: Stage) -> None:
    act = await stage.plan("scale", **WHERE, replicas=3)
    assert act.plan.summary == "Scale Deployment network/cloudflared from 2 to 3 replicas."
    (target,) = act.plan.touches
    assert (target.replicas, target.current, act.plan.risk) == (3, 2, Risk.SAFE)
    await act.perform()
    assert await act.probe() is Happened.YES
    seen = await act.verify()
    assert (seen.ok, seen.text.endswith("3 of 3 updated replicas are available.")) == (True, True)


async def test_scaling_to_nothing_is_risky_and_says_that_it_is_offline(stage: Stage) -> None:
    act = await stage.plan("scale", **WHERE, replicas=0)
    assert act.plan.risk is Risk.RISKY and "offline until" in act.plan.preview
    assert act.spec.declared({"replicas": 0}) is Risk.RISKY and act.spec.declared({"replicas": 1}) is Risk.SAFE
    await act.perform()
    assert (await act.verify()).ok is True


async def test_what_git_sets_is_said_to_be_put_back(stage: Stage) -> None:
    act = await stage.plan("scale", kind="StatefulSet", name="postgres", namespace="database", replicas=3)
    line = "Flux (Kustomization flux-system/postgres) applies this from Git and puts the replicas back"
    assert line in act.plan.preview


async def test_what_nothing_in_git_knows_has_no_such_line(stage: Stage) -> None:
    await stage.create("/apis/apps/v1/namespaces/default/deployments", deployment())
    act = await stage.plan("scale", kind="Deployment", name="web", namespace="default", replicas=2)
    assert act.plan.preview == ""


async def test_what_an_autoscaler_owns_is_not_scaled(stage: Stage) -> None:
    refused = await stage.refused("scale", kind="Deployment", name="ingress-nginx", namespace="network", replicas=3)
    assert "The HorizontalPodAutoscaler ingress-nginx sets the replicas" in str(refused)


async def test_a_scaling_that_changes_nothing_is_refused(stage: Stage) -> None:
    assert "has 2 replicas already" in str(await stage.refused("scale", **WHERE, replicas=2))


async def test_the_limits_see_how_far_it_goes(stage: Stage) -> None:
    plan = await stage.tools["scale"].function(**WHERE, replicas=9)
    with pytest.raises(PermissionDenied, match="more than 3 times"):
        Limits().check(plan.touches[0])


async def test_pods_that_find_no_place_are_told(stage: Stage) -> None:
    body = deployment(nodeSelector={"kubernetes.io/hostname": "nowhere"})
    await stage.create("/apis/apps/v1/namespaces/default/deployments", body)
    stage.run(4)
    act = await stage.plan("scale", kind="Deployment", name="web", namespace="default", replicas=2)
    await act.perform()
    seen = await act.verify()
    assert seen.ok is False and "can't be scheduled" in seen.text


async def test_nothing_is_scaled_in_a_protected_namespace(stage: Stage) -> None:
    refused = await stage.refused("scale", kind="Deployment", name="coredns", namespace="kube-system", replicas=3)
    assert isinstance(refused, PermissionDenied) and refused.rule.startswith("limit.namespace")
