from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lab.github.state import User
from mcp_servers.github.actions.orders import order_in, skips_checks
from opswarm.actions.action import Happened
from opswarm.errors import Conflict, InvalidInput, LimitExceeded, NotFound, PermissionDenied
from opswarm.guard.limits import Limits
from opswarm.guard.paths import FileKind, Merge
from opswarm.guard.risk import Risk
from tests.mcp_servers.github.stage import FILES, OWNER, RELEASE, RENOVATE, REPO, US, VALUES, Stage, staged
from tests.support.acting import Act

NEW = VALUES.replace("10.9.1", "10.10.0")


def edit(path: str = RELEASE, content: str | None = NEW, **more: Any) -> Any:
    from mcp_servers.github.actions.committing import FileEdit

    return FileEdit(path=path, content=content, **more)


async def test_a_comment_is_made_once_and_found_by_its_key(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("comment_put", number=1, body="Looks good.")
    assert act.plan.risk is Risk.SAFE and act.plan.preview == "> Looks good."
    await act.whole()
    assert [c.user for c in pull.comments] == [US] and pull.comments[0].body.startswith("Looks good.")


async def test_a_sticky_comment_is_replaced_and_only_ours(stage: Stage) -> None:
    pull = stage.bump()
    foreign = stage.hub.comment(pull, OWNER, "<!-- opswarm:sticky=review -->")
    await (await stage.plan("comment_put", "a", number=1, body="First", sticky="review")).whole()
    act = await stage.plan("comment_put", "b", number=1, body="Second", sticky="review")
    assert act.plan.summary.startswith("Replace")
    await act.whole()
    assert len(pull.comments) == 2 and "Second" in pull.comments[1].body and "First" not in pull.comments[1].body
    assert foreign.body == "<!-- opswarm:sticky=review -->"


async def test_somebody_elses_comment_with_our_key_is_not_ours(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("comment_put", number=1, body="Hello")
    stage.hub.comment(pull, OWNER, "Hello <!-- opswarm:key=key-1 -->")
    assert await act.probe() is Happened.NO


async def test_a_mark_of_ours_cant_be_smuggled_into_a_body(stage: Stage) -> None:
    stage.bump()
    error = await stage.refused("comment_put", number=1, body="x <!--  OPSWARM:key=other -->")
    assert "mark of ours" in str(error)


async def test_a_review_goes_to_the_lines_of_the_head_that_was_looked_at(stage: Stage) -> None:
    from mcp_servers.github.actions.talking import LineComment

    pull = stage.bump()
    lines = [LineComment(path=RELEASE, line=3, body="Why?")]
    act = await stage.plan(
        "pull_review", number=1, head_sha=pull.head_sha, verdict="request_changes", body="Please", comments=lines
    )
    assert act.plan.risk is Risk.RISKY and f"at {RELEASE}:3" in act.plan.preview
    await act.whole()
    assert pull.reviews[0].state == "CHANGES_REQUESTED" and pull.line_comments[0].body == "Why?"
    error = await stage.refused("pull_review", number=1, head_sha="0" * 40, verdict="comment", body="x")
    assert isinstance(error, Conflict) and "Look at it again" in str(error)


async def test_nobody_judges_what_is_their_own(stage: Stage) -> None:
    pull = stage.bump()
    pull.user = US
    error = await stage.refused("pull_review", number=1, head_sha=pull.head_sha, verdict="approve", body="x")
    assert "is ours" in str(error)


async def test_a_pull_request_is_merged_with_what_it_changes_shown(stage: Stage) -> None:
    pull = stage.bump()
    stage.hub.check(pull.head_sha, "lint", "success")
    act = await stage.plan("pull_merge", number=1, head_sha=pull.head_sha)
    assert act.plan.risk is Risk.RISKY and "+  tag: 10.10.0" in act.plan.preview and "CAUTION" not in act.plan.preview
    assert act.plan.touches == (Merge("main", Limits().merge(act.plan.touches[0]).changes),)  # type: ignore[arg-type]
    await act.whole()
    assert pull.merged and stage.git.blob(stage.git.entry("main", RELEASE).sha) == NEW.encode()  # type: ignore[union-attr]


async def test_a_merge_with_checks_that_did_not_pass_says_so_first(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("pull_merge", number=1, head_sha=pull.head_sha)
    assert act.plan.preview.startswith("CAUTION: its checks are none yet.")


async def test_what_was_pushed_after_the_plan_is_not_merged(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("pull_merge", number=1, head_sha=pull.head_sha)
    stage.git.commit_files("renovate/jellyfin", {"kubernetes/apps/evil.yaml": "x"}, "Later", RENOVATE.person)
    with pytest.raises(Conflict, match="Head branch was modified"):
        await act.perform()
    assert not pull.merged and await act.probe() is Happened.NO


async def test_a_conflict_and_a_draft_are_not_merged(stage: Stage) -> None:
    pull = stage.bump()
    pull.draft = True
    assert "is a draft" in str(await stage.refused("pull_merge", number=1, head_sha=pull.head_sha))
    pull.draft = False
    stage.git.commit_files("main", {RELEASE: "image: other\n"}, "Other", OWNER.person)
    assert "conflicts with main" in str(await stage.refused("pull_merge", number=1, head_sha=pull.head_sha))


@pytest.mark.parametrize(
    "files",
    [
        {".github/workflows/evil.yaml": "on: push\n"},
        {RELEASE: NEW, "kubernetes/flux/cluster.yaml": "kind: Evil\n"},
        {"README.md": "x\n"},
        {"kubernetes/apps/.gitattributes": "* filter=evil\n"},
        {"kubernetes/apps/%2e%2e/x.yaml": "x\n"},
        {
            "kubernetes/apps/media/jellyfin/ks.yaml": None,
            "scripts/ks.yaml": FILES["kubernetes/apps/media/jellyfin/ks.yaml"],
        },
        {"kubernetes/flux/cluster.yaml": None, "kubernetes/apps/cluster.yaml": FILES["kubernetes/flux/cluster.yaml"]},
    ],
)
async def test_attack_a_pull_request_that_reaches_outside_the_roots_is_not_merged(
    stage: Stage, files: dict[str, Any]
) -> None:
    pull = stage.bump(files=files)
    stage.hub.check(pull.head_sha, "lint", "success")
    error = await stage.refused("pull_merge", number=1, head_sha=pull.head_sha)
    assert isinstance(error, PermissionDenied) and error.rule.startswith("limit.path")


async def test_attack_a_file_outside_hidden_on_the_second_page_is_found(stage: Stage) -> None:
    files: dict[str, str | bytes | None] = {f"kubernetes/apps/many/{n:03}.yaml": f"n: {n}\n" for n in range(120)}
    pull = stage.bump(files={**files, "zzz.sh": "rm\n"})
    assert isinstance(await stage.refused("pull_merge", number=1, head_sha=pull.head_sha), PermissionDenied)


def _odd(stage: Stage, mode: str, path: str, sha: str) -> str:
    """A branch with one entry that is no plain file."""
    main = stage.git.branches()["main"]
    tree = stage.git.write_tree(stage.git.commit(main).tree, [(mode, path, sha)])
    head = stage.git.put_commit(tree, [main], "Odd", RENOVATE.person)
    stage.git.set_ref("refs/heads/renovate/odd", head)
    stage.hub.open_pull(RENOVATE, "Odd", "renovate/odd")
    return head


@pytest.mark.parametrize("whole", [True, False], ids=["listed whole", "tree too large"])
async def test_attack_a_symlink_out_of_the_roots_is_not_merged(stage: Stage, whole: bool) -> None:
    stage.hub.most_entries = 100_000 if whole else 5
    head = _odd(stage, "120000", "kubernetes/apps/link", stage.git.put_blob(b"../../.github"))
    error = await stage.refused("pull_merge", number=1, head_sha=head)
    assert isinstance(error, PermissionDenied) and error.rule in ("limit.path.symlink", "limit.path.git")


async def test_attack_a_submodule_is_not_merged(stage: Stage) -> None:
    head = _odd(stage, "160000", "kubernetes/apps/sub", "1" * 40)
    error = await stage.refused("pull_merge", number=1, head_sha=head)
    assert isinstance(error, PermissionDenied) and error.rule == "limit.path.submodule"


async def test_attack_a_file_written_through_a_symlink_of_the_tree_is_refused(stage: Stage) -> None:
    main = stage.git.branches()["main"]
    link = ("120000", "kubernetes/apps/out", stage.git.put_blob(b"../flux"))
    tree = stage.git.write_tree(stage.git.commit(main).tree, [link])
    stage.git.set_ref("refs/heads/main", stage.git.put_commit(tree, [main], "Link", OWNER.person))
    files = [edit("kubernetes/apps/OUT/cluster.yaml", "kind: Evil\n")]
    error = await stage.refused("commit_files", branch="fix/x", message="Fix it", files=files)
    assert isinstance(error, PermissionDenied) and error.rule == "limit.path.symlink"


async def test_files_are_committed_together_on_a_branch_that_is_made_for_it(stage: Stage) -> None:
    files = [
        edit(),
        edit("kubernetes/apps/media/jellyfin/ks.yaml", None, delete=True),
        edit("kubernetes/apps/new.yaml", "a: 1\n"),
    ]
    act = await stage.plan("commit_files", branch="fix/jellyfin", message="Bump jellyfin\n\nWhy.", files=files)
    assert act.plan.risk is Risk.SAFE and "The branch is made from main" in act.plan.preview
    assert "-  tag: 10.9.1\n+  tag: 10.10.0" in act.plan.preview
    done = await act.whole()
    tip = stage.git.branches()["fix/jellyfin"]
    assert done.after["sha"] == tip and stage.git.commit(tip).parents == (stage.git.branches()["main"],)
    assert {d.path: d.status for d in stage.git.diff("main", tip)} == {
        RELEASE: "modified",
        "kubernetes/apps/media/jellyfin/ks.yaml": "removed",
        "kubernetes/apps/new.yaml": "added",
    }
    await (
        await stage.plan("commit_files", "key-2", branch="fix/jellyfin", message="More", files=[edit(content="x\n")])
    ).whole()


async def test_a_file_that_runs_still_runs_after_a_rename(stage: Stage) -> None:
    main = stage.git.branches()["main"]
    script = ("100755", "kubernetes/apps/run.sh", stage.git.put_blob(b"#!/bin/sh\n"))
    tree = stage.git.write_tree(stage.git.commit(main).tree, [script])
    stage.git.set_ref("refs/heads/main", stage.git.put_commit(tree, [main], "Script", OWNER.person))
    files = [edit("kubernetes/apps/go.sh", None, renamed_from="kubernetes/apps/run.sh")]
    await (await stage.plan("commit_files", branch="fix/x", message="Rename", files=files)).whole()
    entry = stage.git.entry("fix/x", "kubernetes/apps/go.sh")
    assert entry is not None and entry.mode == "100755"
    assert stage.git.entry("fix/x", "kubernetes/apps/run.sh") is None


async def test_a_branch_that_moved_since_the_plan_is_not_overwritten(stage: Stage) -> None:
    stage.git.commit_files("fix/x", {"kubernetes/apps/a.yaml": "1\n"}, "One", OWNER.person, start="main")
    act = await stage.plan("commit_files", branch="fix/x", message="Two", files=[edit()])
    tip = stage.git.commit_files("fix/x", {"kubernetes/apps/b.yaml": "1\n"}, "Between", OWNER.person)
    with pytest.raises(InvalidInput, match="fast forward"):
        await act.perform()
    assert stage.git.branches()["fix/x"] == tip and await act.probe() is Happened.NO


@pytest.mark.parametrize(
    "branch",
    ["main", "master", "refs/heads/main", "fix/../main", "renovate/x", "HEAD:main", "Main", "fix/x.lock", "fix/ x"],
)
async def test_attack_no_commit_goes_to_a_branch_that_is_not_ours(stage: Stage, branch: str) -> None:
    error = await stage.refused("commit_files", branch=branch, message="Fix", files=[edit()])
    assert isinstance(error, PermissionDenied) and error.rule.startswith("limit.branch")
    assert isinstance(await stage.refused("branch_create", branch=branch), PermissionDenied)


CALLS: dict[str, dict[str, Any]] = {
    "comment_put": {"number": 1, "body": "Looks good."},
    "issue_create": {"title": "Disk fills", "body": "It does."},
    "pull_review": {"number": 1, "verdict": "comment", "body": "Looks good."},
    "pull_close": {"number": 1},
    "pull_merge": {"number": 1},
    "pull_create": {"branch": "fix/x", "title": "Fix it", "body": "Because."},
    "branch_create": {"branch": "fix/new"},
    "commit_files": {"branch": "fix/jellyfin", "message": "Bump", "files": [edit()]},
}


async def prepared(stage: Stage, tool: str) -> Act:
    pull = stage.bump()
    stage.git.commit_files("fix/x", {RELEASE: NEW}, "Fix", US.person, start="main")
    head = {"head_sha": stage.git.branches()[pull.head]} if tool in ("pull_review", "pull_merge") else {}
    return await stage.plan(tool, **head, **CALLS[tool])


@pytest.mark.parametrize("tool", sorted(CALLS))
async def test_attack_no_action_gets_past_a_pause_that_comes_after_all_was_asked(stage: Stage, tool: str) -> None:
    act = await prepared(stage, tool)
    before = stage.state()
    await act.paused()
    assert stage.state() == before


def test_every_action_is_tried_during_a_pause(stage: Stage) -> None:
    assert {name for name, spec in stage.tools.items() if spec.action is not None} == set(CALLS)


@pytest.mark.parametrize(
    "path",
    [".github/workflows/x.yaml", "README.md", "kubernetes/apps/../flux/cluster.yaml", "/kubernetes/apps/x",
     "kubernetes//apps/x", "kubernetes/apps/.git/config", "kubernetes/flux/cluster.yaml", "kubernetes/apps/\u202ex"],
)  # fmt: skip
async def test_attack_no_commit_reaches_outside_the_roots(stage: Stage, path: str) -> None:
    error = await stage.refused("commit_files", branch="fix/x", message="Fix", files=[edit(path, "x\n")])
    assert isinstance(error, PermissionDenied | InvalidInput)
    renamed = [edit("kubernetes/apps/x.yaml", "x\n", renamed_from=path)]
    error = await stage.refused("commit_files", branch="fix/x", message="Fix", files=renamed)
    assert isinstance(error, PermissionDenied | InvalidInput | NotFound)


async def test_a_commit_that_says_two_things_is_refused(stage: Stage) -> None:
    for files in (
        [edit(), edit()],
        [edit(content="x", delete=True)],
        [edit(content=None)],
        [edit(content=VALUES)],
        [edit(), edit(path=RELEASE.upper())],
    ):
        await stage.refused("commit_files", branch="fix/x", message="Fix", files=files)
    big = [edit(content="x\n" * 40_000)]
    assert isinstance(await stage.refused("commit_files", branch="fix/x", message="Fix", files=big), LimitExceeded)


async def test_a_person_sees_what_would_be_hidden_in_a_commit(stage: Stage) -> None:
    act = await stage.plan("commit_files", branch="fix/x", message="Fix", files=[edit(content="a: \u202eevil\n")])
    assert "\\u202eevil" in act.plan.preview and "\u202e" not in act.plan.preview


async def test_a_branch_is_made_and_found(stage: Stage) -> None:
    await (await stage.plan("branch_create", branch="fix/new")).whole()
    assert stage.git.branches()["fix/new"] == stage.git.branches()["main"]
    assert isinstance(await stage.refused("branch_create", branch="fix/new"), Conflict)


async def test_a_pull_request_is_opened_from_a_branch_of_ours(stage: Stage) -> None:
    stage.git.commit_files("fix/x", {RELEASE: NEW}, "Fix", US.person, start="main")
    act = await stage.plan("pull_create", branch="fix/x", title="Fix it", body="Because.")
    assert RELEASE in act.plan.preview
    await act.whole()
    assert isinstance(await stage.refused("pull_create", branch="fix/x", title="Again", body="B"), Conflict)
    stage.bump()
    stage.hub.issues[2].state = "closed"
    error = await stage.refused("pull_create", branch="renovate/jellyfin", title="Theirs", body="B")
    assert isinstance(error, PermissionDenied)


async def test_closing_is_safe_for_what_is_ours_only(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("pull_close", number=1)
    assert act.plan.risk is Risk.RISKY
    await act.whole()
    assert pull.state == "closed" and not pull.merged
    ours = stage.bump("10.11.0", branch="renovate/two")
    ours.user = US
    assert (await stage.plan("pull_close", number=2)).plan.risk is Risk.SAFE


async def test_who_closed_it_decides_whether_we_did(stage: Stage) -> None:
    pull = stage.bump()
    act = await stage.plan("pull_close", number=1)
    pull.state, pull.closed_by = "closed", OWNER
    assert await act.probe() is Happened.UNKNOWN


async def test_an_issue_is_opened_once(stage: Stage) -> None:
    act = await stage.plan("issue_create", title="Disk fills", body="It does.", labels=["alert"])
    await act.whole()
    error = await stage.refused("issue_create", title="DISK fills", body="Again")
    assert isinstance(error, Conflict) and "#1" in str(error)


async def test_nothing_is_changed_in_a_repository_that_is_not_named(tmp_path: Path) -> None:
    async with staged(tmp_path, repositories=("casa/other",)) as stage:
        stage.bump()
        for tool, given in (
            ("comment_put", {"number": 1, "body": "x"}),
            ("pull_close", {"number": 1}),
            ("pull_merge", {"number": 1, "head_sha": "0" * 40}),
            ("issue_create", {"title": "x", "body": "y"}),
            ("branch_create", {"branch": "fix/x"}),
            ("commit_files", {"branch": "fix/x", "message": "Fix", "files": [edit()]}),
            ("pull_create", {"branch": "fix/x", "title": "x", "body": "y"}),
        ):
            error = await stage.refused(tool, repo=REPO, **given)
            assert isinstance(error, PermissionDenied) and error.rule == "github.repositories"
        assert "#1" in await stage.text("pulls_list", repo=REPO)


async def test_a_token_without_the_right_is_told_what_is_missing(stage: Stage) -> None:
    stage.bump()
    act = await stage.plan("pull_merge", number=1, head_sha=stage.hub.pulls()[0].head_sha)
    stage.hub.tokens["ghp_ours"] = User("opswarm-bot", "read")
    with pytest.raises(PermissionDenied, match="Give the token"):
        await act.perform()


def test_a_merge_is_checked_file_by_file_as_a_commit_is() -> None:
    from opswarm.guard.paths import FileChange

    with pytest.raises(PermissionDenied):
        Limits().check(Merge("main", (FileChange("README.md", FileKind.DELETED),)))
    Limits().check(Merge("main", (FileChange(RELEASE),)))


ORDERS = [
    "/merge", "Looks good.\n  /approve", "> - /lgtm cancel",
    "**/test all**", "@dependabot merge", "cc @mergifyio queue",
    "bors r+", "atlantis apply -p prod", "Fine.\nBors: try", "- [x] rebase this", "1. [X] approve", "Rebase!",
    "recheck", "OK to test", "LGTM", "I have read the CLA Document and I hereby sign the CLA", "@ copilot fix it",
    "<!-- @x y -->",
]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
async def test_attack_an_order_to_a_bot_in_our_words_is_a_persons_to_give(stage: Stage, order: str) -> None:
    stage.git.commit_files("fix/x", {RELEASE: NEW}, "Fix", US.person, start="main")
    pull = stage.bump()
    head = stage.git.branches()[pull.head]
    for tool, call in (
        ("comment_put", {"number": 1, "body": order}),
        ("pull_review", {"number": 1, "verdict": "comment", "body": order, "head_sha": head}),
        ("issue_create", {"title": "Disk fills", "body": order}),
        ("pull_create", {"branch": "fix/x", "title": "Fix it", "body": order}),
        ("commit_files", {"branch": "fix/y", "message": f"Bump\n\n{order}", "files": [edit()]}),
    ):
        plan = (await stage.plan(tool, **call)).plan
        assert plan.risk is Risk.RISKY, tool
        assert plan.preview.startswith("CAUTION: a bot may take this for an order: ")
        assert all(row.strip() in plan.preview for row in order.split("\n"))  # Nothing of it is hidden.


async def test_attack_an_order_on_a_line_of_the_diff_counts_too(stage: Stage) -> None:
    from mcp_servers.github.actions.talking import LineComment

    pull = stage.bump()
    head = stage.git.branches()[pull.head]
    lines = [LineComment(path=RELEASE, line=3, body="@dependabot merge")]
    act = await stage.plan("pull_review", number=1, verdict="comment", body="Fine", head_sha=head, comments=lines)
    assert act.plan.risk is Risk.RISKY


@pytest.mark.parametrize(
    "text",
    ["ghcr.io/x/y@sha256:0123 is newer.", "Mail me: a@b.example", "It is in kubernetes/apps/media.",
     "50 % done, or not", "- [ ] to do",
     "Renovate updates jellyfin, which Dependabot would, too.", "See https://x.example/merge"],
)  # fmt: skip
async def test_plain_words_are_no_order(stage: Stage, text: str) -> None:
    stage.bump()
    assert (await stage.plan("comment_put", number=1, body=text)).plan.risk is Risk.SAFE


@pytest.mark.parametrize("words", ["Bump [skip ci]", "Bump\n\nskip-checks: true", "[No CI] Bump", "x\n\n***NO_CI***"])
async def test_attack_a_commit_that_no_check_runs_for_is_a_persons(stage: Stage, words: str) -> None:
    act = await stage.plan("commit_files", branch="fix/y", message=words, files=[edit()])
    assert act.plan.risk is Risk.RISKY and "CAUTION: no check runs with this: " in act.plan.preview


async def test_attack_a_strangers_commit_does_not_become_a_branch_of_ours(stage: Stage) -> None:
    old = stage.git.branches()["main"]
    stage.git.commit_files("main", {"kubernetes/apps/x.yaml": "a: 1\n"}, "Add x", OWNER.person)
    pull = stage.bump()
    for start in (stage.git.branches()[pull.head], pull.head):
        error = await stage.refused("branch_create", branch="fix/new", start=start)
        assert isinstance(error, PermissionDenied) and error.rule == "github.start"
    await (await stage.plan("branch_create", branch="fix/new", start=old)).whole()
    assert stage.git.branches()["fix/new"] == old


async def test_attack_a_pull_request_of_others_commits_is_a_persons(stage: Stage) -> None:
    stage.git.commit_files("fix/x", {RELEASE: NEW}, "Fix", RENOVATE.person, start="main")
    act = await stage.plan("pull_create", branch="fix/x", title="Fix it", body="Because.")
    assert act.plan.risk is Risk.RISKY and act.plan.preview.startswith("CAUTION: it has commits by")


async def test_attack_nothing_of_a_merge_is_out_of_sight(stage: Stage) -> None:
    long = VALUES + "".join(f"line{n}: {n}\n" for n in range(200)) + "evil: true\n" + "hidden: \u202etrue\n"
    pull = stage.bump(files={RELEASE: long})
    preview = (await stage.plan("pull_merge", number=1, head_sha=stage.git.branches()[pull.head])).plan.preview
    assert "+evil: true" in preview and "+line199" in preview and "\\u202etrue" in preview


async def test_attack_what_github_shows_no_patch_of_is_not_merged(stage: Stage) -> None:
    pull = stage.bump(files={"kubernetes/apps/media/jellyfin/app/blob.yaml": b"\x00\x01\x02"})
    error = await stage.refused("pull_merge", number=1, head_sha=stage.git.branches()[pull.head])
    assert isinstance(error, LimitExceeded) and "shows no patch" in str(error)


async def test_attack_a_file_that_is_made_to_run_is_said_so(stage: Stage) -> None:
    path = "kubernetes/apps/media/jellyfin/app/run.sh"
    sha = _odd(stage, "100755", path, stage.git.put_blob(b"#!/bin/sh\n"))
    preview = (await stage.plan("pull_merge", number=1, head_sha=sha)).plan.preview
    assert f"mode of {path}: 100755" in preview


def test_attack_a_text_of_blank_lines_takes_no_time() -> None:
    began = time.monotonic()
    for unit in ("\n", " \n", "> ", "@ ", "-\n", "[ ", " ", "[\n", "/ "):
        assert order_in(unit * 30_000) == "" and skips_checks(unit * 30_000) == ""
    assert time.monotonic() - began < 5
