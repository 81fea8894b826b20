"""What changed between two versions, as a project tells it: its releases, else its changelog."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.github import names
from mcp_servers.github.client import Client
from mcp_servers.github.contents import contents, file_bytes
from mcp_servers.github.strangers import line, quoted
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import fit_text
from opswarm.mcp.tools import ToolOutput

_MOST_RELEASES = 500
_MOST_TOLD = 30
_VERSION = re.compile(
    r"""
    (?:^|(?<=[^0-9A-Za-z.])) [vV]?
    (\d+(?:\.\d+){0,3})                                             # its numbers
    ((?:[-+_.]?[A-Za-z][0-9A-Za-z.+-]*|[-+][0-9A-Za-z.+-]+)?)$       # its suffix
    """,
    re.VERBOSE,
)
_HEADING = re.compile(r"^(?:#{1,4}\s+|={0,2}\s*)\[?[vV]?(\d+\.\d+(?:\.\d+){0,2}(?:[-+][0-9A-Za-z.+-]+)?)\b")
_CHANGELOG = re.compile(r"(?:changelog|changes|history|news|releases?)(?:\.(?:md|markdown|rst|txt))?", re.IGNORECASE)
_BODY = 3_000


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is compared: its numbers, then whether it is final (after its pre-releases), then the rest."""

    numbers: tuple[int, ...]
    final: bool
    rest: tuple[tuple[int, int | str], ...]

    @property
    def key(self) -> tuple[tuple[int, ...], bool, tuple[tuple[int, int | str], ...]]:
        """What versions are ordered by: 1.2 is 1.2.0."""
        padded = self.numbers + (0,) * (4 - len(self.numbers))
        return padded, self.final, self.rest


_PRE = re.compile(r"^[-_.]?(?:alpha|beta|rc|pre|preview|dev|nightly|snapshot|canary|next|[abc]\d)", re.IGNORECASE)


def version(text: str) -> tuple[str, Version] | None:
    """What stands before a version at the end of `text`, and the version; None where there is none.

    `v1.2.3`, `1.2`, `chart-1.2.3`, `@scope/pkg@1.2.3-rc.1`, `app/v2.0.0`, `2024.11.1`. A suffix that names no
    pre-release (`-ubuntu`, `-ls12`) sorts after the version without it.
    """
    found = _VERSION.search(text)
    if found is None:
        return None
    numbers = tuple(int(n) for n in found.group(1).split("."))
    suffix = found.group(2).partition("+")[0]
    parts = tuple((0, int(p)) if p.isdigit() else (1, p.lower()) for p in re.findall(r"\d+|[A-Za-z]+", suffix))
    return text[: found.start()].rstrip("-_/@ "), Version(numbers, not _PRE.match(suffix), parts)


@dataclass(frozen=True, slots=True)
class Section:
    """One version of a changelog or one release: its name, and what it says."""

    name: str
    at: Version
    text: str
    published: str = ""


class Releases:
    """Releases and changelogs of a GitHub's repositories."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def release_notes(
        self,
        repo: Annotated[str, Field(description="owner/name of the project.", max_length=140)],
        to_version: Annotated[str, Field(description="Up to and with this version; default: the newest.")] = "",
        from_version: Annotated[str, Field(description="After this version; default: only to_version.")] = "",
        component: Annotated[str, Field(description="In a monorepo: what its tags begin with.")] = "",
    ) -> ToolOutput:
        """Tell what changed between two versions, from releases or the changelog. v1.2 and 1.2 mean the same."""
        where = names.repository(repo, self._client.settings)
        upper, lower = _wanted(to_version, "to_version"), _wanted(from_version, "from_version")
        if upper and lower and upper.key < lower.key:
            raise InvalidInput(f"{line(from_version)} is newer than {line(to_version)}.", hint="Swap them.")
        releases = await self._client.all(f"{where}/releases", most=_MOST_RELEASES)
        every = [s for r in releases.items if (s := _of_release(r, component)) is not None]
        found, source = _between(every, lower, upper), "releases"
        tried = [f"{len(every)} releases{f' of {line(component)}' if component else ''}"]
        if not any(one.text.strip() for one in found):
            sections, path = await self._changelog(where, component)
            tried.append(f"{path} with {len(sections)} versions" if path else "no changelog file")
            told = _between(sections, lower, upper)
            found, source = (told, path) if told else (found, source)
        if not found:
            near = ", ".join(s.name for s in sorted(every, key=lambda s: s.at.key)[-5:])
            raise NotFound(
                f"Nothing is told of {line(to_version or 'the newest version')} in {where[7:]} ({'; '.join(tried)}).",
                hint=f"Newest releases: {near}." if near else "Look for its tags with branches_list or its own site.",
            )
        lines = [f"{where[7:]}: {len(found)} versions, newest first, from its {source}"]
        for one in found[:_MOST_TOLD]:
            lines.append(f"## {line(one.name)}{f' ({one.published[:10]})' if one.published else ''}")
            lines += quoted(one.text, _BODY)
        if len(found) > _MOST_TOLD:
            lines.append(f"({_MOST_TOLD} of {len(found)} versions shown; narrow by from_version)")
        if releases.more and source == "releases":
            lines.append(f"(only the newest {_MOST_RELEASES} releases were looked at)")
        data = {"source": source, "versions": [{"name": s.name, "published_at": s.published} for s in found]}
        return ToolOutput(fit_text("\n".join(lines), "from_version"), data)

    async def _changelog(self, where: str, component: str) -> tuple[list[Section], str]:
        """The sections of the changelog, and its path or ""."""
        tail = component.rstrip("-@/").rpartition("/")[2]
        folders = ["", "docs"]
        if tail and re.fullmatch(r"[A-Za-z0-9._-]+", tail) and set(tail) != {"."}:
            folders = [tail, f"charts/{tail}", f"packages/{tail}", *folders]
        for folder in folders:
            try:
                listed = await contents(self._client, where, folder)
            except NotFound:
                continue
            entries = listed if isinstance(listed, list) else []
            files = [e for e in entries if e.get("type") == "file" and _CHANGELOG.fullmatch(e["name"])]
            if files:
                found = await contents(self._client, where, files[0]["path"])
                raw = await file_bytes(self._client, where, found)
                return sections(raw.decode("utf-8", errors="replace")), str(files[0]["path"])
        return [], ""


def _wanted(text: str, field: str) -> Version | None:
    if not text:
        return None
    found = version(text.strip())
    if found is None:
        raise InvalidInput(f"{field}: '{line(text, 80)}' is not a version.", hint="Write it like 1.2.3 or v1.2.3.")
    return found[1]


def _of_release(release: Any, component: str) -> Section | None:
    """A release as a section, if it is of `component`; with none, of what the tags name plainly."""
    tag = str(release.get("tag_name") or "")
    found = version(tag)
    if found is None or release.get("draft"):
        return None
    prefix = found[0].lower()
    if component and component.lower().rstrip("-_/@") not in (prefix, prefix.rpartition("/")[2]):
        return None
    body = str(release.get("body") or "")
    return Section(tag, found[1], body, str(release.get("published_at") or ""))


def _between(every: Sequence[Section], lower: Version | None, upper: Version | None) -> list[Section]:
    """Those after `lower` up to `upper`, newest first; without `lower` the one that is `upper`, or the newest."""
    newest = sorted(every, key=lambda s: s.at.key, reverse=True)
    if upper is None and lower is None:
        return [s for s in newest if s.at.final][:1] or newest[:1]
    if lower is None:
        return [s for s in newest if s.at.key == upper.key] if upper else []
    found = [s for s in newest if lower.key < s.at.key and (upper is None or s.at.key <= upper.key)]
    # Pre-releases on the way are told again by the release that they led to.
    return [s for s in found if s.at.final or (upper is not None and s.at.key == upper.key)]


def sections(text: str) -> list[Section]:
    """A changelog by its headings: each version with the text below it."""
    found: list[Section] = []
    name, at, lines = "", None, list[str]()
    every = clean(text).split("\n")
    for number, row in enumerate(every):
        following = every[number + 1] if number + 1 < len(every) else ""
        heading = _HEADING.match(row)
        underlined = bool(re.fullmatch(r"[=~^-]{3,}\s*", following))
        if heading and (row.startswith("#") or underlined):
            if at is not None:
                found.append(Section(name, at, "\n".join(lines).strip()))
            parsed = version(heading.group(1))
            name, at, lines = heading.group(1), parsed[1] if parsed else None, []
        elif not re.fullmatch(r"[=~^-]{3,}\s*", row):
            lines.append(row)
    if at is not None:
        found.append(Section(name, at, "\n".join(lines).strip()))
    return found
