"""What such an API answers: the data of a success, and every failure as an error a person can act on.

Success and failure come in the envelope `{"status": …}` that the stores of metrics and of logs share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp_servers.observing.connection import Reply
from opswarm.errors import (
    DeadlineExceeded,
    InvalidInput,
    LimitExceeded,
    NotFound,
    OpswarmError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp.text import one_line

_LONGEST = 500
_MOST_WARNINGS = 5
_POSITION = re.compile(r"(?:^|[\s:])(\d{1,6}):(\d{1,6}): parse error: ")
_AROUND = 60
_TOO_MUCH = ("too many samples", "exceeded maximum resolution", "max-series", "too many series", "limit")
_NO_PAGE = "It is no such API, or the url lacks its path prefix (as in http://host/prefix)."


@dataclass(frozen=True, slots=True)
class Success:
    """The `data` of an answer, and what the API said beside it."""

    data: Any
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """The warnings as lines of a tool's text."""
        return [f"(warning: {w})" for w in self.warnings]


def as_json(reply: Reply, name: str) -> Any:
    """The JSON of a body. Raises `Unavailable` that says what came instead."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        if reply.kind == "text/html" or reply.body.lstrip()[:1] == b"<":
            raise Unavailable(
                f"{name} answered with a web page, not JSON: a proxy or a login page is in between.", hint=_NO_PAGE
            ) from error
        raise Unavailable(f"{name} answered with something that is not JSON, or broke off in it.") from error


def success(reply: Reply, name: str, query: str = "") -> Success:
    """The data of a successful answer. Raises the `OpswarmError` of any other; `query` is a query that was asked."""
    refuse_status(reply, name)
    body = as_json(reply, name) if reply.status < 300 else _try_json(reply)
    if isinstance(body, dict) and body.get("status") == "success" and reply.status < 300:
        return Success(body.get("data"), _warnings(body))
    if isinstance(body, dict) and body.get("status") == "error":
        raise _said(str(body.get("errorType") or ""), str(body.get("error") or ""), reply.status, name, query)
    if reply.status < 300:
        raise Unavailable(f"{name} answered with JSON that is not of its API.", hint=_NO_PAGE)
    raise plain_failure(reply, name)


def refuse_status(reply: Reply, name: str) -> None:
    """Raises the error of what proxies and doors answer before the API is asked."""
    if 300 <= reply.status < 400:
        to = urlsplit(reply.location).hostname or "elsewhere"
        raise Unavailable(
            f"{name} sends us on to {one_line(to)[:100]}, as a login page does; redirects are not followed.",
            hint="Use a URL behind the login, or credentials that the proxy takes.",
        )
    if reply.status == 401:
        raise Unauthenticated(
            f"{name} does not accept the credentials of this tool server.",
            hint="Check token_file, username and password, or the tenant.",
        )
    if reply.status == 403:
        raise PermissionDenied(f"{name} does not let this tool server ask for that.", hint="Check its rights there.")


def plain_failure(reply: Reply, name: str) -> OpswarmError:
    """The error of a status without the API's own words."""
    said = "" if reply.kind == "text/html" else _line(reply.body[:2_000].decode("utf-8", errors="replace"))
    shown = f": {said}" if said and not said.startswith(("<", "{", "[")) else ""
    message = f"{name} answered HTTP {reply.status}{shown}."
    if reply.status in (404, 405):
        return NotFound(message, hint=_NO_PAGE)
    if reply.status in (400, 422):
        return InvalidInput(message)
    if reply.status in (413, 429):
        return LimitExceeded(message, hint="Ask for less, or wait.")
    return Unavailable(message, hint="Try again; its own log says more.")


def _said(kind: str, text: str, status: int, name: str, query: str) -> OpswarmError:
    """The API's own error, by its type; some give the HTTP status instead."""
    line = _line(text) or f"HTTP {status}"
    if query and (found := _POSITION.search(text)):
        return InvalidInput(pointed(query, int(found[1]), int(found[2]), _line(text[found.end() :])))
    if kind in ("timeout", "canceled"):
        return DeadlineExceeded(f"{name} gave up on it: {line}.", hint="Ask for fewer series or less time.")
    if status in (413, 429) or (kind == "execution" and any(w in line.lower() for w in _TOO_MUCH)):
        return LimitExceeded(f"{name} refuses that much: {line}.", hint="Narrow it, aggregate it, or raise the step.")
    if kind in ("bad_data", "execution") or status in (400, 422):
        return InvalidInput(f"{name} can't do that: {line}.")
    if kind == "not_found" or status == 404:
        return NotFound(f"{name} does not have that: {line}.")
    return Unavailable(f"{name} failed: {line}.", hint="Try again; its own log says more.")


def pointed(query: str, line: int, column: int, why: str) -> str:
    """A parse error with the place under a caret. `column` counts bytes from 1."""
    lines = query.split("\n")
    text = lines[line - 1] if 1 <= line <= len(lines) else ""
    at = len(text.encode("utf-8", errors="replace")[: max(0, column - 1)].decode("utf-8", errors="ignore"))
    start, end = max(0, at - _AROUND), at + _AROUND
    # One character for one, so that the caret stays where it belongs.
    shown = "".join(c if c.isprintable() else " " for c in text[start:end])
    return f"The query can't be parsed, line {line} character {at + 1}: {why}.\n  {shown}\n  {' ' * (at - start)}^"


def items_of(data: Any, name: str) -> list[Any]:
    """A list; some servers write null for an empty one. Raises `Unavailable`."""
    if data is None:
        return []
    if not isinstance(data, list):
        raise Unavailable(f"{name} gave something else than a list.")
    return data


def object_of(data: Any, name: str) -> Mapping[str, Any]:
    """Raises `Unavailable` for what is none."""
    if not isinstance(data, dict):
        raise Unavailable(f"{name} gave something else than an object.")
    return data


def labels_of(found: Any, name: str) -> Mapping[str, str]:
    """Names and their values. Raises `Unavailable`."""
    return {str(k): str(v) for k, v in object_of(found, name).items()}


def _try_json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _warnings(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What came beside the data: warnings and notes, and that a part of the stores did not answer."""
    found: list[str] = []
    for key in ("warnings", "infos"):
        listed = body.get(key)
        found += [_line(str(w)) for w in listed] if isinstance(listed, list) else []
    if body.get("isPartial") is True:
        found.insert(0, "this is a part only: some stores did not answer")
    more = len(found) - _MOST_WARNINGS
    return (*found[:_MOST_WARNINGS], *([f"and {more} more warnings"] if more > 0 else []))


def _line(text: str) -> str:
    return cap_bytes(one_line(text), _LONGEST).rstrip(".")
