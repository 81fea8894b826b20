"""A bare Git repository, by the `git` program: what GitHub's Git endpoints need of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SECONDS = 20.0
_SHA = re.compile(r"[0-9a-f]{40}")

Files = Mapping[str, str | bytes | None]
"""What a commit writes: path to content; None deletes."""


class GitFailed(Exception):
    """`git` refused. The text is its own, on one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree. `size` is None for what is no blob."""

    mode: str
    kind: str
    sha: str
    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    date: str
    message: str


@dataclass(frozen=True, slots=True)
class Delta:
    """One file of a diff. `status` is GitHub's word; `patch` is None for what is binary."""

    path: str
    status: str
    sha: str
    additions: int
    deletions: int
    patch: str | None
    previous: str = ""


class Repository:
    """A bare repository at `path`, made when it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[str, str] = {}
        self._trees: dict[str, list[Entry]] = {}
        if not (path / "HEAD").exists():
            path.mkdir(parents=True, exist_ok=True)
            self._git("init", "--bare", "--quiet", "--initial-branch=main", ".")

    def _git(self, *args: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        whole = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            **(env or {}),
        }
        done = subprocess.run(
            ["git", *args], cwd=self.path, input=given, capture_output=True, env=whole, timeout=_SECONDS
        )
        if done.returncode:
            raise GitFailed(" ".join(done.stderr.decode(errors="replace").split())[:300] or f"git {args[0]} failed")
        return done.stdout

    def _text(self, *args: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        return self._git(*args, given=given, env=env).decode(errors="replace").strip()

    # -- names -------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str | None:
        """The commit of a branch, a tag, or a whole or shortened id; None where there is none."""
        if not ref or ref.startswith("-") or ".." in ref or ":" in ref:
            return None
        for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):
            try:
                return self._text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            except GitFailed:
                continue
        return None

    def branches(self) -> dict[str, str]:
        """Each branch's commit."""
        return self._refs("refs/heads/")

    def tags(self) -> dict[str, str]:
        return self._refs("refs/tags/")

    def _refs(self, prefix: str) -> dict[str, str]:
        listed = self._text("for-each-ref", "--format=%(refname) %(objectname)", prefix)
        pairs = (line.split(" ") for line in listed.splitlines())
        return {name.removeprefix(prefix): sha for name, sha in pairs}

    def is_valid_ref(self, ref: str) -> bool:
        try:
            self._git("check-ref-format", ref)
        except GitFailed:
            return False
        return True

    def set_ref(self, ref: str, sha: str, *, old: str | None = None) -> None:
        """Points `ref` at `sha`; with `old` only if it is there now ("" for: is not there)."""
        expected = [] if old is None else [old or "0" * 40]
        self._git("update-ref", ref, sha, *expected)

    def delete_ref(self, ref: str) -> None:
        self._git("update-ref", "-d", ref)

    def is_ancestor(self, older: str, newer: str) -> bool:
        try:
            self._git("merge-base", "--is-ancestor", older, newer)
        except GitFailed:
            return False
        return True

    # -- objects -----------------------------------------------------------------------------------------------

    def has(self, sha: str) -> bool:
        if not _SHA.fullmatch(sha):
            return False
        try:
            self._git("cat-file", "-e", sha)
        except GitFailed:
            return False
        return True

    def kind(self, sha: str) -> str:
        return self._text("cat-file", "-t", sha)

    def blob(self, sha: str) -> bytes:
        return self._git("cat-file", "blob", sha)

    def put_blob(self, content: bytes) -> str:
        return self._text("hash-object", "-w", "--stdin", given=content)

    def tree(self, treeish: str, *, recursive: bool = False, path: str = "") -> list[Entry]:
        """The entries of a tree, with their whole paths from it; those of `path` only where it is given."""
        flags = ["-r", "-t"] if recursive else []
        listed = self._git("ls-tree", "-z", "--long", "--full-tree", *flags, treeish, *(["--", path] if path else []))
        found = []
        for raw in listed.decode(errors="surrogateescape").split("\0"):
            if raw:
                head, _, name = raw.partition("\t")
                mode, kind, sha, size = head.split()
                found.append(Entry(mode, kind, sha, name, None if size == "-" else int(size)))
        return found

    def files(self, ref: str, folder: str = "") -> dict[str, str]:
        """The text of each file below `folder` at the commit `ref`, by its path, without symlinks."""
        if ref not in self._trees:
            self._trees = {ref: self.tree(ref, recursive=True)}  # Of one commit only: the newest is asked for.
        blobs = [one for one in self._trees[ref] if one.kind == "blob" and one.mode != "120000"]
        return {one.path: self._blob_text(one.sha) for one in blobs if not folder or one.path.startswith(f"{folder}/")}

    def _blob_text(self, sha: str) -> str:
        if sha not in self._texts:
            self._texts[sha] = self.blob(sha).decode(errors="replace")
        return self._texts[sha]

    def subject(self, sha: str) -> str:
        """The first line of a commit's message."""
        return self.commit(sha).message.partition("\n")[0]

    def entry(self, treeish: str, path: str) -> Entry | None:
        """What is at `path` of a tree."""
        return next((e for e in self.tree(treeish, path=path) if e.path == path), None)

    def write_tree(self, base: str | None, changes: Sequence[tuple[str, str, str | None]]) -> str:
        """A tree: `base` with changes (mode, path, blob or commit id; None removes the path)."""
        env = {"GIT_INDEX_FILE": str(self.path / f"index-{os.getpid()}-{id(changes)}")}
        try:
            self._git("read-tree", *([base] if base else ["--empty"]), env=env)
            lines = [f"{'0' if sha is None else mode} {sha or '0' * 40}\t{path}\0" for mode, path, sha in changes]
            self._git("update-index", "-z", "--index-info", given="".join(lines).encode(), env=env)
            return self._text("write-tree", env=env)
        finally:
            Path(env["GIT_INDEX_FILE"]).unlink(missing_ok=True)

    def put_commit(
        self, tree: str, parents: Sequence[str], message: str, author: Person, at: datetime | None = None
    ) -> str:
        when = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        env = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", author.name), ("EMAIL", author.email), ("DATE", when))
        }
        flags = [f for parent in parents for f in ("-p", parent)]
        return self._text("commit-tree", tree, *flags, given=message.encode(), env=env)

    def commit(self, sha: str) -> CommitInfo:
        text = self._text("show", "-s", "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%cI%x00%B", sha)
        found, tree, parents, name, email, date, message = text.split("\0", 6)
        return CommitInfo(found, tree, tuple(parents.split()), Person(name, email), _utc(date), message.strip("\n"))

    def log(self, ref: str, *, exclude: str = "", path: str = "", most: int = 500) -> list[CommitInfo]:
        """Commits from the newest; without those that `exclude` has."""
        span = [ref, f"^{exclude}"] if exclude else [ref]
        listed = self._text("rev-list", f"--max-count={most}", *span, *(["--", path] if path else []))
        return [self.commit(sha) for sha in listed.split()]

    def commit_files(
        self, branch: str, files: Files, message: str, author: Person, *, start: str = "", at: datetime | None = None
    ) -> str:
        """One commit on `branch`, made from `start` (or from nothing) where it is not there yet."""
        parent = self.branches().get(branch) or (self.resolve(start) if start else None)
        changes = [
            ("100644", path, None if text is None else self.put_blob(text.encode() if isinstance(text, str) else text))
            for path, text in files.items()
        ]
        base = self.commit(parent).tree if parent else None
        sha = self.put_commit(self.write_tree(base, changes), [parent] if parent else [], message, author, at)
        self.set_ref(f"refs/heads/{branch}", sha)
        return sha

    # -- comparing and merging ---------------------------------------------------------------------------------

    def merge_base(self, one: str, other: str) -> str | None:
        try:
            return self._text("merge-base", one, other)
        except GitFailed:
            return None

    def count(self, old: str, new: str) -> int:
        """How many commits `new` has that `old` has not."""
        return int(self._text("rev-list", "--count", f"{old}..{new}"))

    def diff(self, old: str, new: str) -> list[Delta]:
        """The files that differ between two trees, renames found as GitHub does."""
        flags = ("-M", "--no-color", "--no-ext-diff")
        raw = self._git("diff-tree", "-r", "-z", "--raw", *flags, old, new).decode(errors="surrogateescape").split("\0")
        numbers = self._git("diff-tree", "-r", "-z", "--numstat", *flags, old, new)
        counts = _counts(numbers.decode(errors="surrogateescape"))
        found, position = [], 0
        while position + 1 < len(raw):
            _, _, _, sha, letter = raw[position].lstrip(":").split(" ")
            moved = letter[0] in "RC"
            previous, path = (raw[position + 1], raw[position + 2]) if moved else ("", raw[position + 1])
            position += 3 if moved else 2
            added, deleted = counts.get(path, (None, None))
            status = {"A": "added", "D": "removed", "R": "renamed", "C": "copied"}.get(letter[0], "modified")
            patch = self._patch(old, new, path, previous) if added is not None else None
            found.append(Delta(path, status, sha, added or 0, deleted or 0, patch, previous))
        return found

    def _patch(self, old: str, new: str, path: str, previous: str) -> str:
        paths = [previous, path] if previous else [path]
        text = self._git("diff-tree", "-r", "-p", "-M", "--no-color", "--no-ext-diff", old, new, "--", *paths)
        _, hunk, rest = text.decode(errors="replace").partition("\n@@ ")
        return f"@@ {rest}".rstrip("\n") if hunk else ""

    def merged_tree(self, base: str, head: str) -> str | None:
        """The tree of both commits together; None where they conflict."""
        try:
            return self._text("merge-tree", "--write-tree", base, head).splitlines()[0]
        except GitFailed:
            return None


def _utc(date: str) -> str:
    return datetime.fromisoformat(date).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _counts(text: str) -> dict[str, tuple[int | None, int | None]]:
    """Lines added and deleted, by the new path, of `--numstat -z`; None for what is binary."""
    parts, position = text.split("\0"), 0
    found: dict[str, tuple[int | None, int | None]] = {}
    while position < len(parts) and parts[position]:
        added, deleted, path = parts[position].split("\t", 2)
        if path:
            position += 1
        else:  # A rename: the old and the new path follow.
            path = parts[position + 2]
            position += 3
        found[path] = (None, None) if added == "-" else (int(added), int(deleted))
    return found
