"""Handlers that read and write Git: contents, trees, commits, references, comparisons."""

from __future__ import annotations

import base64
import binascii

from lab.github import shapes
from lab.github.git import Entry, GitFailed
from lab.github.http import Call, Failed, Made, Page, invalid, not_found
from lab.github.state import Json


def repository(call: Call) -> Json:
    return shapes.repository(call)


def branches(call: Call) -> Page:
    found = [
        {"name": name, "commit": {"sha": sha}, "protected": name in call.hub.protected}
        for name, sha in sorted(call.hub.git.branches().items())
    ]
    return Page(found)


def branch(call: Call) -> Json:
    name = call.path["branch"]
    sha = call.hub.git.branches().get(name)
    if sha is None:
        raise Failed(404, "Branch not found")
    commit = shapes.commit(call, call.hub.git.commit(sha))
    return {"name": name, "commit": commit, "protected": name in call.hub.protected}


def tags(call: Call) -> Page:
    listed = sorted(call.hub.git.tags().items(), reverse=True)
    return Page([{"name": name, "commit": {"sha": call.hub.git.resolve(name)}} for name, _ in listed])


def _sha(call: Call, ref: str) -> str:
    if (sha := call.hub.git.resolve(ref)) is None:
        raise Failed(404, f"No commit found for the ref {ref}")
    return sha


def contents(call: Call) -> Json | Page:
    path = call.path.get("path", "").strip("/")
    sha = _sha(call, call.query.get("ref") or "main")
    git = call.hub.git
    if not path:
        return Page([_listed(e) for e in git.tree(sha)])
    found = git.entry(sha, path)
    if found is None:
        raise not_found()
    if found.kind == "tree":
        return Page([_listed(e, path) for e in git.tree(found.sha)])
    if found.kind == "commit":
        return {"type": "submodule", "path": path, "sha": found.sha, "size": 0, "name": path.rsplit("/", 1)[-1]}
    data = git.blob(found.sha)
    if found.mode == "120000":
        link = {"type": "symlink", "path": path, "sha": found.sha, "size": len(data), "target": data.decode()}
        return {**link, "name": path.rsplit("/", 1)[-1]}
    return shapes.content(call, path, found.sha, data)


def _listed(entry: Entry, folder: str = "") -> Json:
    path = f"{folder}/{entry.path}" if folder else entry.path
    kind = {"tree": "dir", "commit": "submodule"}.get(entry.kind, "symlink" if entry.mode == "120000" else "file")
    return {"type": kind, "name": entry.path, "path": path, "sha": entry.sha, "size": entry.size or 0}


def tree(call: Call) -> Json:
    sha = call.hub.git.resolve(call.path["sha"]) or call.path["sha"]
    try:
        entries = call.hub.git.tree(sha, recursive=bool(call.query.get("recursive")))
    except GitFailed:
        raise not_found() from None
    most = call.hub.most_entries
    shown = [
        {"path": e.path, "mode": e.mode, "type": e.kind, "sha": e.sha} | ({} if e.size is None else {"size": e.size})
        for e in entries[:most]
    ]
    return {"sha": sha, "tree": shown, "truncated": len(entries) > most}


def make_tree(call: Call) -> Made:
    call.must_push()
    git, base = call.hub.git, call.body.get("base_tree")
    changes = []
    for item in call.body.get("tree") or []:
        mode, path, sha = item.get("mode", "100644"), item.get("path", ""), item.get("sha")
        if mode not in ("100644", "100755", "040000", "160000", "120000"):
            raise invalid("tree.mode is not valid")
        if "content" in item:
            sha = git.put_blob(item["content"].encode())
        if sha is not None and mode != "160000" and not git.has(sha):
            raise invalid(f"tree.sha {sha} is not a valid blob")
        changes.append((mode, path, sha))
    try:
        made = git.write_tree(str(base) if base else None, changes)
    except GitFailed as error:
        raise invalid(f"GitRPC::BadObjectState: {error}") from None
    return Made({"sha": made, "tree": [], "truncated": False})


def blob(call: Call) -> Json:
    sha = call.path["sha"]
    if not call.hub.git.has(sha):
        raise not_found()
    data = call.hub.git.blob(sha)
    return {"sha": sha, "size": len(data), "encoding": "base64", "content": base64.encodebytes(data).decode()}


def make_blob(call: Call) -> Made:
    call.must_push()
    text = call.text("content")
    try:
        data = base64.b64decode(text) if call.body.get("encoding") == "base64" else text.encode()
    except binascii.Error:
        raise invalid("content is not valid Base64") from None
    return Made({"sha": call.hub.git.put_blob(data)})


def git_commit(call: Call) -> Json:
    sha = call.path["sha"]
    if not call.hub.git.has(sha):
        raise not_found()
    return shapes.git_commit(call.hub.git.commit(sha))


def make_commit(call: Call) -> Made:
    call.must_push()
    git, parents = call.hub.git, call.body.get("parents") or []
    if not git.has(call.required("tree")) or not all(git.has(p) for p in parents):
        raise invalid("Tree SHA does not exist")
    sha = git.put_commit(call.required("tree"), parents, call.required("message"), call.user.person)
    return Made(shapes.git_commit(git.commit(sha)))


def commits(call: Call) -> Page:
    sha = _sha(call, call.query.get("sha") or "main")
    return Page([shapes.commit(call, c) for c in call.hub.git.log(sha, path=call.query.get("path", ""))])


def commit(call: Call) -> Json:
    git = call.hub.git
    one = git.commit(_sha(call, call.path["ref"]))
    before = one.parents[0] if one.parents else git.write_tree(None, [])
    files = git.diff(before, one.sha)
    return {**shapes.commit(call, one), "files": [shapes.file(call, f) for f in files]}


def compare(call: Call) -> Json:
    base, _, head = call.path["span"].partition("...")
    git = call.hub.git
    old, new = _sha(call, base), _sha(call, head)
    fork = git.merge_base(old, new)
    if fork is None:
        raise not_found()
    ahead, behind = git.count(old, new), git.count(new, old)
    state = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}.get(
        (ahead > 0, behind > 0), "diverged"
    )
    return {
        "status": state,
        "ahead_by": ahead,
        "behind_by": behind,
        "total_commits": ahead,
        "base_commit": shapes.commit(call, git.commit(old)),
        "merge_base_commit": shapes.commit(call, git.commit(fork)),
        "commits": [shapes.commit(call, c) for c in git.log(new, exclude=old)[::-1]][:250],
        "files": [shapes.file(call, f) for f in git.diff(fork, new)][:300],
    }


def ref(call: Call) -> Json:
    name = f"refs/{call.path['ref']}"
    found = call.hub.git.branches() if name.startswith("refs/heads/") else call.hub.git.tags()
    sha = found.get(name.split("/", 2)[2])
    if sha is None:
        raise not_found()
    return _ref(name, sha)


def _ref(name: str, sha: str) -> Json:
    return {"ref": name, "object": {"type": "commit", "sha": sha}}


def make_ref(call: Call) -> Made:
    call.must_push()
    git, name, sha = call.hub.git, call.required("ref"), call.required("sha")
    if not name.startswith("refs/") or name.count("/") < 2 or not git.is_valid_ref(name):
        raise invalid(f"{name} is not a valid ref name")
    if not git.has(sha):
        raise invalid("Object does not exist")
    if git.branches().get(name.removeprefix("refs/heads/")):
        raise invalid("Reference already exists")
    try:
        git.set_ref(name, sha, old="")
    except GitFailed:
        raise invalid("Reference update failed") from None
    call.hub.tell("create", {"ref": name.removeprefix("refs/heads/"), "ref_type": "branch"})
    return Made(_ref(name, sha))


def move_ref(call: Call) -> Json:
    call.must_push()
    git, name, sha = call.hub.git, f"refs/{call.path['ref']}", call.required("sha")
    short = name.removeprefix("refs/heads/")
    old = git.branches().get(short)
    if old is None:
        raise invalid("Reference does not exist")
    if not git.has(sha):
        raise invalid("Object does not exist")
    if short in call.hub.protected:
        raise invalid("Changes must be made through a pull request.")
    if not call.body.get("force") and not git.is_ancestor(old, sha):
        raise invalid("Update is not a fast forward")
    git.set_ref(name, sha)
    call.hub.tell("push", {"ref": name, "before": old, "after": sha})
    for pull in call.hub.pulls():
        if pull.state == "open" and pull.head == short:
            pull.head_sha = sha
            call.hub.tell("pull_request", {"action": "synchronize", "number": pull.number, "before": old, "after": sha})
    return _ref(name, sha)


def delete_ref(call: Call) -> Made:
    call.must_push()
    name = f"refs/{call.path['ref']}"
    short = name.removeprefix("refs/heads/")
    if short not in call.hub.git.branches():
        raise invalid("Reference does not exist")
    if short in call.hub.protected or short == "main":
        raise invalid("Cannot delete this branch")
    call.hub.git.delete_ref(name)
    return Made(None, 204)
