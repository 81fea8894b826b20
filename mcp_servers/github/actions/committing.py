"""Branches of ours, and commits of several files on them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mcp_servers.github import names
from mcp_servers.github.actions import acting
from mcp_servers.github.actions.acting import EXECUTABLE, SYMLINK, TOOLSET, allowed, odd_modes, ours, seen, trailer
from mcp_servers.github.actions.orders import caution, order_in, skips_checks
from mcp_servers.github.client import Client
from mcp_servers.github.contents import contents, default_branch, file_bytes
from mcp_servers.github.names import Repo
from mcp_servers.github.strangers import line
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import Conflict, InvalidInput, LimitExceeded, NotFound, PermissionDenied
from opswarm.guard.limits import Limits
from opswarm.guard.paths import Commit, FileChange, FileKind
from opswarm.guard.risk import Risk
from opswarm.mcp.tools import ToolSpec

_MOST_FILES = 40
_MOST_BYTES = 262_144
_MOST_PREVIEW = 60_000
"""Characters of a diff that a person is shown: what is larger is not asked about, since nobody would read it."""

_RECENT = 30

Branch = Annotated[str, Field(description="fix/…, feat/… or agent/….", max_length=200)]


class FileEdit(BaseModel):
    """One file of a commit."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(max_length=1024)
    content: str | None = Field(None, description="The whole new text.", max_length=_MOST_BYTES)
    delete: bool = False
    renamed_from: str = Field("", max_length=1024)


class Committing:
    """Branches and commits in the repositories where we may act."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def specs(self) -> list[ToolSpec]:
        """The tools. Gitea has no API for trees, so there are none there."""
        if self._client.settings.kind != "github":
            return []
        branch = Action(self._make_branch, self._probe_branch, self._verify_branch, verify_seconds=30)
        commit = Action(self._commit, self._probe_commit, self._verify_commit, seconds=60, verify_seconds=30)
        return [
            ToolSpec(self.branch_create, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=branch),
            ToolSpec(self.commit_files, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=commit),
        ]

    # -- branches ----------------------------------------------------------------------------------------------

    async def branch_create(
        self,
        branch: Branch,
        repo: Repo = "",
        start: Annotated[
            str, Field(description="A commit of the default branch; default: its newest.", max_length=250)
        ] = "",
    ) -> Plan:
        """Make a branch."""
        where = allowed(self._client, repo)
        Limits().branch(branch)
        if await self._tip(where, branch):
            raise Conflict(f"The branch {line(branch)} is there already.")
        origin = start or await default_branch(self._client, where)
        sha = str((await self._client.get(f"{where}/commits/{names.ref(origin, 'start')}"))["sha"])
        if start:
            await self._refuse_foreign(where, origin, sha)
        return Plan(
            f"Make the branch {branch} in {where[7:]} from {line(origin)} ({sha[:10]}).",
            (Commit(branch, ()),),
            Risk.SAFE,
            "",
            {"where": where, "branch": branch, "sha": sha},
        )

    async def _refuse_foreign(self, where: str, origin: str, sha: str) -> None:
        """What nobody with the right has merged (a commit of a fork's pull request is in our repository, too) would run
        as ours from a branch of ours, with the rights of its workflows."""
        main = await default_branch(self._client, where)
        found = await self._client.get(f"{where}/compare/{names.ref(main)}...{sha}")
        if int(found["ahead_by"]):
            raise PermissionDenied(
                f"{line(origin)} has commits that {line(main)} has not.",
                hint=f"Start from {line(main)} or from a commit of it.",
                rule="github.start",
            )

    async def _tip(self, where: str, branch: str) -> str:
        """The commit that a branch is at, or ""."""
        try:
            found = await self._client.get(f"{where}/git/ref/heads/{names.ref(branch, 'branch')}")
        except NotFound:
            return ""
        return str(found["object"]["sha"])

    async def _make_branch(self, intent: Intent) -> Done:
        state = intent.state
        sent = {"ref": f"refs/heads/{state['branch']}", "sha": state["sha"]}
        await self._client.post(f"{state['where']}/git/refs", sent)
        return Done(f"Made the branch {state['branch']}.", {"sha": state["sha"]})

    async def _probe_branch(self, intent: Intent) -> Happened:
        tip = await self._tip(intent.state["where"], intent.state["branch"])
        if not tip:
            return Happened.NO
        return Happened.YES if tip == intent.state["sha"] else Happened.UNKNOWN

    async def _verify_branch(self, intent: Intent) -> Verification:
        tip = await self._tip(intent.state["where"], intent.state["branch"])
        return Verification(bool(tip), f"The branch is at {tip[:10]}." if tip else "The branch is not there.")

    # -- commits -----------------------------------------------------------------------------------------------

    async def commit_files(
        self,
        branch: Branch,
        message: Annotated[str, Field(description="Subject, then why.", max_length=4000)],
        files: Annotated[list[FileEdit], Field(min_length=1, max_length=_MOST_FILES)],
        repo: Repo = "",
    ) -> Plan:
        """Commit files to a branch of ours; it is made from the default branch where it is not there."""
        where, told = allowed(self._client, repo), acting.body(message, "message", least=3)
        Limits().branch(branch)
        _refuse_unclear(files)
        tip = await self._tip(where, branch)
        origin = "" if tip else await default_branch(self._client, where)
        parent = tip or str((await self._client.get(f"{where}/commits/{names.ref(origin)}"))["sha"])
        odd = await odd_modes(self._client, where, parent, [p for f in files for p in (f.path, f.renamed_from) if p])
        links = {path: "" for path, mode in odd.items() if mode == SYMLINK}
        changes = tuple(
            FileChange(f.path, FileKind.DELETED if f.delete else FileKind.FILE, renamed_from=f.renamed_from)
            for f in files
        )
        preview, written = await self._diff(where, parent, files, odd)
        if origin:
            preview.insert(0, f"The branch is made from {line(origin)} ({parent[:10]}).")
        order, skips = order_in(told), skips_checks(told)
        preview[:0] = [*caution(order), *([f"CAUTION: no check runs with this: {skips}"] if skips else []), *ours(told)]
        text = "\n".join(preview)
        if len(text) > _MOST_PREVIEW:
            raise LimitExceeded(
                f"This changes {len(text)} characters; a person is shown {_MOST_PREVIEW} at most.", hint="Split it."
            )
        return Plan(
            f"Commit {len(files)} {'file' if len(files) == 1 else 'files'} to {branch} in {where[7:]}: "
            f"{line(told.split(chr(10), 1)[0], 150)}",
            (Commit(branch, changes, links),),
            Risk.RISKY if order or skips else Risk.SAFE,
            text,
            {
                "where": where, "branch": branch, "parent": parent, "new": not tip, "message": told, "files": written,
            },
        )  # fmt: skip

    async def _diff(
        self, where: str, parent: str, files: Sequence[FileEdit], modes: Mapping[str, str]
    ) -> tuple[list[str], list[dict[str, Any]]]:
        """What a person is shown, and what is written: path, text, mode, and what is taken away."""
        lines: list[str] = []
        written: list[dict[str, Any]] = []
        for edit in files:
            source = edit.renamed_from or edit.path
            old = await self._old(where, parent, source)
            if old is None and (edit.delete or edit.renamed_from):
                raise NotFound(f"There is no file {line(source)} to be {'deleted' if edit.delete else 'renamed'}.")
            new = None if edit.delete else edit.content if edit.content is not None else old
            if edit.renamed_from and await self._old(where, parent, edit.path) is not None:
                raise Conflict(f"{line(edit.path)} is there already.")
            if new == old and not edit.renamed_from:
                raise InvalidInput(f"{line(edit.path)} would not change.", hint="Leave it out.")
            lines += _shown(edit, source, old, new)
            written.append({"path": edit.path, "text": new, "mode": modes.get(source, ""), "from": edit.renamed_from})
        return lines, written

    async def _old(self, where: str, parent: str, path: str) -> str | None:
        """The text of a file; None where it is not there. Raises `InvalidInput` for what is no text."""
        try:
            found = await contents(self._client, where, path, parent)
        except NotFound:
            return None
        if isinstance(found, list) or found.get("type") != "file":
            raise InvalidInput(f"{line(path)} is no file.")
        raw = await file_bytes(self._client, where, found)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{line(path)} is binary.") from error

    async def _commit(self, intent: Intent) -> Done:
        state, where = intent.state, intent.state["where"]
        entries: list[dict[str, Any]] = []
        for one in state["files"]:
            mode = EXECUTABLE if one["mode"] == EXECUTABLE else "100644"
            if one["from"]:
                entries.append({"path": one["from"], "mode": mode, "type": "blob", "sha": None})
            entry = {"path": one["path"], "mode": mode, "type": "blob"}
            entries.append({**entry, "sha": None} if one["text"] is None else {**entry, "content": one["text"]})
        base = await self._client.get(f"{where}/git/commits/{state['parent']}")
        tree = await self._client.post(f"{where}/git/trees", {"base_tree": base["tree"]["sha"], "tree": entries})
        message = f"{state['message']}\n\n{trailer(intent)}"
        sent = {"message": message, "tree": tree["sha"], "parents": [state["parent"]]}
        sha = str((await self._client.post(f"{where}/git/commits", sent))["sha"])
        # Until here nothing can be seen. The branch moves only from the commit that was planned on.
        if state["new"]:
            await self._client.post(f"{where}/git/refs", {"ref": f"refs/heads/{state['branch']}", "sha": sha})
        else:
            path = f"{where}/git/refs/heads/{names.ref(state['branch'])}"
            await self._client.patch(path, {"sha": sha, "force": False})
        return Done(f"Committed {sha[:10]} to {state['branch']}.", {"sha": sha})

    async def _found(self, intent: Intent) -> str:
        """Our commit on the branch, or ""."""
        state = intent.state
        if not await self._tip(state["where"], state["branch"]):
            return ""
        listed = await self._client.page(f"{state['where']}/commits", size=_RECENT, sha=state["branch"])
        wanted = trailer(intent)
        return next((str(c["sha"]) for c in listed.items if wanted in str(c["commit"]["message"]).split("\n")), "")

    async def _probe_commit(self, intent: Intent) -> Happened:
        return Happened.YES if await self._found(intent) else Happened.NO

    async def _verify_commit(self, intent: Intent) -> Verification:
        sha = await self._found(intent)
        text = f"{sha[:10]} is on {intent.state['branch']}." if sha else "The commit is not on the branch."
        return Verification(bool(sha), text)


def _refuse_unclear(files: Sequence[FileEdit]) -> None:
    seen: set[str] = set()
    for edit in files:
        if edit.delete and (edit.content is not None or edit.renamed_from):
            raise InvalidInput(f"files: {line(edit.path)} is deleted; it has neither content nor renamed_from then.")
        if not edit.delete and edit.content is None and not edit.renamed_from:
            raise InvalidInput(f"files: {line(edit.path)} has no content.", hint="Give content, or delete: true.")
        for path in filter(None, (edit.path, edit.renamed_from)):
            if path.casefold() in seen:
                raise InvalidInput(f"files: {line(path)} is named twice.")
            seen.add(path.casefold())
    if sum(len((f.content or "").encode("utf-8", errors="replace")) for f in files) > _MOST_BYTES:
        raise LimitExceeded(f"The files have more than {_MOST_BYTES} bytes together.", hint="Split it.")


def _shown(edit: FileEdit, source: str, old: str | None, new: str | None) -> list[str]:
    """The change of one file as a diff. What no reader would see is named, not left out."""
    before = [] if old is None else old.splitlines()
    after = [] if new is None else new.splitlines()
    a, b = (
        ("/dev/null" if old is None else f"a/{line(source, 300)}"),
        ("/dev/null" if new is None else f"b/{line(edit.path, 300)}"),
    )
    found = list(difflib.unified_diff(before, after, a, b, lineterm=""))
    if not found:
        found = [f"--- {a}", f"+++ {b}", "(the text stays as it is)" if old == new else "(only line ends change)"]
    return [seen(row) for row in found]
