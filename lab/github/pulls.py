"""Handlers of pull requests and their reviews."""

from __future__ import annotations

from typing import Any

from lab.github import shapes
from lab.github.http import Call, Failed, Made, Page, invalid, not_found
from lab.github.state import Json, LineComment, Pull, Review

_EVENTS = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}


def of(call: Call) -> Pull:
    found = call.hub.issues.get(call.number)
    if not isinstance(found, Pull):
        raise not_found()
    return call.hub.refresh(found)


def pulls(call: Call) -> Page:
    state, base = call.query.get("state", "open"), call.query.get("base", "")
    head = call.query.get("head", "").rpartition(":")[2]
    found = [
        p
        for p in call.hub.pulls()
        if state in ("all", p.state) and (not base or p.base == base) and (not head or p.head == head)
    ]
    key = "updated" if call.query.get("sort") == "updated" else "number"
    newest = call.query.get("direction", "desc" if key == "number" else "asc") == "desc"
    found.sort(key=lambda p: getattr(p, key), reverse=newest)
    return Page([shapes.pull(call, p) for p in found])


def pull(call: Call) -> Json:
    return shapes.pull(call, of(call), whole=True)


def make_pull(call: Call) -> Made:
    head, base = call.required("head").rpartition(":")[2], call.required("base")
    branches = call.hub.git.branches()
    for name, field in ((head, "head"), (base, "base")):
        if name not in branches:
            raise invalid("Validation Failed", {"resource": "PullRequest", "field": field, "code": "invalid"})
    if any(p.state == "open" and (p.head, p.base) == (head, base) for p in call.hub.pulls()):
        said = f"A pull request already exists for {call.hub.owner}:{head}."
        raise invalid("Validation Failed", {"resource": "PullRequest", "code": "custom", "message": said})
    if call.hub.git.count(branches[base], branches[head]) == 0:
        said = f"No commits between {base} and {head}"
        raise invalid("Validation Failed", {"resource": "PullRequest", "code": "custom", "message": said})
    made = call.hub.open_pull(
        call.user, call.required("title"), head, base=base, body=call.text("body"), draft=bool(call.body.get("draft"))
    )
    call.hub.tell("pull_request", {"action": "opened", "number": made.number})
    return Made(shapes.pull(call, made, whole=True))


def edit_pull(call: Call) -> Json:
    one = of(call)
    if one.user != call.user:
        call.must_push()
    one.title, one.body = call.text("title", one.title), call.text("body", one.body)
    state = call.text("state", one.state)
    if state != one.state:
        if one.merged:
            raise invalid("Validation Failed", "Cannot change the state of a merged pull request.")
        closed = state == "closed"
        one.state, one.closed = state, call.hub.stamp() if closed else None
        one.closed_by = call.user if closed else None
        call.hub.tell("pull_request", {"action": "closed" if closed else "reopened", "number": one.number})
    one.updated = call.hub.stamp()
    return shapes.pull(call, one, whole=True)


def merge(call: Call) -> Json:
    call.must_push()
    one, git = of(call), call.hub.git
    wanted = call.text("sha")
    if wanted and wanted != one.head_sha:
        raise Failed(409, "Head branch was modified. Review and try the merge again.")
    if one.state != "open" or one.draft:
        raise Failed(405, "Pull Request is not mergeable")
    if missing := shapes.missing(call.hub, one):
        raise Failed(405, f'Required status check "{missing[0]}" is expected.')
    tree = git.merged_tree(one.base_sha, one.head_sha)
    if tree is None:
        raise Failed(405, "Pull Request is not mergeable")
    title = call.text("commit_title") or f"{one.title} (#{one.number})"
    message = f"{title}\n\n{call.text('commit_message')}".strip()
    method = call.text("merge_method", "merge")
    if method not in ("merge", "squash", "rebase"):
        raise invalid("Validation Failed", {"resource": "PullRequest", "field": "merge_method", "code": "invalid"})
    if method == "rebase":
        at = one.base_sha
        for step in shapes.commits(call.hub, one):
            parent_tree = git.commit(step.parents[0]).tree if step.parents else None
            changes = [
                ("100644", f.path, None if f.status == "removed" else f.sha)
                for f in git.diff(parent_tree or step.parents[0], step.tree)
            ]
            at = git.put_commit(git.write_tree(git.commit(at).tree, changes), [at], step.message, step.author)
    else:
        parents = [one.base_sha] if method == "squash" else [one.base_sha, one.head_sha]
        at = git.put_commit(tree, parents, message, call.user.person)
    git.set_ref(f"refs/heads/{one.base}", at, old=one.base_sha)
    one.merged, one.merge_sha, one.merged_by = True, at, call.user
    one.state, one.closed, one.closed_by = "closed", call.hub.stamp(), call.user
    call.hub.tell("pull_request", {"action": "closed", "number": one.number, "merged": True})
    call.hub.tell("push", {"ref": f"refs/heads/{one.base}", "before": one.base_sha, "after": at})
    return {"sha": at, "merged": True, "message": "Pull Request successfully merged"}


def files(call: Call) -> Page:
    return Page([shapes.file(call, f) for f in shapes.diff(call.hub, of(call))][:3000])


def commits(call: Call) -> Page:
    return Page([shapes.commit(call, c) for c in shapes.commits(call.hub, of(call))][:250])


def reviews(call: Call) -> Page:
    return Page([shapes.review(call, r) for r in of(call).reviews])


def line_comments(call: Call) -> Page:
    return Page([shapes.line_comment(call, c) for c in of(call).line_comments])


def make_review(call: Call) -> Made:
    one, event = of(call), call.text("event")
    if event and event not in _EVENTS:
        raise invalid("Validation Failed", "Variable $event of type PullRequestReviewEvent was provided invalid value")
    if event == "APPROVE" and one.user == call.user:
        raise invalid("Unprocessable Entity", "Can not approve your own pull request")
    if event == "REQUEST_CHANGES" and one.user == call.user:
        raise invalid("Unprocessable Entity", "Can not request changes on your own pull request")
    body, given = call.text("body"), call.body.get("comments") or []
    if event in ("COMMENT", "REQUEST_CHANGES") and not body and not given:
        raise invalid("Unprocessable Entity", "Body can't be blank")
    sha = call.text("commit_id") or one.head_sha
    made = Review(
        call.hub.new_id(), call.hub.know(call.user), body, _EVENTS.get(event, "PENDING"), sha, call.hub.stamp()
    )
    lines = _lines(call, one)
    for item in given:
        path, line, side = item.get("path", ""), item.get("line"), item.get("side", "RIGHT")
        if path not in lines:
            raise invalid("Unprocessable Entity", "Path could not be resolved")
        if (side, line) not in lines[path]:
            raise invalid("Unprocessable Entity", "Line could not be resolved")
        add_line_comment(call.hub, one, call.user, path, line, str(item.get("body", "")), review=made.id, side=side)
    one.reviews.append(made)
    call.hub.tell("pull_request_review", {"action": "submitted", "number": one.number, "state": made.state.lower()})
    return Made(shapes.review(call, made), 200)


def add_line_comment(
    hub: Any, one: Pull, user: Any, path: str, line: int, body: str, *, review: int = 0, side: str = "RIGHT",
    thread: int = 0,
) -> LineComment:  # fmt: skip
    """Puts a comment on a line; with `thread` as an answer in it."""
    at, id = hub.stamp(), hub.new_id()
    made = LineComment(
        id, hub.know(user), body, at, at, path=path, line=line, side=side, commit=one.head_sha, review=review,
        thread=thread or id,
    )  # fmt: skip
    one.line_comments.append(made)
    return made


def _lines(call: Call, one: Pull) -> dict[str, set[tuple[str, int]]]:
    """Lines of each file that are part of the diff."""
    found: dict[str, set[tuple[str, int]]] = {}
    for delta in shapes.diff(call.hub, one):
        inside = found.setdefault(delta.path, set())
        old = new = 0
        for text in (delta.patch or "").splitlines():
            if text.startswith("@@"):
                left, right = text.split(" ")[1:3]
                old, new = int(left.lstrip("-").split(",")[0]), int(right.lstrip("+").split(",")[0])
                continue
            if text[:1] in (" ", "-"):
                inside.add(("LEFT", old))
                old += 1
            if text[:1] in (" ", "+"):
                inside.add(("RIGHT", new))
                new += 1
    return found
