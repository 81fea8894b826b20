"""Reading what a repository holds: files, folders, branches, and what lies between two commits."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.github import names
from mcp_servers.github.client import Client
from mcp_servers.github.names import Limit, PageNumber, Ref, Repo
from mcp_servers.github.pulls import file_data, file_lines
from mcp_servers.github.strangers import line
from opswarm.errors import InvalidInput, Unavailable
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import fit_lines, fit_text
from opswarm.mcp.tools import ToolOutput

MOST_FILE = 1_048_576
"""Bytes of a file that is read."""

_LINES = 400


class Contents:
    """The files of a GitHub's repositories."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def file_get(
        self,
        path: Annotated[str, Field(description="Path from the root.", max_length=1024)],
        repo: Repo = "",
        ref: Ref = "",
        start: Annotated[int, Field(description="First line, from 1.", ge=1)] = 1,
        lines: Annotated[int, Field(description="How many lines.", ge=1, le=2000)] = _LINES,
    ) -> ToolOutput:
        """Read a file at a branch, tag or commit."""
        where = names.repository(repo, self._client.settings)
        found = await contents(self._client, where, path, ref)
        if isinstance(found, list):
            raise InvalidInput(f"{line(path)} is a folder.", hint="tree_list shows what is in it.")
        if found.get("type") in ("symlink", "submodule"):
            to = found.get("target") or found.get("sha")
            return ToolOutput(f"{line(path)} is a {found['type']} to {line(to)}.", {"type": found["type"], "to": to})
        raw = await file_bytes(self._client, where, found)
        try:
            text = clean(raw.decode("utf-8"))
        except UnicodeDecodeError:
            told = f"{line(path)} is binary: {len(raw)} bytes."
            return ToolOutput(told, {"path": path, "size": len(raw), "sha": found.get("sha")})
        every = text.removesuffix("\n").split("\n")
        shown = every[start - 1 : start - 1 + lines]
        data = {"path": path, "sha": found.get("sha"), "lines": len(every), "text": "\n".join(shown)}
        if not shown:
            raise InvalidInput(f"{line(path)} has {len(every)} lines; there is none at {start}.")
        span = f"lines {start} to {start + len(shown) - 1} of {len(every)}"
        head = f"{line(path)} at {line(ref) or 'the default branch'}, {span}:"
        return ToolOutput(fit_text("\n".join([head, *shown]), "start and lines"), data)

    async def tree_list(
        self,
        path: Annotated[str, Field(description="Folder; default: the root.", max_length=1024)] = "",
        repo: Repo = "",
        ref: Ref = "",
        recursive: Annotated[bool, Field(description="Everything below it.")] = False,
        match: Annotated[str, Field(description="Only paths with this in them.")] = "",
    ) -> ToolOutput:
        """List files and folders at a branch, tag or commit."""
        where = names.repository(repo, self._client.settings)
        below = path.strip("/")
        names.path(below)
        at = names.ref(ref) if ref else names.ref(await default_branch(self._client, where))
        cut = False
        if recursive:
            found = await self._client.get(f"{where}/git/trees/{at}", recursive=1)
            cut = bool(found.get("truncated"))
            prefix = f"{below}/" if below else ""
            entries = [(e["path"], e["type"], e.get("size")) for e in found["tree"] if e["path"].startswith(prefix)]
        else:
            listed = await contents(self._client, where, below, ref)
            if not isinstance(listed, list):
                raise InvalidInput(f"{line(path)} is a file.", hint="file_get reads it.")
            entries = [(e["path"], e["type"], e.get("size")) for e in listed]
        kept = [e for e in entries if match.lower() in str(e[0]).lower()]
        lines = [f"{line(p, 300)}{'/' if kind in ('tree', 'dir') else ''}" for p, kind, _ in kept]
        note = "(GitHub cut this list off: name a folder)" if cut else ""
        if not lines:
            told = f"Nothing in {line(path) or 'the root'} matches, of {len(entries)} entries. {note}".strip()
            return ToolOutput(told, {"entries": [], "truncated": cut})
        data = {"entries": [{"path": p, "type": kind, "size": size} for p, kind, size in kept], "truncated": cut}
        return ToolOutput(f"{fit_lines(lines, 'entries', 'path or match')}\n{note}".strip(), data)

    async def commits_compare(
        self,
        base: Annotated[str, Field(description="Older branch, tag or commit.", max_length=250)],
        head: Annotated[str, Field(description="Newer one.", max_length=250)],
        repo: Repo = "",
        patch_lines: Annotated[int, Field(description="Lines of each patch, 0 to 2000.", ge=0, le=2000)] = 0,
    ) -> ToolOutput:
        """Show commits and files between two commits."""
        where = names.repository(repo, self._client.settings)
        found = await self._client.get(f"{where}/compare/{names.ref(base, 'base')}...{names.ref(head, 'head')}")
        commits, files = found.get("commits") or [], found.get("files") or []
        total = int(found.get("total_commits") or len(commits))
        lines = [
            f"{line(head)} is {line(found.get('status') or 'compared', 30)}: {found.get('ahead_by', total)} commits "
            f"ahead of {line(base)}, {found.get('behind_by', 0)} behind; {len(files)} files differ"
        ]
        lines += [f"- {c['sha'][:10]} {line(str(c['commit']['message']).split(chr(10), 1)[0])}" for c in commits]
        if len(commits) < total:
            lines.append(f"({len(commits)} of {total} commits shown by GitHub)")
        for one in files:
            lines += file_lines(one, patch_lines)
        if len(files) >= 300:
            lines.append("(GitHub shows 300 files at most)")
        data = {
            "status": found.get("status"),
            "total_commits": total,
            "commits": [{"sha": c["sha"], "message": line(c["commit"]["message"])} for c in commits],
            "files": [file_data(f) for f in files],
        }
        return ToolOutput(fit_lines(lines, "lines", "patch_lines, or commits that are closer"), data)

    async def branches_list(self, repo: Repo = "", limit: Limit = 50, page: PageNumber = 1) -> ToolOutput:
        """List branches and the commits they are at."""
        where = names.repository(repo, self._client.settings)
        found = await self._client.page(f"{where}/branches", page=page, size=names.bounded(limit))
        lines = [
            f"{line(b['name'])} {_branch_sha(b)[:10]}{' (protected)' if b.get('protected') else ''}"
            for b in found.items
        ]
        if found.more:
            lines.append(f"(there are more: page {page + 1})")
        data = {
            "branches": [
                {"name": b["name"], "sha": _branch_sha(b), "protected": bool(b.get("protected"))} for b in found.items
            ]
        }
        return ToolOutput("\n".join(lines) or "There are no branches on this page.", data)


def _branch_sha(branch: Any) -> str:
    """GitHub calls it `sha`, Gitea `id`."""
    return str(branch["commit"].get("sha") or branch["commit"].get("id"))


async def default_branch(client: Client, where: str) -> str:
    return str((await client.get(where))["default_branch"])


async def contents(client: Client, where: str, path: str, ref: str = "") -> Any:
    """What the contents API has at `path`: a list for a folder, else an object. Raises `NotFound`."""
    if ref:
        names.ref(ref)
    return await client.get(f"{where}/contents/{names.path(path)}".rstrip("/"), ref=ref)


async def file_bytes(client: Client, where: str, found: Any) -> bytes:
    """The bytes of a file that `contents` found; from its blob where it is over 1 MB. Raises `InvalidInput`."""
    size = int(found.get("size") or 0)
    if size > MOST_FILE:
        raise InvalidInput(f"{line(found.get('path'))} has {size} bytes; {MOST_FILE} are read at most.")
    if found.get("encoding") != "base64":
        found = await client.get(f"{where}/git/blobs/{names.sha(str(found['sha']), 'sha')}")
    try:
        return base64.b64decode(str(found.get("content") or ""))
    except (binascii.Error, ValueError) as error:
        raise Unavailable("GitHub gave a file that can't be decoded.") from error
