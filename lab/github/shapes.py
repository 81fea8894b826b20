"""The JSON of GitHub's objects: the fields that clients of the REST API go by."""

from __future__ import annotations

import base64

from lab.github.git import CommitInfo, Delta
from lab.github.http import Call
from lab.github.state import (
    CheckRun,
    Comment,
    Hub,
    Issue,
    Json,
    LineComment,
    Pull,
    Release,
    Review,
    Run,
    Status,
    User,
)


def user(who: User) -> Json:
    return {"login": who.login, "id": who.id, "type": who.kind, "site_admin": False, "html_url": f"/{who.login}"}


def repository(call: Call) -> Json:
    hub = call.hub
    return {
        "id": 1,
        "name": hub.name,
        "full_name": hub.full_name,
        "description": hub.description,
        "private": True,
        "fork": False,
        "archived": False,
        "owner": {"login": hub.owner, "id": 1, "type": "User"},
        "default_branch": "main",
        "html_url": f"{call.root}/{hub.full_name}",
        "allow_squash_merge": True,
        "allow_merge_commit": True,
        "allow_rebase_merge": True,
        "permissions": {
            "admin": call.user.permission == "admin",
            "push": call.user.pushes,
            "pull": True,
        },
    }


def issue(call: Call, one: Issue) -> Json:
    kind = "pull" if isinstance(one, Pull) else "issues"
    shown: Json = {
        "id": 500_000 + one.number,
        "number": one.number,
        "title": one.title,
        "body": one.body or None,
        "user": user(one.user),
        "author_association": one.user.association,
        "state": one.state,
        "state_reason": one.reason,
        "labels": [{"id": 1, "name": name, "color": "ededed"} for name in one.labels],
        "assignees": [],
        "milestone": None,
        "locked": False,
        "comments": len(one.comments),
        "created_at": one.created,
        "updated_at": one.updated,
        "closed_at": one.closed,
        "closed_by": user(one.closed_by) if one.closed_by else None,
        "html_url": f"{call.root}/{call.hub.full_name}/{kind}/{one.number}",
    }
    if isinstance(one, Pull):
        url = f"{call.root}/repos/{call.hub.full_name}/pulls/{one.number}"
        shown["pull_request"] = {"url": url, "merged_at": one.closed if one.merged else None}
    return shown


def pull(call: Call, one: Pull, *, whole: bool = False) -> Json:
    """A pull request; `whole` adds what only the answer for one has."""
    hub = call.hub
    hub.refresh(one)
    shown = issue(call, one)
    for name in ("comments", "closed_by", "state_reason", "pull_request"):
        del shown[name]
    repo = {"full_name": hub.full_name, "name": hub.name, "fork": False, "owner": {"login": hub.owner}}
    shown |= {
        "draft": one.draft,
        "merged_at": one.closed if one.merged else None,
        "merge_commit_sha": one.merge_sha,
        "head": {"ref": one.head, "sha": one.head_sha, "label": f"{hub.owner}:{one.head}", "repo": repo},
        "base": {"ref": one.base, "sha": one.base_sha, "label": f"{hub.owner}:{one.base}", "repo": repo},
        "requested_reviewers": [],
        "auto_merge": None,
    }
    if whole:
        files = diff(hub, one)
        clean = one.merged or hub.git.merged_tree(one.base_sha, one.head_sha) is not None
        shown |= {
            "merged": one.merged,
            "merged_by": user(one.merged_by) if one.merged_by else None,
            "mergeable": None if one.merged else clean,
            "mergeable_state": "unknown" if one.merged else _mergeable_state(hub, one, clean),
            "comments": len(one.comments),
            "review_comments": len(one.line_comments),
            "commits": len(commits(hub, one)),
            "additions": sum(f.additions for f in files),
            "deletions": sum(f.deletions for f in files),
            "changed_files": len(files),
        }
    return shown


def _mergeable_state(hub: Hub, one: Pull, clean: bool) -> str:
    if not clean:
        return "dirty"
    if one.draft:
        return "draft"
    if missing(hub, one):
        return "blocked"
    passed = all(c.conclusion in ("success", "skipped") for c in hub.latest_checks(one.head_sha))
    return "clean" if passed else "unstable"


def missing(hub: Hub, one: Pull) -> list[str]:
    """The required checks of the base that have not passed."""
    passed = {c.name for c in hub.latest_checks(one.head_sha) if c.conclusion in ("success", "neutral", "skipped")}
    passed |= {s.context for s in hub.latest_statuses(one.head_sha) if s.state == "success"}
    return [name for name in hub.required if name not in passed] if one.base in hub.protected else []


def diff(hub: Hub, one: Pull) -> list[Delta]:
    """What it changes, since its branch left the base."""
    fork = hub.git.merge_base(one.base_sha, one.head_sha)
    return hub.git.diff(fork or one.base_sha, one.head_sha)


def commits(hub: Hub, one: Pull) -> list[CommitInfo]:
    return hub.git.log(one.head_sha, exclude=one.base_sha)[::-1]


def file(call: Call, one: Delta) -> Json:
    shown: Json = {
        "sha": one.sha,
        "filename": one.path,
        "status": one.status,
        "additions": one.additions,
        "deletions": one.deletions,
        "changes": one.additions + one.deletions,
    }
    if one.previous:
        shown["previous_filename"] = one.previous
    if one.patch:
        shown["patch"] = one.patch
    return shown


def commit(call: Call, one: CommitInfo) -> Json:
    who = {"name": one.author.name, "email": one.author.email, "date": one.date}
    known = call.hub.users.get(one.author.name)
    return {
        "sha": one.sha,
        "commit": {
            "author": who,
            "committer": who,
            "message": one.message,
            "tree": {"sha": one.tree},
            "verification": {"verified": False, "reason": "unsigned"},
        },
        "author": user(known) if known else None,
        "committer": user(known) if known else None,
        "parents": [{"sha": p} for p in one.parents],
        "html_url": f"{call.root}/{call.hub.full_name}/commit/{one.sha}",
    }


def git_commit(one: CommitInfo) -> Json:
    who = {"name": one.author.name, "email": one.author.email, "date": one.date}
    return {
        "sha": one.sha,
        "author": who,
        "committer": who,
        "message": one.message,
        "tree": {"sha": one.tree},
        "parents": [{"sha": p} for p in one.parents],
    }


def comment(call: Call, one: Comment, number: int) -> Json:
    return {
        "id": one.id,
        "user": user(one.user),
        "body": one.body,
        "author_association": one.user.association,
        "created_at": one.created,
        "updated_at": one.updated,
        "html_url": f"{call.root}/{call.hub.full_name}/issues/{number}#issuecomment-{one.id}",
    }


def line_comment(call: Call, one: LineComment) -> Json:
    return {
        **comment(call, one, 0),
        "path": one.path,
        "line": one.line,
        "side": one.side,
        "commit_id": one.commit,
        "pull_request_review_id": one.review,
        **({"in_reply_to_id": one.thread} if one.thread != one.id else {}),
    }


def review(call: Call, one: Review) -> Json:
    return {
        "id": one.id,
        "user": user(one.user),
        "body": one.body,
        "state": one.state,
        "commit_id": one.commit,
        "submitted_at": one.submitted,
        "author_association": one.user.association,
    }


def check_run(call: Call, one: CheckRun) -> Json:
    page = f"{call.root}/{call.hub.full_name}"
    return {
        "id": one.id,
        "name": one.name,
        "head_sha": one.sha,
        "status": one.status,
        "conclusion": one.conclusion,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:01:00Z" if one.conclusion else None,
        "output": {"title": one.title or None, "summary": one.summary or None, "annotations_count": 0},
        "app": {"slug": "github-actions", "name": "GitHub Actions"},
        "details_url": f"{page}/actions/runs/{one.run}/job/{one.run}" if one.run else f"{page}/runs/{one.id}",
        "html_url": f"{page}/runs/{one.id}",
    }


def status(one: Status) -> Json:
    return {
        "id": one.id,
        "context": one.context,
        "state": one.state,
        "description": one.description or None,
        "target_url": None,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }


def run(call: Call, one: Run) -> Json:
    return {
        "id": one.id,
        "name": one.name,
        "display_title": one.name,
        "head_branch": one.branch,
        "head_sha": one.sha,
        "event": one.event,
        "status": one.status,
        "conclusion": one.conclusion,
        "run_number": 1,
        "run_attempt": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:01:00Z",
        "html_url": f"{call.root}/{call.hub.full_name}/actions/runs/{one.id}",
    }


def job(call: Call, one: Run) -> Json:
    step = {"name": one.step, "status": one.status, "conclusion": one.conclusion, "number": 2}
    return {
        "id": one.id,
        "run_id": one.id,
        "name": one.job,
        "head_sha": one.sha,
        "status": one.status,
        "conclusion": one.conclusion,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:01:00Z" if one.conclusion else None,
        "steps": [{"name": "Set up job", "status": "completed", "conclusion": "success", "number": 1}, step],
    }


def release(call: Call, one: Release) -> Json:
    return {
        "id": one.id,
        "tag_name": one.tag,
        "name": one.name,
        "body": one.body,
        "draft": one.draft,
        "prerelease": one.prerelease,
        "created_at": one.published,
        "published_at": one.published,
        "author": {"login": call.hub.owner, "type": "User"},
        "html_url": f"{call.root}/{call.hub.full_name}/releases/tag/{one.tag}",
    }


def content(call: Call, path: str, sha: str, data: bytes) -> Json:
    return {
        "type": "file",
        "name": path.rsplit("/", 1)[-1],
        "path": path,
        "sha": sha,
        "size": len(data),
        "encoding": "base64",
        "content": base64.encodebytes(data).decode(),
    }
