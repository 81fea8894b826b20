"""Where in a repository something may be written.

A path is taken only in its one plain spelling, so that what was checked is byte for byte what is used: there is
nothing to decode, fold or resolve in it, for us or for Git, GitHub, or a file system with other habits.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from opswarm.guard.denials import Limit, denied
from opswarm.guard.spelling import plain_path, shown

MOST_PATH = 1_024
"""Longest path, in characters."""

_SEGMENT = re.compile(r"(?!\.+$)[A-Za-z0-9._+@=,][A-Za-z0-9._+@=,-]{0,254}")
_GIT = re.compile(r"\.git(?:modules|attributes|config|hub)?|git~\d+", re.IGNORECASE)
"""Names by which Git finds its own files, on any file system, and `.github`, from where CI takes its orders."""


class FileKind(StrEnum):
    """What a commit makes of a path, in Git's own terms."""

    FILE = "file"
    SYMLINK = "symlink"
    SUBMODULE = "submodule"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path of a commit. `target` is a symlink's, as written in it; `renamed_from` the other side of a rename."""

    path: str
    kind: FileKind = FileKind.FILE
    target: str = ""
    renamed_from: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit is to change, and where. `links` are the symlinks that the tree has (path to target)."""

    branch: str
    changes: tuple[FileChange, ...]
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merge:
    """What a pull request would bring into the branch `base`: each file of its diff.

    Merging is the one way into a protected branch, so the branch is not checked; the files are, as in a commit.
    """

    base: str
    changes: tuple[FileChange, ...]
    links: Mapping[str, str] = field(default_factory=dict)


def check_path(path: str, roots: Sequence[str], links: Collection[str] = ()) -> str:
    """`path`, unchanged, when it names a file below one of `roots` (each ends in `/`) and leads through no symlink.

    `links` are the paths of the tree's symlinks. Raises `PermissionDenied` with the rule.
    """
    segments = _spelt(path, roots)
    if not any(path.startswith(root) and path != root for root in roots):
        raise denied(
            Limit.PATH_ROOT,
            f"The path {shown(path)} is not below an allowed root.",
            f"Allowed: {', '.join(roots) or 'none'}.",
        )
    # A name that differs in case only is the same link on some file systems.
    known = {link.casefold(): link for link in links}
    for end in range(1, len(segments) + 1):
        link = known.get("/".join(segments[:end]).casefold())
        if link is not None:
            raise denied(Limit.PATH_SYMLINK, f"The path {shown(path)} leads through the symlink {shown(link)}.")
    return path


def check_symlink(path: str, target: str, roots: Sequence[str], links: Collection[str] = ()) -> str:
    """`target`, unchanged, when the symlink `path` may be written and points below one of `roots`."""
    check_path(path, roots, [link for link in links if link != path])
    if not target or target.startswith("/") or "\\" in target:
        raise denied(Limit.PATH_SYMLINK, f"A symlink to {shown(target)} is refused: it must be relative.")
    folder = posixpath.dirname(path)
    meant = posixpath.normpath(posixpath.join(folder, target))
    if posixpath.relpath(f"/{meant}", f"/{folder}") != target:
        raise denied(Limit.PATH_SPELLING, f"The symlink target {shown(target)} is not spelt plainly.")
    check_path(meant, roots, links)
    return target


def check_changes(commit: Commit | Merge, roots: Sequence[str]) -> tuple[FileChange, ...]:
    """The commit's changes, unchanged, when each of them may be made, in whatever order they are applied."""
    links = {*commit.links, *(c.path for c in commit.changes if c.kind is FileKind.SYMLINK)}
    for change in commit.changes:
        _check_change(change, roots, links)
    return commit.changes


def _check_change(change: FileChange, roots: Sequence[str], links: Collection[str]) -> None:
    if change.renamed_from:
        check_path(change.renamed_from, roots, links)
    match change.kind:
        case FileKind.SUBMODULE:
            raise denied(Limit.PATH_SUBMODULE, f"{shown(change.path)} would be a submodule: somebody else's files.")
        case FileKind.SYMLINK:
            check_symlink(change.path, change.target, roots, links)
        case FileKind.FILE | FileKind.DELETED:
            if change.target:
                raise denied(Limit.PATH_SYMLINK, f"{shown(change.path)} has a target, but is no symlink.")
            # A link itself may be taken away; what is written "to" it would go elsewhere.
            others = [link for link in links if link != change.path] if change.kind is FileKind.DELETED else links
            check_path(change.path, roots, others)


def check_root(root: str) -> str:
    """`root`, unchanged, when it can be an allowed root: a plain path with a `/` at its end. Raises the same."""
    if not root.endswith("/"):
        raise denied(Limit.PATH_SPELLING, f"The root {shown(root)} must end in '/'.")
    _spelt(root[:-1], ())
    return root


def _spelt(path: str, roots: Sequence[str]) -> list[str]:
    """The segments of a path that is spelt plainly."""
    segments = path.split("/")
    if any(_GIT.fullmatch(s) for s in (*segments, *plain_path(path).split("/"))):
        raise denied(Limit.PATH_GIT, f"The path {shown(path)} is one of Git's or GitHub's own.")
    meant = plain_path(path)
    if len(path) > MOST_PATH or meant != path or not all(_SEGMENT.fullmatch(s) for s in segments):
        hint = f"Write it as {meant}." if meant != path and any(meant.startswith(r) for r in roots) else ""
        raise denied(
            Limit.PATH_SPELLING,
            f"The path {shown(path)} is not spelt plainly.",
            hint if hint and meant.isascii() else "Use a relative path of letters, digits and . _ - + @ = , only.",
        )
    return segments
