"""Reconciling, suspending and resuming, on a lab whose Flux follows a Git repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lab.access import RbacUser, Rule
from mcp_servers.cluster.access import Right
from mcp_servers.flux.actions.rights import RIGHTS
from mcp_servers.flux.tools import declared
from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput, NotFound, OpswarmError, PermissionDenied
from opswarm.guard.risk import Risk
from tests.mcp_servers.flux.stage import HELM, KUSTOMIZE, SOURCE, Stage, staged

JELLYFIN = {"kind": "ks", "name": "jellyfin", "namespace": "flux-system"}
RELEASE = {"kind": "hr", "name": "jellyfin", "namespace": "media"}
FILE = "kubernetes/apps/media/jellyfin/app/helmrelease.yaml"
APPS = {"kind": "gitrepo", "name": "apps", "namespace": "media"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, git=True) as one:
        one.run(2)
        yield one


async def source(stage: Stage, name: str = "apps", namespace: str = "media", branch: str = "main") -> None:
    """A repository of its own for jellyfin's Kustomization, which is not the root's."""
    body = {
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": name},
        "spec": {"interval": "1h", "url": "https://git.example/apps.git", "ref": {"branch": branch}},
    }  # fmt: skip
    path = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{namespace}/gitrepositories"
    assert (await stage.http.post(path, json=body)).status_code == 201
    reference = {"kind": "GitRepository", "name": name, "namespace": namespace}
    await stage.merge(KUSTOMIZE.format("flux-system", "jellyfin"), {"spec": {"sourceRef": reference}})
    stage.run(4)


def newer(stage: Stage, tag: str = "10.12.0") -> str:
    text = stage.git.files(str(stage.git.resolve("main")), "kubernetes/apps/media/jellyfin")[FILE]
    return stage.commit(f"feat: jellyfin {tag}", {FILE: text.replace("10.11.2", tag)})


async def image(stage: Stage) -> str:
    found = await stage.get("/apis/apps/v1/namespaces/media/deployments/jellyfin")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_commit_is_brought_in_by_reconciling_with_its_source(stage: Stage) -> None:
    await source(stage)
    sha = newer(stage)
    revision = stage.lab.store.revision
    act = await stage.plan("flux_reconcile", **JELLYFIN, with_source=True)
    assert stage.lab.store.revision == revision
    assert act.plan.summary == "Reconcile Kustomization flux-system/jellyfin, with its source."
    assert act.plan.preview.splitlines() == [
        "First fetched: GitRepository media/apps.",
        "What was changed by hand in what it applies is put back as Git says.",
    ]
    assert act.plan.risk is Risk.SAFE and len(act.plan.touches) == 2
    done = await act.whole()
    assert done.text == "Flux is asked to reconcile Kustomization flux-system/jellyfin."
    assert (await act.verify()).text == f"Kustomization flux-system/jellyfin is ready at main@sha1:{sha[:8]}."
    assert (await image(stage)).endswith(":10.12.0")
    assert sum(stage.waits) < 30


async def test_without_its_source_nothing_new_comes(stage: Stage) -> None:
    before = await image(stage)
    newer(stage)
    act = await stage.plan("flux_reconcile", **JELLYFIN)
    await act.whole()
    assert await image(stage) == before


async def test_what_fails_is_told_with_why(stage: Stage) -> None:
    await source(stage)
    stage.commit("break it", {FILE: "kind: [HelmRelease\n"})
    act = await stage.plan("flux_reconcile", **JELLYFIN, with_source=True)
    await act.perform()
    seen = await act.verify()
    assert seen.ok is False and "is failing: BuildFailed: kustomize build failed" in seen.text
    assert await act.probe() is Happened.YES


async def test_a_source_that_fails_ends_it_before_the_object_is_asked(stage: Stage) -> None:
    await source(stage)
    await stage.merge(SOURCE.format("media", "apps"), {"spec": {"ref": {"branch": "gone"}}})
    act = await stage.plan("flux_reconcile", **JELLYFIN, with_source=True)
    with pytest.raises(
        OpswarmError, match=r"couldn't find remote ref .* So Kustomization flux-system/jellyfin was not"
    ):
        await act.perform()
    assert await act.probe() is Happened.NO


async def test_a_controller_that_is_down_is_waited_for_and_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(stage.lab.cluster.releases), "step", lambda self, now: None)
    act = await stage.plan("flux_reconcile", **RELEASE)
    await act.perform()
    seen = await act.verify()
    assert seen.ok is None
    assert seen.text.startswith("helm-controller has not taken it up yet. Looked for 180 s; flux_report shows")
    assert 170 < sum(stage.waits) <= 180


async def test_a_release_forgets_its_failures(stage: Stage) -> None:
    path = HELM.format("media", "jellyfin")
    await stage.condition(path, "False", "UpgradeFailed", "Helm upgrade failed: timed out")
    act = await stage.plan("flux_reconcile", **RELEASE, reset=True)
    assert act.plan.risk is Risk.RISKY and "its failures so far are forgotten" in act.plan.preview.lower()
    await act.whole()
    found = await stage.get(path)
    marks = found["metadata"]["annotations"]
    assert marks["reconcile.fluxcd.io/resetAt"] == marks["reconcile.fluxcd.io/requestedAt"]
    assert found["status"]["history"][0]["version"] == 5
    assert isinstance(await stage.refused("flux_reconcile", **JELLYFIN, reset=True), InvalidInput)


async def test_a_release_has_its_chart_fetched_but_not_an_address(stage: Stage) -> None:
    body = {
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmChart", "metadata": {"name": "media-jellyfin"},
        "spec": {"interval": "1h", "chart": "app-template", "sourceRef": {"kind": "HelmRepository", "name": "bjw-s"}},
    }  # fmt: skip
    url = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/helmcharts"
    gone = await stage.refused("flux_reconcile", **RELEASE, with_source=True)
    assert isinstance(gone, NotFound) and "HelmChart 'media-jellyfin'" in gone.message
    assert (await stage.http.post(url, json=body)).status_code == 201
    await stage.merge(f"{url}/media-jellyfin/status", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    act = await stage.plan("flux_reconcile", **RELEASE, with_source=True)
    assert act.plan.preview.startswith("First fetched: HelmChart flux-system/media-jellyfin.")
    await act.whole()
    alone = await stage.refused("flux_reconcile", kind="helmrepo", name="bjw-s", namespace="flux-system")
    assert "is only an OCI address" in alone.message


async def test_suspending_holds_a_commit_back_and_resuming_lets_it_through(stage: Stage) -> None:
    await source(stage)
    before = await image(stage)
    act = await stage.plan("flux_suspend", **JELLYFIN)
    assert act.plan.risk is Risk.RISKY
    stops, put_back = act.plan.preview.splitlines()
    assert stops == "Until it is resumed nothing new of it is applied, and changes made by hand stay."
    assert put_back.startswith("Kustomization flux-system/cluster-apps applies it from Git, which should say the same")
    await act.whole()
    sha = newer(stage)
    asleep = await stage.refused("flux_reconcile", **JELLYFIN)
    assert "is suspended" in asleep.message and asleep.hint == "flux_resume first."
    await (await stage.plan("flux_reconcile", "key-2", **APPS)).whole()
    stage.run(90)
    assert await image(stage) == before
    again = await stage.plan("flux_resume", "key-3", **JELLYFIN)
    assert f"Its source GitRepository media/apps has main@sha1:{sha[:8]}." in again.plan.preview
    await again.whole()
    stage.run(4)
    assert (await image(stage)).endswith(":10.12.0")
    assert isinstance(await stage.refused("flux_resume", **JELLYFIN), InvalidInput)


async def test_suspending_a_source_names_what_waits_for_it(stage: Stage) -> None:
    await source(stage)
    act = await stage.plan("flux_suspend", **APPS)
    assert "For it wait: Kustomization flux-system/jellyfin." in act.plan.preview
    await act.whole()
    assert "is suspended, so nothing is fetched" in str(
        await stage.refused("flux_reconcile", **JELLYFIN, with_source=True)
    )
    assert isinstance(await stage.refused("flux_suspend", **APPS), InvalidInput)


@pytest.mark.parametrize("verb", ["flux_reconcile", "flux_suspend", "flux_resume"])
@pytest.mark.parametrize(
    "root",
    [
        {"kind": "ks", "name": "flux-system", "namespace": "flux-system"},
        {"kind": "gitrepo", "name": "flux-system", "namespace": "flux-system"},
        {"kind": "ks", "name": "cluster-apps", "namespace": "flux-system"},
        {"kind": "ks", "name": "coredns", "namespace": "flux-system"},
    ],
    ids=lambda root: root["name"] + root["kind"],
)
async def test_attack_the_root_and_what_writes_to_protected_namespaces(
    stage: Stage, verb: str, root: dict[str, str]
) -> None:
    if verb == "flux_resume":
        path = KUSTOMIZE if root["kind"] == "ks" else SOURCE
        await stage.merge(path.format("flux-system", root["name"]), {"spec": {"suspend": True}})
    assert isinstance(await stage.refused(verb, **root), PermissionDenied)


ROOTED = {"kustomize.toolkit.fluxcd.io/name": "home", "kustomize.toolkit.fluxcd.io/namespace": "ops"}
OPERATED = {"fluxcd.controlplane.io/name": "flux", "fluxcd.controlplane.io/namespace": "ops"}


@pytest.mark.parametrize("verb", ["flux_reconcile", "flux_suspend"])
@pytest.mark.parametrize(
    ("labels", "of_source"),
    [(ROOTED, ROOTED), (OPERATED, OPERATED), (OPERATED, {})],
    ids=["it applies itself", "the operator's", "the operator's source by what it feeds"],
)
async def test_attack_a_root_under_another_name(
    stage: Stage, verb: str, labels: dict[str, str], of_source: dict[str, str]
) -> None:
    assert (await stage.http.post("/api/v1/namespaces", json=NAMESPACE)).status_code == 201
    for path, kind, marks, spec in (
        ("kustomize.toolkit.fluxcd.io/v1/namespaces/ops/kustomizations", "Kustomization", labels,
         {"sourceRef": {"kind": "GitRepository", "name": "home"}, "path": "./cluster"}),
        ("source.toolkit.fluxcd.io/v1/namespaces/ops/gitrepositories", "GitRepository", of_source,
         {"url": "https://x.example"}),
    ):  # fmt: skip
        body = {
            "apiVersion": "/".join(path.split("/")[:2]), "kind": kind, "metadata": {"name": "home", "labels": marks},
            "spec": spec,
        }  # fmt: skip
        assert (await stage.http.post(f"/apis/{path}", json=body)).status_code == 201
    for kind in ("ks", "gitrepo"):
        denied = await stage.refused(verb, kind=kind, name="home", namespace="ops")
        assert isinstance(denied, PermissionDenied) and denied.rule == "limit.object.protected"


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ops"}}


async def test_the_root_source_is_not_fetched_on_the_way_to_something_else(stage: Stage) -> None:
    denied = await stage.refused("flux_reconcile", **JELLYFIN, with_source=True)
    assert isinstance(denied, PermissionDenied)
    assert denied.hint == "Leave out with_source: it is fetched at its own interval anyway."


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("flux_reconcile", {"kind": "alert", "name": "a", "namespace": "flux-system"}, "not something to reconcile"),
        ("flux_suspend", {"kind": "FluxInstance", "name": "x", "namespace": "media"}, "not something to suspend"),
        ("flux_reconcile", {"kind": "Deployment", "name": "jellyfin", "namespace": "media"}, "no kind of Flux's"),
        ("flux_reconcile", {"kind": "ks", "name": "jelly", "namespace": "flux-system"}, "There is no Kustomization"),
        ("flux_reconcile", {"kind": "ks", "name": "*", "namespace": "flux-system"}, "not the name of one object"),
        ("flux_suspend", {"kind": "ks", "name": "jellyfin", "namespace": ""}, "none was given"),
        ("flux_suspend", {"kind": "hr", "name": "jellyfin", "namespace": "Kube-System"}, "protected"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_said(stage: Stage, tool: str, arguments: dict[str, Any], says: str) -> None:
    assert says in str(await stage.refused(tool, **arguments))


async def test_another_object_under_the_same_name_is_left_alone(stage: Stage) -> None:
    act = await stage.plan("flux_suspend", **RELEASE)
    path = HELM.format("media", "jellyfin")
    body = await stage.get(path)
    await stage.http.delete(path)
    kept = {k: v for k, v in body["metadata"].items() if k in ("name", "namespace", "labels")}
    assert (await stage.http.post(path.rpartition("/")[0], json={**body, "metadata": kept})).status_code == 201
    with pytest.raises(InvalidInput, match="replaced or changed in the meantime"):
        await act.perform()
    assert await act.probe() is Happened.UNKNOWN


def granted(rights: tuple[Right, ...]) -> dict[str, RbacUser]:
    rules = [Rule((r.verb,), (r.resource,), (r.group,)) for r in rights]
    rules.append(Rule(("create",), ("selfsubjectaccessreviews",), ("authorization.k8s.io",)))
    return {"agent": RbacUser("system:serviceaccount:opswarm:flux", rules)}


@pytest.mark.parametrize("tool", sorted(RIGHTS))
async def test_the_rights_of_the_table_are_enough_and_each_is_needed(tmp_path: Path, tool: str) -> None:
    release = "helmreleases"
    for missing in (None, "patch"):
        rights = tuple(r for r in RIGHTS[tool] if (r.resource, r.verb) != (release, missing))
        folder = tmp_path / str(missing)
        folder.mkdir()
        async with staged(folder, rbac=granted(rights), token="agent", git=True) as stage:
            if tool == "flux_resume":
                await stage.merge(HELM.format("media", "jellyfin"), {"spec": {"suspend": True}})
            if missing is None:
                await (await stage.plan(tool, **RELEASE)).whole()
            else:
                denied = await stage.refused(tool, **RELEASE)
                assert isinstance(denied, PermissionDenied) and "patch helmreleases" in denied.message


def test_actions_are_offered_only_when_asked_for_and_all_have_rights() -> None:
    changing = {spec.name: spec for spec in declared() if not spec.read_only}
    assert set(changing) == set(RIGHTS) == {"flux_reconcile", "flux_suspend", "flux_resume"}
    assert all(spec.toolset == "actions" and spec.function.__doc__ for spec in changing.values())


async def test_attack_a_source_of_which_it_cant_be_known_what_comes_from_it_is_left_alone(tmp_path: Path) -> None:
    rights = tuple(r for r in RIGHTS["flux_suspend"] if (r.resource, r.verb) != ("helmreleases", "list"))
    async with staged(tmp_path, rbac=granted(rights), token="agent") as stage:
        gone = await stage.refused("flux_suspend", kind="helmrepo", name="jetstack", namespace="flux-system")
    assert isinstance(gone, PermissionDenied)


async def test_attack_the_source_of_what_writes_to_protected_namespaces(stage: Stage) -> None:
    jetstack = {"kind": "helmrepo", "name": "jetstack", "namespace": "flux-system"}
    denied = await stage.refused("flux_suspend", **jetstack)
    assert isinstance(denied, PermissionDenied) and "cert-manager" in denied.message
    path = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/helmrepositories/jetstack"
    await stage.merge(path, {"spec": {"suspend": True}})
    assert isinstance(await stage.refused("flux_resume", **jetstack), PermissionDenied)
