"""What people wrote, made fit to be read by a model: nothing hidden in it, no longer than it may be, and from whom."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cachetools import TTLCache

from mcp_servers.github.client import Client
from opswarm.errors import NotFound
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import one_line

BODY = 4_000
"""Characters that are shown of a description."""

_HIDDEN = "(left out: lockdown is on and its author has no push rights)"
_KNOWN_SECONDS = 300.0
_WRITERS = frozenset({"admin", "maintain", "write"})


def visible(text: str) -> str:
    """`text` without HTML comments and what no reader sees."""
    kept, rest = [], text
    while (start := rest.find("<!--")) >= 0:
        kept.append(rest[:start])
        end = rest.find("-->", start + 4)
        # A comment that is not closed hides all that follows, as on GitHub's page.
        rest = rest[end + 3 :] if end >= 0 else ""
    return clean("".join(kept) + rest).strip()


def quoted(text: str | None, most: int = BODY, prefix: str = "> ") -> list[str]:
    """Somebody's words as lines that each begin with `> `, so that none can pass for ours."""
    seen = visible(text or "")
    if not seen:
        return [f"{prefix}(empty)"]
    lines = [f"{prefix}{line}".rstrip() for line in seen[:most].split("\n")]
    if len(seen) > most:
        lines.append(f"({most} of {len(seen)} characters shown)")
    return lines


def line(text: Any, most: int = 200) -> str:
    """A title or a name, on one line."""
    told = one_line(visible(str(text or "")))
    return told if len(told) <= most else f"{told[: most - 1]}…"


def who(user: Mapping[str, Any] | None) -> str:
    """An account as it is named; one that is deleted is GitHub's `ghost`."""
    return line((user or {}).get("login") or "ghost", 60)


class Strangers:
    """Whether somebody's words are shown: under lockdown only of those who may push, of us, and of trusted Apps."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(1_000, _KNOWN_SECONDS, timer=time.monotonic)

    async def words(self, repo: str, user: Mapping[str, Any] | None, text: str | None, most: int = BODY) -> list[str]:
        """The quoted text of `user` in the repository at the path `repo`, or that it is left out."""
        return quoted(text, most) if await self.shows(repo, user) else [_HIDDEN]

    async def title(self, repo: str, user: Mapping[str, Any] | None, text: Any) -> str:
        """A title, or that it is left out."""
        return line(text) if await self.shows(repo, user) else _HIDDEN

    async def shows(self, repo: str, user: Mapping[str, Any] | None) -> bool:
        settings = self._client.settings
        if not settings.lockdown:
            return True
        login = str((user or {}).get("login") or "")
        if not login:
            return False
        if login == await self._client.login() or login in settings.trusted_bots:
            return True
        key = (repo, login)
        if key not in self._known:
            self._known[key] = await self._may_push(repo, login)
        return self._known[key]

    async def _may_push(self, repo: str, login: str) -> bool:
        try:
            found = await self._client.get(f"{repo}/collaborators/{quote(login, safe='')}/permission")
        except NotFound:
            return False
        return found.get("permission") in _WRITERS
