"""Checking what a caller names before it becomes part of a URL."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.settings import GitHub

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.+$)[A-Za-z0-9._-]{1,100}")
_REF = re.compile(r"(?![-/])(?!.*(?:\.\.|//|@\{))[^\x00-\x20\x7f~^:?*\[\\]{1,250}(?<![/.])")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}(?:\[bot\])?")

Repo = Annotated[str, Field(description="owner/name; default: the configured one.", max_length=140)]
Number = Annotated[int, Field(description="Its number.", ge=1, le=2**31)]
Limit = Annotated[int, Field(description="1 to 100.")]
PageNumber = Annotated[int, Field(description="From 1.", ge=1, le=1000)]
Ref = Annotated[str, Field(description="Branch, tag or commit; default: the default branch.", max_length=250)]


def _shown(value: str) -> str:
    return f"'{cap_bytes(' '.join(clean(value).split()), 80)}'"


def repository(value: str, settings: GitHub) -> str:
    """The path of a repository, `/repos/owner/name`. "" is the first one of the settings. Raises `InvalidInput`."""
    return f"/repos/{full_name(value, settings)}"


def full_name(value: str, settings: GitHub) -> str:
    """`owner/name`. Raises `InvalidInput`."""
    chosen = value or next(iter(settings.repositories), "")
    if not chosen:
        raise InvalidInput("repo: say which repository, as owner/name.", hint="github.repositories names a default.")
    if not _REPOSITORY.fullmatch(chosen):
        raise InvalidInput(f"repo: {_shown(chosen)} is not owner/name.")
    return chosen


def ref(value: str, field: str = "ref") -> str:
    """A branch, a tag or a commit, quoted for a path."""
    if not _REF.fullmatch(value):
        raise InvalidInput(f"{field}: {_shown(value)} is not a branch, a tag or a commit.")
    return quote(value, safe="/")


def path(value: str, field: str = "path") -> str:
    """A path in a repository, quoted; "" for its root."""
    plain = value.strip("/")
    if any(part in ("", ".", "..") for part in plain.split("/")) and plain:
        raise InvalidInput(f"{field}: {_shown(value)} is not a path in a repository.")
    try:
        return quote(plain, safe="/")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field}: {_shown(value)} is not text.") from error


def sha(value: str, field: str = "head_sha") -> str:
    """A whole commit id."""
    if not _SHA.fullmatch(value):
        raise InvalidInput(f"{field}: {_shown(value)} is not a whole commit id.", hint="Take it from pull_get.")
    return value


def login(value: str, field: str) -> str:
    if not _LOGIN.fullmatch(value):
        raise InvalidInput(f"{field}: {_shown(value)} is not the name of an account.")
    return value


def bounded(value: int, field: str = "limit", high: int = 100) -> int:
    if not 1 <= value <= high:
        raise InvalidInput(f"{field} must be from 1 to {high}, not {value}.")
    return value
