"""One label or annotation of one object."""

from __future__ import annotations

from typing import Any

import pytest

from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage

SONARR: dict[str, Any] = {"kind": "Deployment", "name": "sonarr", "namespace": "media"}
PATH = "/apis/apps/v1/namespaces/media/deployments/sonarr"


@pytest.mark.parametrize(("tool", "field"), [("label", "labels"), ("annotate", "annotations")])
async def test_a_key_is_set_and_removed_again(stage: Stage, tool: str, field: str) -> None:
    act = await stage.plan(tool, **SONARR, key="example.com/team", value="media")
    assert act.plan.summary == f"Set the {field[:-1]} example.com/team of Deployment media/sonarr."
    assert "Before: not set\nAfter: 'media'" in act.plan.preview
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES
    assert (await act.verify()).ok is True
    assert (await stage.get(PATH))["metadata"][field]["example.com/team"] == "media"
    back = await stage.plan(tool, "key-2", **SONARR, key="example.com/team", remove=True)
    await back.perform()
    assert (await back.verify()).ok is True
    assert "example.com/team" not in (await stage.get(PATH))["metadata"][field]


@pytest.mark.parametrize(
    "key",
    [
        "app.kubernetes.io/name", "node-role.kubernetes.io/worker", "k8s.io/x", "reconcile.fluxcd.io/requestedAt",
        "kustomize.toolkit.fluxcd.io/reconcile", "argocd.argoproj.io/sync-options", "opswarm.dev/action",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tool", ["label", "annotate"])
async def test_keys_that_steer_the_cluster_are_refused(stage: Stage, tool: str, key: str) -> None:
    refused = await stage.refused(tool, **SONARR, key=key, value="x")
    assert isinstance(refused, PermissionDenied)


@pytest.mark.parametrize("key", ["", "/x", "a/b/c", "-x", "a b", "x\n", "Example.com/x", "x/", "é"])
async def test_what_is_no_key_is_refused(stage: Stage, key: str) -> None:
    assert isinstance(await stage.refused("label", **SONARR, key=key, value="x"), InvalidInput)


@pytest.mark.parametrize("value", ["a b", "-a", "a" * 64, "a\u202e", "ä"])
async def test_what_is_no_labels_value_is_refused(stage: Stage, value: str) -> None:
    assert isinstance(await stage.refused("label", **SONARR, key="team", value=value), InvalidInput)


@pytest.mark.parametrize("value", ["a\u202eb", "a\x00", "\x1b[31m", "x" * 5000, "zero\u200bwidth"])
async def test_an_annotation_holds_no_invisible_or_huge_text(stage: Stage, value: str) -> None:
    assert isinstance(await stage.refused("annotate", **SONARR, key="team", value=value), InvalidInput)


async def test_labels_by_which_others_find_an_object_are_risky(stage: Stage) -> None:
    act = await stage.plan("label", kind="Node", name="worker-1", key="disk", value="ssd")
    assert act.plan.risk is Risk.RISKY
    await act.perform()
    assert (await stage.get("/api/v1/nodes/worker-1"))["metadata"]["labels"]["disk"] == "ssd"


@pytest.mark.parametrize(
    ("kind", "name", "namespace"),
    [("Secret", "sonarr", "media"), ("Namespace", "media", ""), ("Role", "x", "media"), ("secrets", "sonarr", "media")],
)
async def test_what_the_limits_forbid_is_refused(stage: Stage, kind: str, name: str, namespace: str) -> None:
    refused = await stage.refused("label", kind=kind, name=name, namespace=namespace, key="a", value="b")
    assert isinstance(refused, PermissionDenied)


async def test_what_is_so_already_is_refused(stage: Stage) -> None:
    assert "has no label team" in str(await stage.refused("label", **SONARR, key="team", remove=True))


@pytest.mark.parametrize("tool", ["label", "annotate"])
async def test_a_custom_kind_is_risky_since_its_controller_may_act_on_any_key(stage: Stage, tool: str) -> None:
    act = await stage.plan(tool, kind="HelmRelease", name="sonarr", namespace="media", key="team", value="x")
    assert act.plan.risk is Risk.RISKY
    assert "its controller may act on it" in act.plan.preview


async def test_a_label_by_which_a_controller_knows_its_own_is_risky(stage: Stage) -> None:
    name, *_ = await stage.names("/apis/apps/v1/namespaces/media/replicasets")
    act = await stage.plan("label", kind="ReplicaSet", name=name, namespace="media", key="team", value="x")
    assert act.plan.risk is Risk.RISKY


@pytest.mark.parametrize(
    "key", ["meta.helm.sh/release-name", "helm.sh/resource-policy", "objectset.rio.cattle.io/hash", "HELM.SH/x"]
)
async def test_keys_by_which_helm_and_k3s_own_an_object_are_refused(stage: Stage, key: str) -> None:
    for tool in ("label", "annotate"):
        assert isinstance(await stage.refused(tool, **SONARR, key=key, value="x"), (PermissionDenied, InvalidInput))


async def test_a_long_value_is_shown_whole_so_that_nothing_is_approved_unseen(stage: Stage) -> None:
    value = "a harmless beginning\n" + "x" * 3_000 + "\nand an end"
    act = await stage.plan("annotate", **SONARR, key="team", value=value)
    after = act.plan.preview.splitlines()[1]
    assert after == f"After: {value!r}" and after.endswith("\\nand an end'")
    await act.perform()
    assert (await act.verify()).ok is True
    assert (await stage.get(PATH))["metadata"]["annotations"]["team"] == value


async def test_what_another_hand_took_away_again_is_seen(stage: Stage) -> None:
    act = await stage.plan("label", **SONARR, key="team", value="media")
    await act.perform()
    await stage.merge(PATH, {"metadata": {"labels": {"team": None}}})
    assert ((await act.verify()).ok, (await act.verify()).text) == (False, "team is not set.")
