"""Merging, closing and opening pull requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_servers.github import names
from mcp_servers.github.actions import acting
from mcp_servers.github.actions.acting import SUBMODULE, SYMLINK, TOOLSET, allowed, mark, marked, odd_modes, ours, seen
from mcp_servers.github.actions.orders import caution, order_in
from mcp_servers.github.actions.talking import Text, at_head
from mcp_servers.github.checks import State, verdict
from mcp_servers.github.client import Client
from mcp_servers.github.contents import default_branch, file_bytes
from mcp_servers.github.names import Number, Repo
from mcp_servers.github.pulls import file_lines
from mcp_servers.github.strangers import line, who
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import Conflict, InvalidInput, LimitExceeded
from opswarm.guard.paths import Commit, FileChange, FileKind, Merge
from opswarm.guard.risk import Risk
from opswarm.mcp.tools import ToolSpec

_MOST_FILES = 300
_MOST_COMPARED = 300
"""Files that GitHub lists of a comparison."""

_EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The blob of an empty file, which has no patch."""

_MERGEABLE_TRIES = 4

Sleep = Callable[[float], Awaitable[None]]


class Merging:
    """Pull requests in the repositories where we may act."""

    def __init__(self, client: Client, sleep: Sleep = asyncio.sleep) -> None:
        self._client, self._sleep = client, sleep

    def specs(self) -> list[ToolSpec]:
        """The tools; merging is risky whatever is merged."""
        merge = Action(self._merge, self._probe_merge, self._verify_merge, verify_seconds=30)
        close = Action(self._close, self._probe_close, self._verify_close, verify_seconds=30)
        create = Action(self._create, self._probe_create, self._verify_create, verify_seconds=30)
        specs = [
            ToolSpec(self.pull_create, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=create),
            ToolSpec(self.pull_close, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=close),
        ]
        if self._client.settings.kind == "github":
            specs.append(ToolSpec(self.pull_merge, read_only=False, toolset=TOOLSET, risk=Risk.RISKY, action=merge))
        return specs

    # -- merging -----------------------------------------------------------------------------------------------

    async def pull_merge(
        self,
        number: Number,
        head_sha: Annotated[str, Field(description="The head that was looked at.", max_length=64)],
        repo: Repo = "",
        method: Annotated[Literal["squash", "merge", "rebase"], Field(description="How.")] = "squash",
    ) -> Plan:
        """Merge a pull request, if its head is still the one that was looked at."""
        where = allowed(self._client, repo)
        pull = await self._mergeable(where, number, head_sha)
        files = await self._client.all(f"{where}/pulls/{number}/files", most=_MOST_FILES + 1)
        if len(files.items) > _MOST_FILES or len(files.items) != int(pull.get("changed_files") or 0):
            raise LimitExceeded(f"#{number} changes too many files to be looked at ({pull.get('changed_files')}).")
        checked = await verdict(self._client, where, head_sha)
        changes, links, modes = await self._changes(where, head_sha, pull, files.items)
        merge = Merge(str(pull["base"]["ref"]), changes, links)
        preview = [
            f"By {who(pull.get('user'))}, from {line(pull['head']['ref'])} at {head_sha} into {line(merge.base)}.",
            f"Checks: {checked}",
            *checked.lines(10),
        ]
        if checked.state is not State.PASSING:
            preview.insert(0, f"CAUTION: its checks are {checked.state}.")
        for one in files.items:
            preview += _whole(one)
        preview += modes
        return Plan(
            f"Merge {where[7:]}#{number} ({method}): {line(pull.get('title'), 150)}",
            (merge,),
            Risk.RISKY,
            "\n".join(preview),
            {"where": where, "number": number, "sha": head_sha, "method": method, "base": merge.base},
        )

    async def _mergeable(self, where: str, number: int, head_sha: str) -> Any:
        """The pull request once GitHub has worked out whether it can be merged. Raises `Conflict`."""
        for attempt in range(_MERGEABLE_TRIES):
            pull = await at_head(self._client, where, number, head_sha)
            if pull.get("draft"):
                raise Conflict(f"#{number} is a draft.")
            if pull.get("mergeable") is False:
                raise Conflict(f"#{number} conflicts with {line(pull['base']['ref'])}.", hint="It has to be rebased.")
            if pull.get("mergeable"):
                return pull
            if attempt + 1 < _MERGEABLE_TRIES:
                await self._sleep(1.0)
        raise Conflict(f"GitHub has not worked out yet whether #{number} can be merged.", hint="Try again in a minute.")

    async def _changes(
        self, where: str, head_sha: str, pull: Any, files: Any
    ) -> tuple[tuple[FileChange, ...], Mapping[str, str], Sequence[str]]:
        """The diff as the limits look at it, the symlinks of both sides, and what no patch shows: other modes."""
        paths = [str(f["filename"]) for f in files] + [str(f.get("previous_filename") or "") for f in files]
        after = await odd_modes(self._client, where, head_sha, paths)
        before = await odd_modes(self._client, where, str(pull["base"]["sha"]), paths)
        changes = []
        for one in files:
            path, previous = str(one["filename"]), str(one.get("previous_filename") or "")
            mode = after.get(path)
            if one.get("status") == "removed":
                changes.append(FileChange(path, FileKind.DELETED))
            elif mode == SYMLINK:
                target = await self._target(where, one)
                changes.append(FileChange(path, FileKind.SYMLINK, target, previous))
            else:
                kind = FileKind.SUBMODULE if mode == SUBMODULE else FileKind.FILE
                changes.append(FileChange(path, kind, renamed_from=previous))
        links = {path: "" for odd in (before, after) for path, mode in odd.items() if mode == SYMLINK}
        changed = sorted({path for path in paths if path in after and after[path] != before.get(path)})
        modes = [f"mode of {line(path, 300)}: {after[path]}" for path in changed]
        return tuple(changes), links, modes

    async def _target(self, where: str, file: Any) -> str:
        raw = await file_bytes(self._client, where, {"sha": file["sha"], "size": 0, "path": file["filename"]})
        return raw.decode("utf-8", errors="replace")

    async def _merge(self, intent: Intent) -> Done:
        state = intent.state
        made = await self._client.put(
            f"{state['where']}/pulls/{state['number']}/merge",
            {"sha": state["sha"], "merge_method": state["method"]},
        )
        return Done(f"Merged #{state['number']} as {str(made.get('sha'))[:10]}.", {"sha": made.get("sha")})

    async def _pull(self, intent: Intent) -> Any:
        return await self._client.get(f"{intent.state['where']}/pulls/{intent.state['number']}")

    async def _probe_merge(self, intent: Intent) -> Happened:
        pull = await self._pull(intent)
        if not pull.get("merged"):
            return Happened.NO
        return Happened.YES if pull["head"]["sha"] == intent.state["sha"] else Happened.UNKNOWN

    async def _verify_merge(self, intent: Intent) -> Verification:
        pull = await self._pull(intent)
        if not pull.get("merged"):
            return Verification(False, f"#{intent.state['number']} is not merged.")
        return Verification(
            True, f"#{intent.state['number']} is merged into {line(intent.state['base'])} as "
            f"{str(pull.get('merge_commit_sha'))[:10]}."
        )  # fmt: skip

    # -- closing -----------------------------------------------------------------------------------------------

    async def pull_close(self, number: Number, repo: Repo = "") -> Plan:
        """Close a pull request without merging it."""
        where = allowed(self._client, repo)
        pull = await self._client.get(f"{where}/pulls/{number}")
        if pull.get("state") != "open":
            raise Conflict(f"#{number} is {'merged' if pull.get('merged') else 'closed'} already.")
        ours = (pull.get("user") or {}).get("login") == await self._client.login()
        return Plan(
            f"Close {where[7:]}#{number} without merging it: {line(pull.get('title'), 150)}",
            (),
            Risk.SAFE if ours else Risk.RISKY,
            f"By {who(pull.get('user'))}, from {line(pull['head']['ref'])}. It can be opened again.",
            {"where": where, "number": number, "sha": str(pull["head"]["sha"])},
        )

    async def _close(self, intent: Intent) -> Done:
        await self._client.patch(f"{intent.state['where']}/pulls/{intent.state['number']}", {"state": "closed"})
        return Done(f"Closed #{intent.state['number']}.")

    async def _probe_close(self, intent: Intent) -> Happened:
        issue = await self._client.get(f"{intent.state['where']}/issues/{intent.state['number']}")
        if issue.get("state") == "open":
            return Happened.NO
        by = (issue.get("closed_by") or {}).get("login")
        return Happened.YES if by == await self._client.login() else Happened.UNKNOWN

    async def _verify_close(self, intent: Intent) -> Verification:
        pull = await self._pull(intent)
        closed = pull.get("state") == "closed" and not pull.get("merged")
        return Verification(closed, f"#{intent.state['number']} is {line(pull.get('state'), 20)}.")

    # -- opening -----------------------------------------------------------------------------------------------

    async def pull_create(
        self,
        branch: Annotated[str, Field(description="The branch that has the changes.", max_length=200)],
        title: Annotated[str, Field(max_length=256)],
        body: Text,
        repo: Repo = "",
        base: Annotated[str, Field(description="Into which; default: the default branch.", max_length=200)] = "",
        draft: bool = False,
    ) -> Plan:
        """Open a pull request from a branch of ours."""
        where, text, named = allowed(self._client, repo), acting.body(body), acting.title(title)
        into = base or await default_branch(self._client, where)
        span = f"{names.ref(into, 'base')}...{names.ref(branch, 'branch')}"
        owner = where.split("/")[2]
        for other in (await self._client.all(f"{where}/pulls", state="open", head=f"{owner}:{branch}")).items:
            if other["head"]["ref"] == branch and other["base"]["ref"] == into:
                raise Conflict(f"#{other['number']} is open from this branch.", hint="Comment on it instead.")
        found = await self._client.get(f"{where}/compare/{span}")
        if not int(found.get("total_commits") or 0):
            raise InvalidInput(f"{line(branch)} has no commits that {line(into)} has not.")
        listed, order = found.get("files") or (), order_in(named, text)
        files = [f"- {line(f.get('status'), 20)} {line(f.get('filename'), 300)}" for f in listed]
        theirs = await self._theirs(found)
        return Plan(
            f"Open a pull request in {where[7:]} from {line(branch)} into {line(into)}: {named}",
            (Commit(branch, ()),),
            Risk.RISKY if order or theirs else Risk.SAFE,
            "\n".join([*caution(order), *theirs, *ours(text), "Files:", *files]),
            {"where": where, "branch": branch, "base": into, "title": named, "body": text, "draft": draft},
        )

    async def _theirs(self, found: Any) -> list[str]:
        """What is said of a branch whose commits are not all ours, or not all known."""
        us, commits = await self._client.login(), found.get("commits") or ()
        if len(commits) < int(found["total_commits"]) or len(found.get("files") or ()) >= _MOST_COMPARED:
            return ["CAUTION: it changes too much to be listed here."]
        others = sorted({who(c.get("author")) for c in commits if (c.get("author") or {}).get("login") != us})
        return [f"CAUTION: it has commits by {', '.join(others)}."] if others else []

    async def _create(self, intent: Intent) -> Done:
        state = intent.state
        made = await self._client.post(
            f"{state['where']}/pulls",
            {
                "title": state["title"],
                "head": state["branch"],
                "base": state["base"],
                "body": f"{state['body']}\n\n{mark(intent)}",
                "draft": state["draft"],
            },
        )
        return Done(f"Opened #{made['number']}.", {"number": made["number"], "url": made.get("html_url")})

    async def _created(self, intent: Intent) -> Any | None:
        listed = await self._client.all(f"{intent.state['where']}/pulls", state="all", most=200)
        return await marked(self._client, listed.items, intent)

    async def _probe_create(self, intent: Intent) -> Happened:
        return Happened.YES if await self._created(intent) is not None else Happened.NO

    async def _verify_create(self, intent: Intent) -> Verification:
        found = await self._created(intent)
        text = f"#{found['number']} is {line(found.get('state'), 20)}." if found else "The pull request is not there."
        return Verification(found is not None, text)


def _whole(file: Any) -> list[str]:
    """All that changes in one file. Raises `LimitExceeded` where GitHub does not show it."""
    patch, status = file.get("patch"), str(file.get("status"))
    unseen = int(file.get("changes") or 0) or (status not in ("removed", "renamed") and file.get("sha") != _EMPTY)
    if patch is None and unseen:
        raise LimitExceeded(
            f"GitHub shows no patch of {line(file.get('filename'), 300)}: it is binary or too large to be judged.",
            hint="Merge it on GitHub's page, after a look.",
        )
    rows = str(patch).split("\n") if patch is not None else ()
    return [*file_lines(file, 0), *(f"  {seen(row)}".rstrip() for row in rows)]
