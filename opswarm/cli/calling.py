"""Asking a service of the swarm over HTTP, as the person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from opswarm.errors import OpswarmError, Unauthenticated, Unavailable, by_code
from opswarm.guard.keys import find_token
from opswarm.guard.untrusted import clean
from opswarm.settings import Settings

SECONDS = 15.0


def call(
    settings: Settings,
    service: str,
    url: str,
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str | int | float] | None = None,
) -> Any:
    """The JSON that `service` at `url` answers with.

    Raises what it says was wrong, `Unauthenticated` where the person has no token that it takes, and `Unavailable`
    when it does not answer.
    """
    headers = {"Authorization": f"Bearer {find_token(settings)}"}
    try:
        response = httpx.request(
            method,
            f"{url}{path}",
            json=dict(body) if body is not None else None,
            params=dict(query or {}),
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
        )
        found: Any = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unavailable(f"The {service} does not answer at {url}.", hint="Run `opswarm up`.") from error
    if response.status_code == 401:
        raise Unauthenticated(f"The {service} does not accept this token.")
    if response.status_code != 200:
        said = found.get("error", {}) if isinstance(found, dict) else {}
        told = said if isinstance(said, dict) else {}
        message = clean(str(told.get("message", ""))) or f"The {service} answered HTTP {response.status_code}."
        raise (by_code(str(told.get("code", ""))) if told else OpswarmError)(message)
    return found
