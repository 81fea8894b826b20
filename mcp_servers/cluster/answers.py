"""What the API server answers: the text of a success, and every failure as an error a person can act on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opswarm.errors import InvalidInput, NotFound, OpswarmError, PermissionDenied, Unauthenticated, Unavailable
from opswarm.guard.untrusted import cap_bytes, clean

_MOST_CAUSES = 20
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its text, and whether the server sent a Table."""

    text: str
    content_type: str

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError as error:
            raise Unavailable("The API server answered with something that is not JSON.") from error
        if not isinstance(value, dict):
            raise Unavailable("The API server answered with something that is not an object.")
        return value


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a refusal: a machine's word, a sentence, and the field that it is about."""

    reason: str
    message: str
    field: str


class Refused(InvalidInput):
    """The API server understood and would not: a conflict, a budget, a validation. Nothing was changed.

    `status` is the HTTP status, `reason` the Status object's word for it, such as `Conflict` or `AlreadyExists`.
    """

    def __init__(self, message: str, *, status: int, reason: str = "", causes: tuple[Cause, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.causes = causes

    @property
    def is_other_object(self) -> bool:
        """Whether the object under this name is no longer the one with the uid that was sent along."""
        return (self.status == 409 and self.reason == "Conflict") or (
            self.status == 422 and any(c.field == "metadata.uid" for c in self.causes)
        )


class Broke(Unavailable):
    """The API server answered that it failed. `said` is its sentence, "" where it gave none."""

    def __init__(self, message: str, *, hint: str, status: int, said: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.said = said


class Busy(OpswarmError):
    """A failure that asking again may cure; `wait` in seconds."""

    def __init__(self, error: Unavailable, wait: float) -> None:
        super().__init__(error.message, hint=error.hint)
        self.error = error
        self.wait = wait


def failure(status: int, text: str, unavailable: Unavailable, retry_after: str | None, grant: str) -> OpswarmError:
    """The error of an answer with `status` and the body `text`.

    `unavailable` says that the server is at fault; `grant` is what the caller lacks where RBAC denies.
    """
    body = _status(text)
    said = _message(text, body)
    message = said or f"HTTP {status}"
    if status == 401:
        return Unauthenticated(
            "The API server does not accept the credentials of this kubeconfig or service account.",
            hint="Renew them, or check the context.",
        )
    if status == 403:
        return PermissionDenied(f"The cluster's RBAC denies this: {message}.", hint=f"Grant {grant} to it.")
    if status == 404:
        return NotFound(f"Not found: {message}.")
    if status == 410:
        return InvalidInput(f"The cursor has expired: {message}", hint="List again from the start.")
    causes = _causes(body)
    if status in (400, 405, 406, 409, 415, 422) or any(c.reason == "DisruptionBudget" for c in causes):
        text = f"The API server refused the request: {message}"
        return Refused(text, status=status, reason=str(body.get("reason") or ""), causes=causes)
    error = Broke(
        f"{unavailable.message.removesuffix('.')} answered HTTP {status}{f': {said}' if said else ''}.",
        hint=unavailable.hint,
        status=status,
        said=said,
    )
    return Busy(error, _seconds(retry_after)) if status in (429, 500, 502, 503, 504) else error


def _status(text: str) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _causes(body: Mapping[str, Any]) -> tuple[Cause, ...]:
    details = body.get("details")
    found = details.get("causes") if isinstance(details, dict) else None
    listed = [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []
    return tuple(
        Cause(*(_line(str(c.get(key) or "")) for key in ("reason", "message", "field"))) for c in listed[:_MOST_CAUSES]
    )


def _message(text: str, body: Mapping[str, Any]) -> str:
    """The sentence of a Status, or the head of whatever came instead, on one line."""
    if body:
        return _line(str(body.get("message") or ""))
    # A proxy's page says nothing in its markup, nor does JSON that is no object.
    plain = not text.lstrip().startswith(("<", "[", '"', "{"))
    return _line(text) if plain else ""


def _line(text: str) -> str:
    return cap_bytes(" ".join(clean(text).split()), _LONGEST).rstrip(".")


def _seconds(value: str | None) -> float:
    return float(value) if value and value.isascii() and value.isdigit() else 0.3
