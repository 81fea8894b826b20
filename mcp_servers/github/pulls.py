"""Reading pull requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_servers.github import names
from mcp_servers.github.checks import verdict
from mcp_servers.github.client import Client
from mcp_servers.github.names import Limit, Number, PageNumber, Repo
from mcp_servers.github.strangers import Strangers, line, who
from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import fit_lines, fit_text, table
from opswarm.mcp.tools import ToolOutput

_FIELDS = ("body", "commits", "checks", "reviews")
_THREADS = """
query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) { pullRequest(number: $number) { reviewThreads(first: 100) {
    totalCount
    nodes { isResolved isOutdated path line comments(first: 20) { totalCount nodes {
      author { login __typename } body createdAt } } }
  } } }
}
"""
_MOST_COMMENT = 1_500

State = Annotated[Literal["open", "closed", "all"], Field(description="open, closed or all.")]


class Pulls:
    """The pull requests of a GitHub."""

    def __init__(self, client: Client, strangers: Strangers) -> None:
        self._client, self._strangers = client, strangers

    async def pulls_list(
        self,
        repo: Repo = "",
        state: State = "open",
        author: Annotated[str, Field(description="Only by this account, e.g. renovate[bot].")] = "",
        label: Annotated[str, Field(description="Only with this label.")] = "",
        base: Annotated[str, Field(description="Only into this branch.")] = "",
        limit: Limit = 30,
        page: PageNumber = 1,
    ) -> ToolOutput:
        """List pull requests, the newest first."""
        where = names.repository(repo, self._client.settings)
        size = names.bounded(limit)
        wanted_base = names.ref(base, "base") if base else ""
        found = await self._client.page(f"{where}/pulls", page=page, size=size, state=state, base=wanted_base)
        kept = [p for p in found.items if _fits(p, author, label)]
        rows = [
            (
                f"#{p['number']}",
                _state(p),
                await self._strangers.title(where, p.get("user"), p.get("title")),
                who(p.get("user")),
                line(p["head"]["ref"], 80),
                ",".join(line(one.get("name"), 40) for one in p.get("labels") or ()),
                str(p.get("updated_at") or "")[:10],
            )
            for p in kept
        ]
        more = f"(there are more: page {page + 1})" if found.more else ""
        listed = [_brief(p, row[2]) for p, row in zip(kept, rows, strict=True)]
        data = {"pulls": listed, "next_page": page + 1 if found.more else None}
        if not rows:
            of = f" ({len(found.items)} on this page have another author or label)" if found.items else ""
            return ToolOutput(f"No {state} pull request matches in {where[7:]}{of}. {more}".strip(), data)
        header = ("PR", "STATE", "TITLE", "AUTHOR", "BRANCH", "LABELS", "UPDATED")
        text = fit_lines(table(header, rows), "pull requests", "author, label or limit", head=1)
        return ToolOutput(f"{text}\n{more}".strip(), data)

    async def pull_get(
        self,
        number: Number,
        repo: Repo = "",
        fields: Annotated[
            list[str] | None, Field(description="Of body, commits, checks, reviews; default: all but commits.")
        ] = None,
    ) -> ToolOutput:
        """Show one pull request: state, description, checks, reviews, whether it can be merged."""
        wanted = ("body", "checks", "reviews") if fields is None else tuple(fields)
        if unknown := [f for f in wanted if f not in _FIELDS]:
            raise InvalidInput(f"fields: there is no {line(unknown[0], 40)!r}.", hint=f"Of {', '.join(_FIELDS)}.")
        where = names.repository(repo, self._client.settings)
        pull = await self._client.get(f"{where}/pulls/{number}")
        title = await self._strangers.title(where, pull.get("user"), pull.get("title"))
        lines = [f"#{number} {title}", *_facts(pull)]
        data = {k: pull.get(k) for k in ("mergeable", "mergeable_state")} | _brief(pull, title)
        sha = names.sha(str(pull["head"]["sha"]))
        if "checks" in wanted:
            checked = await verdict(self._client, where, sha)
            lines += [f"checks: {checked}", *checked.lines(15)]
            data["checks"] = checked.data()
        if "reviews" in wanted:
            reviews = (await self._client.all(f"{where}/pulls/{number}/reviews")).items
            standing = _standing(reviews)
            told = ", ".join(f"{name} {state.lower()}" for name, state in standing.items())
            lines.append(f"reviews: {told or 'none'}")
            data["reviews"] = standing
        if "commits" in wanted:
            commits = (await self._client.all(f"{where}/pulls/{number}/commits", most=250)).items
            lines += ["commits:", *(f"- {c['sha'][:10]} {_first(c)}" for c in commits)]
            data["commits"] = [{"sha": c["sha"], "message": _first(c)} for c in commits]
        if "body" in wanted:
            lines += ["description:", *await self._strangers.words(where, pull.get("user"), pull.get("body"))]
        return ToolOutput(fit_text("\n".join(lines), "fields"), data)

    async def pull_files(
        self,
        number: Number,
        repo: Repo = "",
        path: Annotated[str, Field(description="Only files whose path begins so.")] = "",
        patch_lines: Annotated[int, Field(description="Lines of each patch, 0 to 2000.", ge=0, le=2000)] = 60,
        limit: Limit = 30,
        page: PageNumber = 1,
    ) -> ToolOutput:
        """Show what a pull request changes, file by file, with patches."""
        where = names.repository(repo, self._client.settings)
        size = names.bounded(limit)
        found = await self._client.page(f"{where}/pulls/{number}/files", page=page, size=size)
        kept = [f for f in found.items if str(f.get("filename", "")).startswith(path)]
        lines: list[str] = []
        for one in kept:
            lines += file_lines(one, patch_lines)
        if found.more:
            lines.append(f"(there are more files: page {page + 1})")
        data = {"files": [file_data(f) for f in kept], "next_page": page + 1 if found.more else None}
        if not kept:
            return ToolOutput(f"No file of #{number} matches, of {len(found.items)} on this page.", data)
        return ToolOutput(fit_lines(lines, "lines", "path, patch_lines or limit"), data)

    async def pull_checks(self, number: Number, repo: Repo = "") -> ToolOutput:
        """Check runs and commit statuses of a pull request's head, as one verdict: passing, failing, pending or
        none yet."""
        where = names.repository(repo, self._client.settings)
        pull = await self._client.get(f"{where}/pulls/{number}")
        sha = names.sha(str(pull["head"]["sha"]))
        checked = await verdict(self._client, where, sha)
        text = "\n".join([f"Checks of #{number} at {sha[:10]}: {checked}", *checked.lines(100)])
        return ToolOutput(fit_text(text, "nothing: these are all"), {"number": number, **checked.data()})

    async def pull_reviews(self, number: Number, repo: Repo = "") -> ToolOutput:
        """Show reviews, comments, and the review threads that are not resolved."""
        where = names.repository(repo, self._client.settings)
        reviews = (await self._client.all(f"{where}/pulls/{number}/reviews")).items
        comments = (await self._client.all(f"{where}/issues/{number}/comments")).items
        lines: list[str] = []
        data: dict[str, Any] = {"reviews": _standing(reviews)}
        for review in reviews:
            lines.append(f"review by {who(review.get('user'))}: {line(review.get('state'), 30).lower()}")
            if review.get("body"):
                user = review.get("user")
                lines += await self._strangers.words(where, user, review.get("body"), _MOST_COMMENT)
        for comment in comments:
            lines.append(f"comment by {who(comment.get('user'))} at {str(comment.get('created_at'))[:16]}")
            user = comment.get("user")
            lines += await self._strangers.words(where, user, comment.get("body"), _MOST_COMMENT)
        open_threads, told = await self._threads(where, number)
        data |= {"comments": len(comments), "unresolved_threads": open_threads}
        whole = [*told, *lines] or [f"#{number} has no reviews and no comments."]
        return ToolOutput(fit_text("\n".join(whole), "nothing: look at it on its page"), data)

    async def _threads(self, where: str, number: int) -> tuple[int | None, list[str]]:
        """How many are unresolved, and what they say. None where that can't be told."""
        if self._client.settings.kind != "github":
            return None, ["(whether threads are resolved is not told by this API)"]
        owner, _, name = where.removeprefix("/repos/").partition("/")
        found = await self._client.graphql(_THREADS, owner=owner, name=name, number=number)
        threads = found["repository"]["pullRequest"]["reviewThreads"]
        waiting = [t for t in threads["nodes"] if not t["isResolved"]]
        lines = [f"unresolved threads: {len(waiting)} of {threads['totalCount']}"] if threads["totalCount"] else []
        if threads["totalCount"] > len(threads["nodes"]):
            lines.append(f"(only the first {len(threads['nodes'])} were looked at)")
        for thread in waiting:
            outdated = " (outdated)" if thread.get("isOutdated") else ""
            lines.append(f"thread at {line(thread.get('path'))}:{thread.get('line') or '?'}{outdated}")
            for comment in thread["comments"]["nodes"]:
                user = _author(comment.get("author"))
                lines.append(f"  {who(user)}:")
                lines += await self._strangers.words(where, user, comment.get("body"), _MOST_COMMENT)
        return len(waiting), lines


def _author(author: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """GraphQL names an App without the `[bot]` that REST gives it."""
    if not author:
        return None
    suffix = "[bot]" if author.get("__typename") == "Bot" else ""
    return {"login": f"{author.get('login')}{suffix}"}


def _fits(pull: Mapping[str, Any], author: str, label: str) -> bool:
    by = str((pull.get("user") or {}).get("login") or "")
    labels = {str(one.get("name")).lower() for one in pull.get("labels") or ()}
    return (not author or by.lower() == author.lower()) and (not label or label.lower() in labels)


def _state(pull: Mapping[str, Any]) -> str:
    if pull.get("merged_at") or pull.get("merged"):
        return "merged"
    return "draft" if pull.get("draft") and pull.get("state") == "open" else line(pull.get("state"), 20)


def _brief(pull: Mapping[str, Any], title: str) -> dict[str, Any]:
    return {
        "number": pull["number"],
        "title": title,
        "state": _state(pull),
        "author": who(pull.get("user")),
        "head": pull["head"]["ref"],
        "head_sha": pull["head"]["sha"],
        "base": pull["base"]["ref"],
        "labels": [line(one.get("name"), 50) for one in pull.get("labels") or ()],
        "updated_at": pull.get("updated_at"),
    }


def _facts(pull: Mapping[str, Any]) -> list[str]:
    head, base = pull["head"], pull["base"]
    fork = (head.get("repo") or {}).get("full_name")
    outside = f" from the fork {line(fork, 140)}" if fork and fork != (base.get("repo") or {}).get("full_name") else ""
    can = {True: "yes", False: "no, it conflicts", None: "GitHub is still working it out"}[pull.get("mergeable")]
    if pull.get("merged"):
        can = f"it is merged as {str(pull.get('merge_commit_sha'))[:10]} by {who(pull.get('merged_by'))}"
    labels = ", ".join(line(one.get("name"), 50) for one in pull.get("labels") or ())
    size = f"+{pull.get('additions', '?')} -{pull.get('deletions', '?')} in {pull.get('changed_files', '?')} files"
    return [
        f"{_state(pull)}, by {who(pull.get('user'))}: {line(head['ref'])} into {line(base['ref'])}{outside}, {size}",
        f"head_sha {head['sha']}",
        f"mergeable: {can} ({line(pull.get('mergeable_state'), 30) or 'unknown'})",
        *([f"labels: {labels}"] if labels else []),
    ]


def _standing(reviews: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last word of each reviewer; a comment does not lift an earlier verdict."""
    found: dict[str, str] = {}
    for review in reviews:
        name, state = who(review.get("user")), str(review.get("state")).upper()
        if state != "PENDING" and (state != "COMMENTED" or name not in found):
            found[name] = line(state, 30)
    return found


def _first(commit: Mapping[str, Any]) -> str:
    """The subject of a commit's message."""
    return line(str(commit["commit"].get("message") or "").split("\n", 1)[0])


def file_lines(file: Mapping[str, Any], most: int) -> list[str]:
    """One file of a diff, with `most` lines of its patch."""
    moved = f" (was {line(file['previous_filename'])})" if file.get("previous_filename") else ""
    counts = f"+{file.get('additions', 0)} -{file.get('deletions', 0)}"
    lines = [f"{line(file.get('status'), 20)} {line(file.get('filename'), 300)}{moved} {counts}"]
    patch = file.get("patch")
    if patch is None:
        if file.get("changes"):
            lines.append("(no patch: it is binary or too large)")
    elif most:
        every = [f"  {text}".rstrip() for text in clean(patch).split("\n")]
        lines += every[:most]
        if len(every) > most:
            lines.append(f"  ({most} of {len(every)} lines of this patch shown; narrow by path, raise patch_lines)")
    return lines


def file_data(file: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("filename", "status", "additions", "deletions", "previous_filename", "sha")
    return {name: file[name] for name in kept if name in file}
