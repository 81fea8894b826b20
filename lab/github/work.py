"""Handlers of checks, statuses, workflow runs, releases, search, apps, and the one GraphQL query."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from lab.github import shapes
from lab.github.http import Call, Failed, Made, Page, invalid, not_found
from lab.github.state import Hub, Issue, Json, Pull, Run, User


def check_runs(call: Call) -> Page:
    sha = call.hub.git.resolve(call.path["ref"])
    if sha is None:
        raise invalid(f"No commit found for SHA: {call.path['ref']}")
    return Page([shapes.check_run(call, c) for c in call.hub.latest_checks(sha)], "check_runs")


def combined_status(call: Call) -> Json:
    sha = call.hub.git.resolve(call.path["ref"])
    if sha is None:
        raise not_found()
    found = call.hub.latest_statuses(sha)
    states = {s.state for s in found}
    state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    return {"state": state, "sha": sha, "total_count": len(found), "statuses": [shapes.status(s) for s in found]}


def runs(call: Call) -> Page:
    query = call.query
    found = [
        r
        for r in call.hub.runs[::-1]
        if query.get("branch", r.branch) == r.branch
        and query.get("head_sha", r.sha) == r.sha
        and query.get("status") in (None, r.status, r.conclusion)
    ]
    return Page([shapes.run(call, r) for r in found], "workflow_runs")


def _run(call: Call) -> Run:
    found = next((r for r in call.hub.runs if r.id == int(call.path["id"])), None)
    if found is None:
        raise not_found()
    return found


def run(call: Call) -> Json:
    return shapes.run(call, _run(call))


def jobs(call: Call) -> Page:
    return Page([shapes.job(call, _run(call))], "jobs")


def job_log(call: Call) -> Response:
    """GitHub sends one elsewhere for the log, to where the token must not go."""
    return RedirectResponse(f"{call.root}/lab/logs/{_run(call).id}?sig=once", 302)


def stored_log(hub: Hub) -> Callable[[Request], Response]:
    """The endpoint of the store of logs, which takes no token of GitHub's."""

    def endpoint(request: Request) -> Response:
        found = next((r for r in hub.runs if r.id == request.path_params["id"]), None)
        if found is None or "authorization" in request.headers:
            return PlainTextResponse("InvalidAuthenticationInfo", 400)
        return PlainTextResponse(found.log)

    return endpoint


def releases(call: Call) -> Page:
    shown = [r for r in call.hub.releases if not r.draft or call.user.pushes]
    shown.sort(key=lambda r: r.published, reverse=True)
    return Page([shapes.release(call, r) for r in shown])


def release_of_tag(call: Call) -> Json:
    found = next((r for r in call.hub.releases if r.tag == call.path["tag"] and not r.draft), None)
    if found is None:
        raise not_found()
    return shapes.release(call, found)


def latest_release(call: Call) -> Json:
    shown = [r for r in call.hub.releases if not r.draft and not r.prerelease]
    if not shown:
        raise not_found()
    return shapes.release(call, max(shown, key=lambda r: r.published))


_QUALIFIER = re.compile(r'(-?)([a-z-]+):("[^"]*"|\S+)')


def search_issues(call: Call) -> Page:
    """Words, and the qualifiers repo, is, type, state, author, label."""
    text = call.query.get("q", "")
    if not text:
        raise invalid("Validation Failed", {"resource": "Search", "field": "q", "code": "missing"})
    qualifiers = [(name, value.strip('"')) for _, name, value in _QUALIFIER.findall(text)]
    words = _QUALIFIER.sub(" ", text).lower().split()
    found = [i for i in call.hub.issues.values() if all(_fits(call, i, q) for q in qualifiers)]
    found = [i for i in found if all(w in f"{i.title} {i.body}".lower() for w in words)]
    return Page([shapes.issue(call, i) for i in found[::-1]], "items")


def _fits(call: Call, one: Issue, qualifier: tuple[str, str]) -> bool:
    name, value = qualifier
    match name:
        case "repo":
            return value.lower() == call.hub.full_name.lower()
        case "is" | "type" | "state":
            kinds = {"pr": isinstance(one, Pull), "issue": not isinstance(one, Pull), "merged": isinstance(one, Pull)}
            return kinds.get(value, one.state == value)
        case "author":
            return one.user.login == value
        case "label":
            return value in one.labels
    return True


def search_code(call: Call) -> Page:
    words = _QUALIFIER.sub(" ", call.query.get("q", "")).lower().split()
    head = call.hub.git.branches().get("main")
    found = []
    for entry in call.hub.git.tree(head, recursive=True) if head else []:
        if entry.kind != "blob" or entry.mode == "120000":
            continue
        text = call.hub.git.blob(entry.sha).decode(errors="replace")
        if words and all(w in text.lower() or w in entry.path.lower() for w in words):
            at = text.lower().find(words[0])
            fragment = text[max(0, at - 60) : at + 120] if at >= 0 else ""
            found.append(
                {
                    "name": entry.path.rsplit("/", 1)[-1],
                    "path": entry.path,
                    "sha": entry.sha,
                    "repository": shapes.repository(call),
                    "text_matches": [{"property": "content", "fragment": fragment}],
                }
            )
    return Page(found, "items")


def search_commits(call: Call) -> Page:
    words = _QUALIFIER.sub(" ", call.query.get("q", "")).lower().split()
    found = [c for c in call.hub.git.log("main") if all(w in c.message.lower() for w in words)]
    return Page([{**shapes.commit(call, c), "repository": shapes.repository(call)} for c in found], "items")


def me(call: Call) -> Json:
    if call.user.kind == "Bot":
        raise Failed(403, "Resource not accessible by integration")
    return {**shapes.user(call.user), "name": call.user.login}


def app(call: Call) -> Json:
    number = _app_id(call)
    return {"id": int(number), "slug": "opswarm", "name": "Opswarm"}


def _app_id(call: Call) -> str:
    kind, _, number = call.user.login.partition(":")
    if kind != "app":
        raise Failed(401, "A JSON web token could not be decoded")
    return number


def installations(call: Call) -> Page:
    _app_id(call)
    return Page([{"id": 77, "account": {"login": call.hub.owner}, "permissions": {"contents": "write"}}])


def limits(call: Call) -> Json:
    return {"resources": {}, "rate": {}}


def review_threads(call: Call) -> Json:
    """The threads of one pull request, as GraphQL has them: REST does not tell which are resolved."""
    given = call.body.get("variables") or {}
    query = str(call.body.get("query") or "")
    if "reviewThreads" not in query:
        return {"data": None, "errors": [{"message": "The lab answers questions about reviewThreads only."}]}
    found = call.hub.issues.get(int(given.get("number", 0)))
    if not isinstance(found, Pull):
        said = f"Could not resolve to a PullRequest with the number of {given.get('number')}."
        return {"data": {"repository": {"pullRequest": None}}, "errors": [{"type": "NOT_FOUND", "message": said}]}
    threads: dict[int, list[Any]] = {}
    for one in found.line_comments:
        threads.setdefault(one.thread, []).append(one)
    nodes = [
        {
            "id": f"PRRT_{thread}",
            "isResolved": thread in found.resolved,
            "isOutdated": False,
            "path": comments[0].path,
            "line": comments[0].line,
            "comments": {
                "totalCount": len(comments),
                "nodes": [
                    {
                        "author": {"login": c.user.login.removesuffix("[bot]"), "__typename": c.user.kind},
                        "authorAssociation": c.user.association,
                        "body": c.body,
                        "createdAt": c.created,
                    }
                    for c in comments
                ],
            },
        }
        for thread, comments in threads.items()
    ]
    page = {"hasNextPage": False, "endCursor": None}
    shown = {"totalCount": len(nodes), "pageInfo": page, "nodes": nodes}
    return {"data": {"repository": {"pullRequest": {"reviewThreads": shown}}}}


BOT = User("opswarm[bot]", "write", "Bot")


def installation_token(issue_token: Any) -> Any:
    """The handler that gives an installation its token; `issue_token` makes one for a user."""

    def handler(call: Call) -> Made:
        _app_id(call)
        return Made({"token": issue_token(BOT), "expires_at": "2099-01-01T00:00:00Z", "permissions": {}})

    return handler
