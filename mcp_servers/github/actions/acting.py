"""What every action here shares: where it may act, how it marks what it writes, and what a tree holds besides files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mcp_servers.github import names
from mcp_servers.github.client import Client
from mcp_servers.github.strangers import line
from opswarm.actions.action import Intent
from opswarm.errors import InvalidInput, PermissionDenied, Unavailable
from opswarm.guard.untrusted import clean

TOOLSET = "actions"

SYMLINK, SUBMODULE, EXECUTABLE = "120000", "160000", "100755"

_MARK = re.compile(r"<!--\s*opswarm", re.IGNORECASE)
_MOST_BODY = 60_000
"""GitHub takes 65,536 characters; ours has a mark too."""


def allowed(client: Client, repo: str) -> str:
    """The path of a repository in which actions are allowed. Raises `InvalidInput` and `PermissionDenied`."""
    chosen = names.full_name(repo, client.settings)
    if chosen.lower() not in {one.lower() for one in client.settings.repositories}:
        known = ", ".join(client.settings.repositories) or "none"
        raise PermissionDenied(
            f"Nothing is changed in {chosen}: it is not among github.repositories ({known}).",
            hint="Whoever runs Opswarm can add it there.",
            rule="github.repositories",
        )
    return f"/repos/{chosen}"


def body(text: str, field: str = "body", *, least: int = 1) -> str:
    """What is to be written under our name, without what no reader would see. Raises `InvalidInput`."""
    told = clean(text).strip()
    if not least <= len(told) <= _MOST_BODY:
        raise InvalidInput(f"{field} must have {least} to {_MOST_BODY} characters, not {len(told)}.")
    if _MARK.search(told):
        raise InvalidInput(f"{field} must not have a mark of ours (<!-- opswarm) in it.")
    return told


def ours(text: str) -> list[str]:
    """The lines of a text that is to be written, whole, each marked as such: a person says yes to what they see."""
    return [f"> {row}".rstrip() for row in text.split("\n")]


def seen(row: str) -> str:
    """A line of a diff as a reader sees all of it: what would not be seen is written out."""
    return row if clean(row) == row else repr(row)


def title(text: str, field: str = "title") -> str:
    told = line(text, 256)
    if not told:
        raise InvalidInput(f"{field} is empty.")
    return told


def mark(intent: Intent) -> str:
    """What ends a text of ours, unseen, for `probe` to find."""
    return f"<!-- opswarm:key={intent.key} -->"


def trailer(intent: Intent) -> str:
    """The same in a commit's message."""
    return f"Opswarm-Key: {intent.key}"


async def marked(client: Client, listed: Iterable[Any], intent: Intent) -> Any | None:
    """That of `listed` (comments, reviews, issues) which we wrote for this intent."""
    us = await client.login()
    for one in listed:
        if (one.get("user") or {}).get("login") == us and mark(intent) in str(one.get("body") or ""):
            return one
    return None


async def odd_modes(client: Client, where: str, sha: str, paths: Iterable[str]) -> Mapping[str, str]:
    """Symlinks, submodules and executables of the tree at `sha` (path to mode): all, or those beside and above `paths`
    where the tree is too large to be listed."""
    whole = await client.get(f"{where}/git/trees/{names.sha(sha, 'sha')}", recursive=1)
    if not whole.get("truncated"):
        return _odd(whole["tree"], "")
    return await _walked(client, where, sha, paths)


async def _walked(client: Client, where: str, sha: str, paths: Iterable[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    folders = {""} | {
        "/".join(parts[:end]) for path in paths for parts in [path.split("/")] for end in range(1, len(parts))
    }
    trees = {"": sha}
    for folder in sorted(folders, key=lambda f: f.count("/") + bool(f)):
        if folder not in trees:
            continue  # It is not there yet, or it is no folder.
        listed = await client.get(f"{where}/git/trees/{names.sha(trees[folder], 'sha')}")
        if listed.get("truncated"):
            raise Unavailable(f"The folder {line(folder) or 'at the root'} is too large to be looked at.")
        prefix = f"{folder}/" if folder else ""
        found |= _odd(listed["tree"], prefix)
        trees |= {f"{prefix}{e['path']}": e["sha"] for e in listed["tree"] if e["type"] == "tree"}
    return found


def _odd(entries: Iterable[Any], prefix: str) -> dict[str, str]:
    return {f"{prefix}{e['path']}": e["mode"] for e in entries if e["mode"] in (SYMLINK, SUBMODULE, EXECUTABLE)}
