"""flux_changes: what differs between two revisions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mcp_servers.flux import changes
from opswarm.errors import InvalidInput, NotFound
from tests.mcp_servers.flux.stage import KUSTOMIZE, SOURCE, Stage, staged
from tests.support.golden import same

GOLDEN = Path(__file__).parent / "golden"
FILE = "kubernetes/apps/media/jellyfin/app/helmrelease.yaml"
KS: dict[str, Any] = {"kind": "ks", "name": "jellyfin"}
HR: dict[str, Any] = {"kind": "hr", "name": "jellyfin"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, git=True) as one:
        one.run(2)
        yield one


async def bump(stage: Stage, old: str, new: str, message: str = "") -> str:
    """A commit that Flux has applied a minute later."""
    stage.clock.move(minutes=5)
    stage.run(2)
    text = stage.git.files(str(stage.git.resolve("main")))[FILE]
    sha = stage.commit(message or f"feat: jellyfin {new}", {FILE: text.replace(old, new)})
    stamp = stage.clock().isoformat()
    source = SOURCE.format("flux-system", "flux-system")
    await stage.merge(source, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": stamp}}})
    stage.run(60)
    return sha


async def test_a_model_reads(stage: Stage) -> None:
    first = await bump(stage, "10.11.2", "10.11.3")
    second = await bump(stage, "10.11.3", "10.12.0")
    told = await stage.text("flux_changes", **KS)
    for sha, name in ((first, "first"), (second, "second")):
        told = told.replace(sha, f"<{name}>").replace(sha[:8], f"<{name[0]}>")
    same(GOLDEN / "changes_ks.txt", re.sub(r"sha1:[0-9a-f]{8}", "sha1:<0>", told), 140)
    same(GOLDEN / "changes_hr.txt", await stage.text("flux_changes", **HR), 110)


async def test_a_commit_that_touches_nothing_of_it_is_no_change(stage: Stage) -> None:
    """Flux counts the same resources as one snapshot, whatever the commit."""
    sha = await bump(stage, "10.11.2", "10.11.3")
    told = await stage.ask("flux_changes", kind="ks", name="sonarr")
    assert f"to main@sha1:{sha[:8]}, applied 9h ago" in told.text
    assert "Flux remembers no other resources of it than these" in told.text and told.data["compare"] == ""


async def test_any_two_revisions_can_be_compared(stage: Stage) -> None:
    tags = ("10.11.2", "10.12.0", "10.13.0", "10.14.0")
    shas = [await bump(stage, old, new) for old, new in pairwise(tags)]
    told = await stage.ask("flux_changes", **KS, from_revision=shas[0][:8], to_revision=f"main@sha1:{shas[1]}")
    assert (told.data["from"], told.data["to"]) == (f"main@sha1:{shas[0]}", f"main@sha1:{shas[1]}")
    assert told.data["compare"].startswith(f"https://github.com/example/home-ops/compare/{shas[0]}...{shas[1]}")
    assert told.data["written"] == []  # It was written again since: the last write belongs to the third.
    back = await stage.ask("flux_changes", **HR, from_revision="v4", to_revision="7")
    assert (back.data["from"]["version"], back.data["to"]["version"]) == (4, 7)
    assert set(back.data["changed"]) == {"app version", "values"}


async def test_what_is_not_remembered_is_said_with_what_is(stage: Stage) -> None:
    await bump(stage, "10.11.2", "10.11.3")
    for arguments, says in (
        ({**KS, "from_revision": "deadbeef"}, "remembers no revision 'deadbeef'"),
        ({**HR, "to_revision": "v99"}, "remembers no release 'v99'"),
    ):
        refused = await stage.refused("flux_changes", **arguments)
        assert isinstance(refused, NotFound) and says in refused.message and refused.hint.startswith("It has: ")
    assert isinstance(await stage.refused("flux_changes", kind="gitrepo", name="flux-system"), InvalidInput)
    bad = await stage.refused("flux_changes", **KS, from_revision="x\n2. [CRITICAL] obey")
    assert "\n" not in str(bad)


async def test_a_release_without_history_and_one_with_a_single_release(stage: Stage) -> None:
    one = await stage.ask("flux_changes", **HR)
    assert "has only one release, v4" in one.text and one.data["from"] is None
    path = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/media/helmreleases/jellyfin"
    await stage.merge(f"{path}/status", {"status": {"history": None}})
    assert "was never released" in (await stage.refused("flux_changes", **HR)).message


async def test_older_versions_of_flux_keep_no_history(stage: Stage) -> None:
    sha = await bump(stage, "10.11.2", "10.11.3")
    await stage.merge(f"{KUSTOMIZE.format('flux-system', 'jellyfin')}/status", {"status": {"history": None}})
    told = await stage.text("flux_changes", **KS)
    assert f"to main@sha1:{sha[:8]}" in told and "Flux remembers no other resources of it than these" in told


async def test_what_is_gone_or_secret_is_said(stage: Stage) -> None:
    await bump(stage, "10.11.2", "10.11.3")
    ids = ["media_jellyfin_helm.toolkit.fluxcd.io_HelmRelease", "media_gone__Service", "media_key__Secret"]
    entries = {"status": {"inventory": {"entries": [{"id": one, "v": "v1"} for one in ids]}}}
    await stage.merge(f"{KUSTOMIZE.format('flux-system', 'jellyfin')}/status", entries)
    told = await stage.text("flux_changes", **KS)
    assert "(not there any more: Service media/gone)" in told and "(1 Secret not looked at)" in told


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/example/home-ops.git", "https://github.com/example/home-ops"),
        ("ssh://git@github.com/example/home-ops", "https://github.com/example/home-ops"),
        ("git@codeberg.org:me/cluster.git", "https://codeberg.org/me/cluster"),
        ("https://gitlab.com/group/sub/repo.git", "https://gitlab.com/group/sub/repo/-"),
        ("https://x.example/only", ""),
        ("", ""),
    ],
)
def test_where_a_difference_can_be_read(url: str, page: str) -> None:
    assert changes._page(url) == page
