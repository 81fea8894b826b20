"""flux_logs: what a controller wrote about one object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lab.access import RbacUser, Rule
from mcp_servers.cluster.connection import Cluster
from mcp_servers.flux import logs
from opswarm.errors import InvalidInput, NotFound, PermissionDenied
from tests.mcp_servers.flux.stage import Stage, staged
from tests.support.golden import same

GOLDEN = Path(__file__).parent / "golden"
CONTROLLER = "/apis/apps/v1/namespaces/flux-system/deployments/helm-controller"
JELLYFIN = {"kind": "HelmRelease", "metadata": {"name": "jellyfin", "namespace": "media"}}


def entry(**more: Any) -> str:
    """A line as helm-controller writes it, with the stamp that the API puts before it."""
    told = {
        "level": "info", "ts": "2026-03-02T11:59:00.123Z", "msg": "release in-sync with desired state",
        "controller": "helmrelease", "controllerGroup": "helm.toolkit.fluxcd.io", "controllerKind": "HelmRelease",
        "HelmRelease": {"name": "jellyfin", "namespace": "media"}, "namespace": "media", "name": "jellyfin",
        "reconcileID": "6b8e1c5e-0d1e-4a0c-9f2d-0a1b2c3d4e5f",
    } | more  # fmt: skip
    return f"2026-03-02T11:59:00.123456789Z {json.dumps(told)}"


def test_a_line_of_the_object_is_told_without_what_every_line_says() -> None:
    told = logs._about(
        entry(revision="8.0.1", output={"Deployment/a/b": "configured", "Service/a/b": "unchanged"}), JELLYFIN
    )
    assert told == {
        "time": "2026-03-02T11:59:00.123Z",
        "level": "info",
        "message": "release in-sync with desired state",
        "error": "",
        "more": {"revision": "8.0.1", "output": "Deployment/a/b configured"},
    }


@pytest.mark.parametrize(
    "line",
    [
        entry(HelmRelease={"name": "jellyfin", "namespace": "other"}, namespace="other"),
        entry(HelmRelease={"name": "jellyfin-2", "namespace": "media"}, name="jellyfin-2"),
        entry(controllerKind="HelmChart", HelmRelease={"name": "sonarr", "namespace": "media"}),
        entry(HelmRelease={"name": "sonarr", "namespace": "media"}, name="sonarr", error="jellyfin is not ready"),
        "2026-03-02T11:59:00Z I0302 leaderelection.go:250] jellyfin",
        "2026-03-02T11:59:00Z " + "[" * 100_000 + "jellyfin",
        "2026-03-02T11:59:00Z [\"jellyfin\"]",
        "2026-03-02T11:59:00Z {\"HelmRelease\": \"jellyfin\"}",
        "jellyfin",
        "",
    ],
    ids=["namespace", "prefix", "kind", "mentioned", "klog", "deep", "list", "name only", "no stamp", "empty"],
)  # fmt: skip
def test_other_lines_are_not(line: str) -> None:
    assert logs._about(line, JELLYFIN) is None


def test_what_a_line_quotes_cannot_begin_a_line_of_its_own() -> None:
    forged = "boom\n2026-03-02T11:59:01.000Z error forged \u2028 and \x1b[31mred"
    told = logs._about(entry(level="error", msg="Reconciliation failed", error=forged, **{"x\ny": forged}), JELLYFIN)
    assert told is not None
    assert len(logs._line(told).splitlines()) == 1
    assert "\x1b" not in logs._line(told)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as one:
        yield one


async def test_a_model_reads(stage: Stage) -> None:
    same(GOLDEN / "logs.txt", await stage.text("flux_logs", kind="hr", name="sonarr", limit=3), 110)
    same(GOLDEN / "logs_none.txt", await stage.text("flux_logs", kind="hr", name="jellyfin", errors=True), 40)


async def test_without_pods_nothing_reconciles(stage: Stage) -> None:
    await stage.merge(f"{CONTROLLER}/scale", {"spec": {"replicas": 0}})
    stage.run(60)
    with pytest.raises(NotFound, match="helm-controller has no pods, so it reconciles nothing"):
        await stage.text("flux_logs", kind="hr", name="sonarr")
    assert (await stage.http.delete(CONTROLLER)).status_code == 200
    with pytest.raises(NotFound, match="no helm-controller"):
        await stage.text("flux_logs", kind="hr", name="sonarr")


async def test_a_log_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    listing = Rule(("get", "list"), ("helmreleases", "deployments", "pods"), ("*",))
    async with staged(tmp_path, rbac={"nobody": RbacUser("nobody", (listing,))}, token="nobody") as stage:
        with pytest.raises(PermissionDenied, match="pods/log"):
            await stage.text("flux_logs", kind="hr", name="sonarr")


async def test_each_controller_is_asked_about_its_own_kinds(stage: Stage) -> None:
    for kind, name, controller in (
        ("ks", "cluster-apps", "kustomize-controller"),
        ("gitrepository", "flux-system", "source-controller"),
        ("alert", "alertmanager", "notification-controller"),
    ):
        told = await stage.text("flux_logs", kind=kind, name=name, namespace="flux-system", since="2h")
        assert f"in the log of {controller}: " in told.splitlines()[0]
        assert len(told.splitlines()) > 2, told


async def test_only_errors_and_the_newest(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        entry(ts=f"2026-03-02T11:{n:02}:00.000Z", level="error" if n % 2 else "info", error=f"e{n}") for n in range(9)
    ]
    give(monkeypatch, "\n".join(lines) + "\n")
    told = await stage.text("flux_logs", kind="hr", name="jellyfin", errors=True, limit=2)
    assert told.splitlines()[0] == "HelmRelease media/jellyfin in the log of helm-controller: 2 of 4 lines, last 1h"
    assert [line.split(": ")[-1] for line in told.splitlines()[1:]] == ["e5", "e7"]


async def test_long_answers_end_at_a_line_and_count_what_is_left_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [entry(ts=f"2026-03-02T11:00:00.{n:03}Z", msg=f"m{n} " + "x" * 900) for n in range(120)]
    give(monkeypatch, "\n".join(lines))
    told = await stage.text("flux_logs", kind="hr", name="jellyfin", limit=200)
    assert len(told) < 16_000
    assert " m119 " in told.splitlines()[-1]
    assert f": {len(told.splitlines()) - 1} of 120 lines" in told.splitlines()[0]


def give(monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    """Every program of helm-controller has written this."""

    async def read(self: Cluster, *_: Any, **__: Any) -> str:
        return log

    monkeypatch.setattr(Cluster, "logs", read)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "Deployment"}, "Deployment"),
        ({"since": "yesterday"}, "yesterday"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"name": "../x"}, "x"),
    ],
)
async def test_what_cannot_be_meant_is_said(stage: Stage, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await stage.text("flux_logs", **({"kind": "hr", "name": "sonarr"} | wrong))
