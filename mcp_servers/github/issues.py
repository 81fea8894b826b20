"""Reading issues, workflow runs, and searching."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_servers.github import names
from mcp_servers.github.client import Client, Quota
from mcp_servers.github.names import Limit, Number, PageNumber, Ref, Repo
from mcp_servers.github.pulls import State
from mcp_servers.github.strangers import Strangers, line, who
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import fit_lines, fit_text, table
from opswarm.mcp.tools import ToolOutput

_MOST_COMMENT = 1_500
_FAILED = frozenset({"failure", "timed_out", "cancelled", "action_required", "startup_failure"})
_STAMP = re.compile(r"^﻿?\d{4}-\d\d-\d\dT[\d:.]+Z ?")
_TROUBLE = re.compile(r"(?i)\berror\b|##\[error\]|\bfail(?:ed|ure)?\b|\bfatal\b|panic:|traceback|exception")


class Issues:
    """Issues, runs and search of a GitHub."""

    def __init__(self, client: Client, strangers: Strangers) -> None:
        self._client, self._strangers = client, strangers

    async def issues_list(
        self,
        repo: Repo = "",
        state: State = "open",
        labels: Annotated[str, Field(description="Only with all of these, with commas.")] = "",
        limit: Limit = 30,
        page: PageNumber = 1,
    ) -> ToolOutput:
        """List issues (without pull requests), the newest first."""
        where = names.repository(repo, self._client.settings)
        kind = "issues" if self._client.settings.kind == "gitea" else ""
        found = await self._client.page(
            f"{where}/issues", page=page, size=names.bounded(limit), state=state, labels=labels, type=kind
        )
        kept = [i for i in found.items if not i.get("pull_request")]
        rows = [
            (
                f"#{i['number']}",
                line(i.get("state"), 20),
                await self._strangers.title(where, i.get("user"), i.get("title")),
                who(i.get("user")),
                ",".join(line(one.get("name"), 40) for one in i.get("labels") or ()),
                str(i.get("updated_at") or "")[:10],
            )
            for i in kept
        ]
        more = f"(there are more: page {page + 1})" if found.more else ""
        listed = [_brief(i, row[2]) for i, row in zip(kept, rows, strict=True)]
        data = {"issues": listed, "next_page": page + 1 if found.more else None}
        if not rows:
            return ToolOutput(f"No {state} issue matches on this page. {more}".strip(), data)
        header = ("ISSUE", "STATE", "TITLE", "AUTHOR", "LABELS", "UPDATED")
        text = fit_lines(table(header, rows), "issues", "labels", head=1)
        return ToolOutput(f"{text}\n{more}".strip(), data)

    async def issue_get(self, number: Number, repo: Repo = "") -> ToolOutput:
        """Show one issue with its comments."""
        where = names.repository(repo, self._client.settings)
        issue = await self._client.get(f"{where}/issues/{number}")
        comments = (await self._client.all(f"{where}/issues/{number}/comments")).items
        user = issue.get("user")
        labels = ", ".join(line(one.get("name"), 50) for one in issue.get("labels") or ())
        title = await self._strangers.title(where, user, issue.get("title"))
        lines = [
            f"#{number} {title}",
            f"{line(issue.get('state'), 20)}, by {who(user)}{f', labels: {labels}' if labels else ''}",
            *await self._strangers.words(where, user, issue.get("body")),
        ]
        for comment in comments:
            lines.append(f"comment by {who(comment.get('user'))} at {str(comment.get('created_at'))[:16]}")
            lines += await self._strangers.words(where, comment.get("user"), comment.get("body"), _MOST_COMMENT)
        data = {**_brief(issue, title), "comments": len(comments)}
        return ToolOutput(fit_text("\n".join(lines), "nothing: look at it on its page"), data)

    async def runs_list(
        self,
        repo: Repo = "",
        branch: Ref = "",
        status: Annotated[str, Field(description="Such as failure, success, in_progress.", max_length=30)] = "",
        limit: Limit = 20,
    ) -> ToolOutput:
        """List workflow runs, the newest first."""
        where = names.repository(repo, self._client.settings)
        if branch:
            names.ref(branch, "branch")
        found = await self._client.page(
            f"{where}/actions/runs", size=names.bounded(limit), key="workflow_runs", branch=branch, status=status
        )
        rows = [
            (
                str(r["id"]),
                line(r.get("name"), 60),
                line(r.get("conclusion") or r.get("status"), 30),
                line(r.get("head_branch"), 60),
                str(r.get("head_sha"))[:10],
                str(r.get("created_at") or "")[:16],
            )
            for r in found.items
        ]
        kept = ("id", "name", "status", "conclusion", "head_sha")
        data = {"runs": [{k: r.get(k) for k in kept} for r in found.items]}
        if not rows:
            return ToolOutput("No workflow run matches.", data)
        header = ("RUN", "WORKFLOW", "RESULT", "BRANCH", "COMMIT", "AT")
        return ToolOutput(fit_lines(table(header, rows), "runs", "branch or status", head=1, total=found.total), data)

    async def run_failures(
        self,
        run: Annotated[int, Field(description="Id from runs_list or pull_checks.", ge=1)],
        repo: Repo = "",
        lines: Annotated[int, Field(description="Lines of each failed job's log.", ge=1, le=500)] = 60,
    ) -> ToolOutput:
        """Show which jobs and steps of a workflow run failed, with the ends of their logs."""
        where = names.repository(repo, self._client.settings)
        jobs = (await self._client.all(f"{where}/actions/runs/{run}/jobs", key="jobs", filter="latest")).items
        failed = [j for j in jobs if j.get("conclusion") in _FAILED]
        if not failed:
            states = ", ".join(f"{line(j.get('name'), 60)} {j.get('conclusion') or j.get('status')}" for j in jobs)
            return ToolOutput(f"No job of the run {run} has failed: {states or 'it has no jobs yet'}.", {"failed": []})
        told = [f"{len(failed)} of {len(jobs)} jobs of the run {run} failed"]
        data: list[dict[str, Any]] = []
        for job in failed:
            steps = [line(s.get("name"), 100) for s in job.get("steps") or () if s.get("conclusion") in _FAILED]
            step = ", ".join(steps) or "unknown"
            told.append(f"job {line(job.get('name'), 100)}: {job.get('conclusion')}, at step {step}")
            try:
                log = _log_lines(await self._client.log(f"{where}/actions/jobs/{int(job['id'])}/logs"), lines)
            except NotFound:
                log = ["(its log is gone, or not there yet)"]
            told += [f"  {row}" for row in log]
            data.append({"job": line(job.get("name"), 100), "steps": steps, "log": log})
        return ToolOutput(fit_lines(told, "lines", "lines"), {"failed": data})

    async def github_search(
        self,
        query: Annotated[str, Field(description="Words and GitHub's qualifiers.", max_length=256)],
        kind: Annotated[Literal["code", "issues", "pulls", "commits"], Field(description="What.")] = "code",
        repo: Repo = "",
        everywhere: Annotated[bool, Field(description="All of GitHub, not one repository.")] = False,
        limit: Limit = 20,
    ) -> ToolOutput:
        """Search code, issues, pull requests or commits."""
        if not query.strip():
            raise InvalidInput("query: there is nothing to search for.")
        if self._client.settings.kind == "gitea":
            raise InvalidInput("Gitea has no such search.", hint="Use issues_list and tree_list with match.")
        whole = query if everywhere else f"{query} repo:{names.full_name(repo, self._client.settings)}"
        whole += {"pulls": " is:pr", "issues": " is:issue"}.get(kind, "")
        path = {"pulls": "issues"}.get(kind, kind)
        found = await self._client.page(f"/search/{path}", size=names.bounded(limit), key="items", q=whole)
        told, data = [], []
        for one in found.items:
            text, entry = await self._hit(kind, one)
            told += text
            data.append(entry)
        if not told:
            only = " Only the default branch is searched." if kind == "code" else ""
            return ToolOutput(f"Nothing is found for {line(whole)}.{only}", {"hits": []})
        return ToolOutput(fit_lines(told, "lines", "more words", total=len(told)), {"hits": data, "total": found.total})

    async def _hit(self, kind: str, one: Any) -> tuple[list[str], dict[str, Any]]:
        if kind == "code":
            repo = one["repository"]["full_name"]
            parts = [line(m.get("fragment"), 200) for m in one.get("text_matches") or ()][:2]
            return [f"{line(repo)}: {line(one['path'], 300)}", *(f"  {p}" for p in parts)], {
                "repo": repo, "path": one["path"], "sha": one.get("sha"),
            }  # fmt: skip
        if kind == "commits":
            repo, message = one["repository"]["full_name"], line(one["commit"]["message"].split("\n", 1)[0])
            return [f"{line(repo)} {one['sha'][:10]} {message}"], {"repo": repo, "sha": one["sha"], "message": message}
        where = "/repos/" + str(one.get("repository_url") or one.get("html_url") or "").partition("/repos/")[2]
        title = await self._strangers.title(where, one.get("user"), one.get("title"))
        return [f"#{one['number']} {line(one.get('state'), 20)} {title} ({who(one.get('user'))})"], _brief(one, title)

    async def github_limits(self) -> ToolOutput:
        """Show how many requests GitHub still allows us, and until when."""
        await self._client.get("/rate_limit")
        quotas = self._client.quotas
        if not quotas:
            return ToolOutput("This API tells no rate limits.", {"limits": []})
        data = [{"resource": q.resource, "limit": q.limit, "remaining": q.remaining, "reset": q.reset} for q in quotas]
        return ToolOutput("\n".join(limit_line(q) for q in quotas), {"limits": data})


def limit_line(quota: Quota) -> str:
    at = datetime.fromtimestamp(quota.reset, UTC)
    return f"{line(quota.resource, 30)}: {quota.remaining} of {quota.limit} left until {at:%H:%M} UTC"


def _log_lines(text: str, most: int) -> list[str]:
    """The end of a log, without its times, and before it the lines that speak of trouble."""
    rows = [_STAMP.sub("", row).rstrip()[:400] for row in clean(text).rstrip("\n").split("\n")]
    tail = rows[-most:]
    trouble = [row for row in rows[:-most] if _TROUBLE.search(row)][-10:]
    head = ["(earlier lines that speak of trouble)", *trouble, "(the end)"] if trouble else []
    cut = [f"({len(tail)} of {len(rows)} lines shown)"] if len(tail) < len(rows) else []
    return [*head, *tail, *cut]


def _brief(issue: Any, title: str) -> dict[str, Any]:
    return {
        "number": issue["number"],
        "title": title,
        "state": issue.get("state"),
        "author": who(issue.get("user")),
        "labels": [line(one.get("name"), 50) for one in issue.get("labels") or ()],
    }
