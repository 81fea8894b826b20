"""Handlers of issues and comments, which pull requests have too."""

from __future__ import annotations

from lab.github import shapes
from lab.github.http import Call, Failed, Made, Page, invalid, not_found
from lab.github.state import Comment, Issue, Json, Pull


def _of(call: Call) -> Issue:
    found = call.hub.issues.get(call.number)
    if found is None:
        raise not_found()
    return found


def issues(call: Call) -> Page:
    query = call.query
    state, wanted = query.get("state", "open"), [n for n in query.get("labels", "").split(",") if n]
    creator, since = query.get("creator", ""), query.get("since", "")
    found = [
        i
        for i in call.hub.issues.values()
        if state in ("all", i.state)
        and all(w in i.labels for w in wanted)
        and (not creator or i.user.login == creator)
        and i.updated >= since
    ]
    found.sort(key=lambda i: i.number, reverse=query.get("direction", "desc") == "desc")
    return Page([shapes.issue(call, i) for i in found])


def issue(call: Call) -> Json:
    return shapes.issue(call, _of(call))


def make_issue(call: Call) -> Made:
    labels = call.body.get("labels") or [] if call.user.pushes else []
    made = call.hub.open_issue(call.user, call.required("title"), call.text("body"), labels)
    call.hub.tell("issues", {"action": "opened", "number": made.number})
    return Made(shapes.issue(call, made))


def edit_issue(call: Call) -> Json:
    one = _of(call)
    if one.user != call.user:
        call.must_push()
    one.title, one.body = call.text("title", one.title), call.text("body", one.body)
    state = call.text("state", one.state)
    if state != one.state and not isinstance(one, Pull):
        closed = state == "closed"
        one.state, one.closed = state, call.hub.stamp() if closed else None
        one.closed_by = call.user if closed else None
        one.reason = call.text("state_reason", "completed") if closed else "reopened"
    one.updated = call.hub.stamp()
    return shapes.issue(call, one)


def comments(call: Call) -> Page:
    one, since = _of(call), call.query.get("since", "")
    return Page([shapes.comment(call, c, one.number) for c in one.comments if c.updated >= since])


def make_comment(call: Call) -> Made:
    one, body = _of(call), call.required("body")
    if len(body) > 65_536:
        raise invalid("Validation Failed", {"message": "body is too long (maximum is 65536 characters)"})
    made = call.hub.comment(one, call.user, body)
    call.hub.tell("issue_comment", {"action": "created", "number": one.number, "comment": made.id})
    return Made(shapes.comment(call, made, one.number))


def _comment(call: Call) -> tuple[Issue, Comment]:
    wanted = int(call.path["id"])
    for one in call.hub.issues.values():
        for comment in one.comments:
            if comment.id == wanted:
                return one, comment
    raise not_found()


def comment(call: Call) -> Json:
    one, found = _comment(call)
    return shapes.comment(call, found, one.number)


def edit_comment(call: Call) -> Json:
    one, found = _comment(call)
    if found.user != call.user and call.user.permission != "admin":
        raise Failed(403, "Must have admin rights to Repository.")
    found.body, found.updated = call.required("body"), call.hub.stamp()
    return shapes.comment(call, found, one.number)


def permission(call: Call) -> Json:
    call.must_push()
    known = call.hub.users.get(call.path["login"])
    if known is None:
        raise Failed(404, f"{call.path['login']} is not a user")
    level = {"none": "none"}.get(known.permission, known.permission)
    return {"permission": level, "role_name": level, "user": shapes.user(known)}
