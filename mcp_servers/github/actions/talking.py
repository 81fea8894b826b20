"""Writing to people: comments, reviews, issues."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_servers.github import names
from mcp_servers.github.actions import acting
from mcp_servers.github.actions.acting import TOOLSET, allowed, mark, marked, ours
from mcp_servers.github.actions.orders import caution, order_in
from mcp_servers.github.client import Client
from mcp_servers.github.names import Number, Repo
from mcp_servers.github.strangers import line
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import Conflict, InvalidInput
from opswarm.guard.risk import Risk
from opswarm.mcp.tools import ToolSpec

_STICKY = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_EVENTS = {"comment": "COMMENT", "approve": "APPROVE", "request_changes": "REQUEST_CHANGES"}
_MOST_INLINE = 30

Text = Annotated[str, Field(description="Markdown.", max_length=60_000)]


class LineComment(BaseModel):
    """A comment on one line of the diff."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(max_length=1024)
    line: int = Field(ge=1, description="Of the new file.")
    body: str = Field(max_length=10_000)


class Talking:
    """Comments, reviews and issues in the repositories where we may act."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def specs(self) -> list[ToolSpec]:
        """The tools; what needs a person's word is told by each plan."""
        comment = Action(self._comment, self._probe_comment, self._verify_comment, verify_seconds=30)
        issue = Action(self._issue, self._probe_issue, self._verify_issue, verify_seconds=30)
        specs = [
            ToolSpec(self.comment_put, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=comment),
            ToolSpec(self.issue_create, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=issue),
        ]
        if self._client.settings.kind == "github":
            review = Action(self._review, self._probe_review, self._verify_review, verify_seconds=30)
            specs.append(
                ToolSpec(
                    self.pull_review, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, risk_of=_risk, action=review
                )
            )
        return specs

    # -- comments ----------------------------------------------------------------------------------------------

    async def comment_put(
        self,
        number: Number,
        body: Text,
        repo: Repo = "",
        sticky: Annotated[str, Field(description="A name: our comment of this name is replaced.", max_length=40)] = "",
    ) -> Plan:
        """Comment on a pull request or an issue."""
        where, text = allowed(self._client, repo), acting.body(body)
        order = order_in(text)
        if sticky and not _STICKY.fullmatch(sticky):
            raise InvalidInput("sticky: a name has lower-case letters, digits and dashes.")
        issue = await self._client.get(f"{where}/issues/{number}")
        old = await self._sticky(where, number, sticky) if sticky else None
        what = "Replace our comment" if old else "Comment"
        return Plan(
            f"{what} on {where[7:]}#{number}: {line(issue.get('title'), 100)}",
            (),
            Risk.RISKY if order else Risk.SAFE,
            "\n".join([*caution(order), *ours(text)]),
            {"where": where, "number": number, "body": text, "sticky": sticky, "replaces": old["id"] if old else 0},
        )

    async def _sticky(self, where: str, number: int, name: str) -> Any | None:
        """Our comment of this name. Somebody else's with the same mark is not ours."""
        us = await self._client.login()
        for one in (await self._client.all(f"{where}/issues/{number}/comments")).items:
            if (one.get("user") or {}).get("login") == us and _sticky_mark(name) in str(one.get("body") or ""):
                return one
        return None

    async def _comment(self, intent: Intent) -> Done:
        state = intent.state
        text = f"{state['body']}\n\n{mark(intent)}"
        if state["sticky"]:
            text += f"\n{_sticky_mark(state['sticky'])}"
        if state["replaces"]:
            made = await self._client.patch(f"{state['where']}/issues/comments/{state['replaces']}", {"body": text})
        else:
            made = await self._client.post(f"{state['where']}/issues/{state['number']}/comments", {"body": text})
        return Done(f"Commented on #{state['number']}.", {"id": made["id"], "url": made.get("html_url")})

    async def _written(self, intent: Intent) -> Any | None:
        path = f"{intent.state['where']}/issues/{intent.state['number']}/comments"
        return await marked(self._client, (await self._client.all(path)).items, intent)

    async def _probe_comment(self, intent: Intent) -> Happened:
        return Happened.YES if await self._written(intent) is not None else Happened.NO

    async def _verify_comment(self, intent: Intent) -> Verification:
        found = await self._written(intent)
        return Verification(found is not None, "The comment is there." if found else "The comment is not there.")

    # -- reviews -----------------------------------------------------------------------------------------------

    async def pull_review(
        self,
        number: Number,
        head_sha: Annotated[str, Field(description="The head that was looked at.", max_length=64)],
        verdict: Annotated[Literal["comment", "approve", "request_changes"], Field(description="What it comes to.")],
        body: Text,
        repo: Repo = "",
        comments: Annotated[list[LineComment] | None, Field(description="On lines.", max_length=_MOST_INLINE)] = None,
    ) -> Plan:
        """Review a pull request, with comments on lines of its diff."""
        where, text = allowed(self._client, repo), acting.body(body)
        inline = [
            {"path": c.path, "line": c.line, "side": "RIGHT", "body": acting.body(c.body, "comments.body")}
            for c in comments or ()
        ]
        pull = await at_head(self._client, where, number, head_sha)
        if verdict != "comment" and (pull.get("user") or {}).get("login") == await self._client.login():
            raise InvalidInput("The pull request is ours: GitHub lets nobody judge their own.", hint="Use comment_put.")
        order = order_in(text, *(str(one["body"]) for one in inline))
        preview = [*caution(order), *ours(text)]
        for one in inline:
            preview += [f"at {line(one['path'], 300)}:{one['line']}", *ours(str(one["body"]))]
        return Plan(
            f"Review {where[7:]}#{number} ({verdict.replace('_', ' ')}): {line(pull.get('title'), 100)}",
            (),
            Risk.SAFE if verdict == "comment" and not order else Risk.RISKY,
            "\n".join(preview),
            {
                "where": where,
                "number": number,
                "sha": head_sha,
                "event": _EVENTS[verdict],
                "body": text,
                "lines": inline,
            },
        )

    async def _review(self, intent: Intent) -> Done:
        state = intent.state
        made = await self._client.post(
            f"{state['where']}/pulls/{state['number']}/reviews",
            {
                "commit_id": state["sha"],
                "event": state["event"],
                "body": f"{state['body']}\n\n{mark(intent)}",
                "comments": state["lines"],
            },
        )
        return Done(f"Reviewed #{state['number']}.", {"id": made["id"], "state": made.get("state")})

    async def _reviewed(self, intent: Intent) -> Any | None:
        path = f"{intent.state['where']}/pulls/{intent.state['number']}/reviews"
        return await marked(self._client, (await self._client.all(path)).items, intent)

    async def _probe_review(self, intent: Intent) -> Happened:
        return Happened.YES if await self._reviewed(intent) is not None else Happened.NO

    async def _verify_review(self, intent: Intent) -> Verification:
        found = await self._reviewed(intent)
        text = f"The review is there: {line(found.get('state'), 30).lower()}." if found else "The review is not there."
        return Verification(found is not None, text)

    # -- issues ------------------------------------------------------------------------------------------------

    async def issue_create(
        self,
        title: Annotated[str, Field(max_length=256)],
        body: Text,
        repo: Repo = "",
        labels: Annotated[list[str] | None, Field(max_length=10)] = None,
    ) -> Plan:
        """Open an issue."""
        where, text, named = allowed(self._client, repo), acting.body(body), acting.title(title)
        chosen = [line(label, 50) for label in labels or ()]
        order = order_in(named, text)
        for other in (await self._client.all(f"{where}/issues", state="open", most=300)).items:
            if not other.get("pull_request") and line(other.get("title"), 256).casefold() == named.casefold():
                raise Conflict(f"#{other['number']} has this title and is open.", hint="Comment on it instead.")
        return Plan(
            f"Open an issue in {where[7:]}: {named}",
            (),
            Risk.RISKY if order else Risk.SAFE,
            "\n".join([*caution(order), *([f"labels: {', '.join(chosen)}"] if chosen else []), *ours(text)]),
            {"where": where, "title": named, "body": text, "labels": chosen},
        )

    async def _issue(self, intent: Intent) -> Done:
        state = intent.state
        sent: dict[str, Any] = {"title": state["title"], "body": f"{state['body']}\n\n{mark(intent)}"}
        if self._client.settings.kind == "github":  # Gitea wants their ids.
            sent["labels"] = state["labels"]
        made = await self._client.post(f"{state['where']}/issues", sent)
        return Done(f"Opened #{made['number']}.", {"number": made["number"], "url": made.get("html_url")})

    async def _opened(self, intent: Intent) -> Any | None:
        listed = await self._client.all(f"{intent.state['where']}/issues", state="all", most=200)
        return await marked(self._client, listed.items, intent)

    async def _probe_issue(self, intent: Intent) -> Happened:
        return Happened.YES if await self._opened(intent) is not None else Happened.NO

    async def _verify_issue(self, intent: Intent) -> Verification:
        found = await self._opened(intent)
        return Verification(found is not None, f"#{found['number']} is open." if found else "The issue is not there.")


async def at_head(client: Client, where: str, number: int, head_sha: str) -> Any:
    """The open pull request, if its head is the one that was looked at. Raises `Conflict`."""
    wanted = names.sha(head_sha)
    pull = await client.get(f"{where}/pulls/{number}")
    if pull.get("state") != "open":
        raise Conflict(f"#{number} is {'merged' if pull.get('merged') else 'closed'}.")
    now = str((pull.get("head") or {}).get("sha"))
    if now != wanted:
        raise Conflict(f"The head of #{number} is {now} by now, not {wanted}.", hint="Look at it again first.")
    return pull


def _risk(arguments: Mapping[str, Any]) -> Risk:
    return Risk.SAFE if arguments.get("verdict") == "comment" else Risk.RISKY


def _sticky_mark(name: str) -> str:
    return f"<!-- opswarm:sticky={name} -->"
