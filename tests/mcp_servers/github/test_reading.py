from __future__ import annotations

import pytest

from lab.github.pulls import add_line_comment
from lab.github.state import Release, Review
from opswarm.errors import InvalidInput, NotFound
from tests.mcp_servers.github.stage import OWNER, RELEASE, RENOVATE, STRANGER, Stage


async def test_pull_requests_are_listed_with_what_one_chooses_by(stage: Stage) -> None:
    stage.bump()
    other = stage.bump("10.11.0", branch="renovate/other")
    other.user = OWNER
    text = await stage.text("pulls_list")
    assert "#1" in text and "renovate/jellyfin" in text and "minor" in text
    assert "#2" not in await stage.text("pulls_list", author="renovate[bot]")
    assert "2 on this page" in await stage.text("pulls_list", author="nobody")


async def test_a_long_list_is_given_page_by_page(stage: Stage) -> None:
    for number in range(5):
        stage.hub.open_issue(OWNER, f"Issue {number}")
    first = await stage.ask("issues_list", limit=2)
    assert "page 2" in first.text and first.data is not None and first.data["next_page"] == 2
    last = await stage.ask("issues_list", limit=2, page=3)
    assert "Issue 0" in last.text and last.data is not None and last.data["next_page"] is None


async def test_one_pull_request_shows_what_a_reviewer_asks_first(stage: Stage) -> None:
    pull = stage.bump()
    stage.hub.check(pull.head_sha, "lint", "success")
    stage.hub.check(pull.head_sha, "flux-diff", "failure", title="1 object fails")
    pull.reviews.append(Review(1, OWNER, "", "APPROVED", pull.head_sha, "2026-01-01T00:00:00Z"))
    answer = await stage.ask("pull_get", number=1)
    assert answer.text == (
        "#1 feat(container): jellyfin to 10.10.0\n"
        "open, by renovate[bot]: renovate/jellyfin into main, +1 -1 in 1 files\n"
        f"head_sha {pull.head_sha}\n"
        "mergeable: yes (unstable)\n"
        "labels: minor\n"
        "checks: failing (1 failing, 1 passing)\n"
        "- failing: flux-diff (failure): 1 object fails\n"
        "passed: lint\n"
        "reviews: maria approved\n"
        "description:\n"
        "> Updates jellyfin to 10.10.0."
    )
    assert len(answer.text) // 4 < 130  # What a model pays, in tokens of four characters.


async def test_fields_leave_out_what_is_not_asked_for(stage: Stage) -> None:
    stage.bump()
    text = await stage.text("pull_get", number=1, fields=["commits"])
    assert "feat: jellyfin" in text and "checks" not in text and "description" not in text
    with pytest.raises(InvalidInput, match="no 'everything'"):
        await stage.text("pull_get", number=1, fields=["everything"])


async def test_patches_are_capped_file_by_file(stage: Stage) -> None:
    stage.bump(files={RELEASE: "a\n" * 100, "kubernetes/apps/new.yaml": "b: 1\n"})
    text = await stage.text("pull_files", number=1, patch_lines=5)
    assert "modified" in text and "added kubernetes/apps/new.yaml +1 -0" in text and "5 of " in text
    assert "new.yaml" not in await stage.text("pull_files", number=1, path="kubernetes/apps/media")


async def test_a_diff_shows_what_a_description_would_hide(stage: Stage) -> None:
    stage.bump(files={"kubernetes/apps/x.md": "<!-- seen -->\n"})
    assert "+<!-- seen -->" in await stage.text("pull_files", number=1)


@pytest.mark.parametrize(
    ("checks", "statuses", "verdict"),
    [
        ((), (), "none yet"),
        (("success", "skipped", "neutral"), ("success",), "passing"),
        (("success", None), (), "pending"),
        (("success",), ("pending",), "pending"),
        ((None,), ("error",), "failing"),
        (("cancelled",), (), "failing"),
        (("timed_out", "success"), ("success",), "failing"),
        (("stale",), (), "failing"),
    ],
)
async def test_checks_and_statuses_are_one_verdict(
    stage: Stage, checks: tuple[str | None, ...], statuses: tuple[str, ...], verdict: str
) -> None:
    pull = stage.bump()
    for number, conclusion in enumerate(checks):
        stage.hub.check(pull.head_sha, f"check-{number}", conclusion)
    for number, state in enumerate(statuses):
        stage.hub.status(pull.head_sha, f"status-{number}", state)
    answer = await stage.ask("pull_checks", number=1)
    assert answer.data is not None and answer.data["state"] == verdict
    assert f": {verdict}" in answer.text


async def test_a_check_on_the_second_page_counts(stage: Stage) -> None:
    pull = stage.bump()
    for number in range(130):
        stage.hub.check(pull.head_sha, f"check-{number:03}", "failure" if number == 129 else "success")
        stage.hub.status(pull.head_sha, f"status-{number:03}", "success")
    answer = await stage.ask("pull_checks", number=1)
    assert answer.data is not None and answer.data["state"] == "failing" and len(answer.data["checks"]) == 260


async def test_threads_that_wait_are_told_and_those_resolved_are_not(stage: Stage) -> None:
    pull = stage.bump()
    done = add_line_comment(stage.hub, pull, OWNER, RELEASE, 3, "Old matter")
    pull.resolved.add(done.thread)
    first = add_line_comment(stage.hub, pull, OWNER, RELEASE, 3, "Is this tested?")
    add_line_comment(stage.hub, pull, RENOVATE, RELEASE, 3, "It is.", thread=first.thread)
    stage.hub.comment(pull, STRANGER, "Nice")
    text = await stage.text("pull_reviews", number=1)
    assert "unresolved threads: 1 of 2" in text and "Is this tested?" in text and "Old matter" not in text
    assert "renovate[bot]:" in text and "comment by passer-by" in text


async def test_files_are_read_at_a_branch_and_by_lines(stage: Stage) -> None:
    stage.bump()
    assert "tag: 10.9.1" in await stage.text("file_get", path=RELEASE)
    text = await stage.text("file_get", path=RELEASE, ref="renovate/jellyfin", start=3, lines=1)
    assert "lines 3 to 3 of 3" in text and "tag: 10.10.0" in text and "repository" not in text
    with pytest.raises(NotFound, match="may not see it"):
        await stage.text("file_get", path="nothing.yaml")
    with pytest.raises(InvalidInput, match="is a folder"):
        await stage.text("file_get", path="kubernetes")
    stage.git.commit_files("main", {"logo.png": b"\x89PNG\xff\xfe"}, "Logo", OWNER.person)
    assert "is binary: 6 bytes" in await stage.text("file_get", path="logo.png")


async def test_folders_are_listed_whole_or_by_level(stage: Stage) -> None:
    assert "kubernetes/" in await stage.text("tree_list")
    text = await stage.text("tree_list", path="kubernetes/apps", recursive=True, match="helm")
    assert text == RELEASE
    stage.hub.most_entries = 3
    assert "cut this list off" in await stage.text("tree_list", recursive=True)


async def test_two_commits_are_compared(stage: Stage) -> None:
    stage.bump()
    text = await stage.text("commits_compare", base="main", head="renovate/jellyfin")
    assert "1 commits ahead" in text and RELEASE in text and "tag:" not in text
    assert "+  tag: 10.10.0" in await stage.text(
        "commits_compare", base="main", head="renovate/jellyfin", patch_lines=20
    )


@pytest.mark.parametrize("path", ["../secrets", "a/../../b", "a//b", "./a"])
async def test_a_path_that_climbs_is_refused_before_it_is_asked_for(stage: Stage, path: str) -> None:
    with pytest.raises(InvalidInput, match="not a path"):
        await stage.text("file_get", path=path)
    assert not stage.github.door.log


@pytest.mark.parametrize("ref", ["a..b", "-x", "a b", "a^{/x}", "x:y", "@{-1}", "a\n", "/x", ""])
async def test_a_ref_that_is_none_is_refused_before_it_is_asked_for(stage: Stage, ref: str) -> None:
    with pytest.raises(InvalidInput):
        await stage.text("commits_compare", base=ref, head="main")
    assert not stage.github.door.log


@pytest.mark.parametrize("repo", ["home-ops", "a/b/c", "../x", "casa/..", "casa/a b", "casa/x?y", "c{+a}/b"])
async def test_a_repository_that_is_none_is_refused(stage: Stage, repo: str) -> None:
    with pytest.raises(InvalidInput, match="owner/name"):
        await stage.text("pulls_list", repo=repo)


async def test_a_repository_that_is_not_there_says_what_may_be_wrong(stage: Stage) -> None:
    with pytest.raises(NotFound, match="our token may not see it"):
        await stage.text("pulls_list", repo="casa/other")


async def test_failed_jobs_are_told_with_the_end_of_their_log(stage: Stage) -> None:
    stage.bump()
    rows = ["2026-01-01T00:00:00.1Z Error: early trouble", *(f"2026-01-01T00:00:01.1Z line {n}" for n in range(200))]
    run = stage.hub.run("renovate/jellyfin", "Lint", "failure", step="kubeconform", log="\n".join([*rows, "the end"]))
    listed = await stage.text("runs_list", status="failure")
    assert str(run.id) in listed and "Lint" in listed
    text = await stage.text("run_failures", run=run.id, lines=5)
    assert "at step kubeconform" in text and "the end" in text and "Error: early trouble" in text
    assert "line 190" not in text and "2026-01-01T00:00:01" not in text
    assert "[run " in await stage.text("pull_checks", number=1)


async def test_our_token_does_not_go_to_where_logs_are_kept(stage: Stage) -> None:
    stage.bump()
    run = stage.hub.run("renovate/jellyfin", "Lint", "failure", log="kept elsewhere")
    assert "kept elsewhere" in await stage.text("run_failures", run=run.id)  # The store refuses who brings a token.


async def test_releases_between_two_versions_are_told_with_and_without_v(stage: Stage) -> None:
    for number, tag in enumerate(["v1.0.0", "v1.1.0", "v1.2.0-rc.1", "v1.2.0", "other-9.0.0"]):
        stage.hub.releases.append(Release(number, tag, tag, f"Notes of {tag}", f"2026-01-0{number + 1}T00:00:00Z"))
    text = await stage.text("release_notes", repo="", from_version="1.0.0", to_version="1.2")
    assert "2 versions" in text and "Notes of v1.1.0" in text and "Notes of v1.2.0" in text and "rc.1" not in text
    assert "Notes of v1.0.0" not in text
    assert "Notes of other-9.0.0" in await stage.text("release_notes", repo="", to_version="9.0.0", component="other")
    with pytest.raises(NotFound, match=r"Newest releases: .*v1\.2\.0"):
        await stage.text("release_notes", repo="", to_version="7.7.7")
    with pytest.raises(InvalidInput, match="Swap"):
        await stage.text("release_notes", repo="", from_version="2.0", to_version="1.0")


async def test_a_changelog_tells_where_releases_do_not(stage: Stage) -> None:
    log = "# Changelog\n\n## [2.1.0] - 2026-01-02\n- B\n\n## [2.0.0]\n- A <!-- x -->\n"
    stage.git.commit_files("main", {"CHANGELOG.md": log}, "Log", OWNER.person)
    text = await stage.text("release_notes", repo="", from_version="v2.0.0", to_version="v2.1.0")
    assert "from its CHANGELOG.md" in text and "> - B" in text and "> - A" not in text


async def test_search_stays_in_the_repository(stage: Stage) -> None:
    assert RELEASE in await stage.text("github_search", query="jellyfin/jellyfin")
    stage.bump()
    assert "#1" in await stage.text("github_search", query="jellyfin", kind="pulls")
    assert "Nothing is found" in await stage.text("github_search", query="jellyfin", kind="issues")
    with pytest.raises(InvalidInput):
        await stage.text("github_search", query="  ")


async def test_limits_are_shown(stage: Stage) -> None:
    assert "of 5000 left until" in await stage.text("github_limits")
