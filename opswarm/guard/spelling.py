"""What a name really says: undoing the ways in which one thing is written to look like another.

Nothing is mended here for use. A name is worked out as the most lenient reader would understand it, so that what
differs from its plain form can be refused, and the refusal can say what it stands for.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote

_MOST_SHOWN = 80
_MOST_READ = 2_048
"""Nothing so long is a name, so what comes after it is not worth the work of undoing."""

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_REMOTE = re.compile(r"^(?:refs/remotes/[^/]*/|refs/heads/|heads/|remotes/[^/]*/|origin/|upstream/)")
_SUFFIX = re.compile(r"(?:@\{[^}]*\}?|\^\{?[^}]*\}?|~\d*)$")


def shown(text: str) -> str:
    """`text` in quotes for a sentence: plain ASCII, whatever it holds, and no longer than a line."""
    cut = text[:_MOST_SHOWN]
    return f"{cut!a}{'...' if len(text) > len(cut) else ''}"


def plain(text: str) -> str:
    """`text` without percent-encoding (however often), compatibility forms, or characters nobody sees."""
    return _settled(text, _plainer)


def plain_path(text: str) -> str:
    """What `text` says as a path inside a repository: with `/` only, relative, no `.`, `..`, or doubled `/`.

    Gives "" where it leads out of the repository or names its root. `plain_path(plain_path(t)) == plain_path(t)`.
    """
    return _settled(text, _plainer_path)


def plain_branch(text: str) -> str:
    """The branch that Git or a lenient reader could make of `text`, without regard to case."""
    return _settled(text, _plainer_branch)


def plain_name(text: str) -> str:
    """A namespace, kind or object name without regard to case, spaces or slashes around it."""
    return plain(text).strip(" ./").casefold()


def _settled(text: str, step: Callable[[str], str]) -> str:
    """`step` done over and over until it changes nothing. Each step shortens the text or settles its form."""
    text = text[:_MOST_READ]
    while (once := step(text)) != text:
        text = once
    return text


def _plainer(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) not in _UNSEEN))
    return unquote(text)


def _plainer_path(text: str) -> str:
    parts = plain(text).replace("\\", "/").split("/")
    joined = posixpath.normpath("/".join(p.rstrip(" .") or p.strip(" ") for p in parts))
    bare = joined.lstrip("/")
    return "" if bare in ("", ".", "..") or bare.startswith("../") else bare


def _plainer_branch(text: str) -> str:
    said = plain(text).casefold().strip().replace("\\", "/")
    said = said.lstrip("+").rpartition(":")[2] or said.rstrip(":")
    said = _SUFFIX.sub("", posixpath.normpath(said).strip("/ ") if said else "")
    return _REMOTE.sub("", said)
