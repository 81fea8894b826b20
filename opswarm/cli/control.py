"""`opswarm pause`, `resume` and `status`: through the orchestrator, else in the file that it would write."""

from __future__ import annotations

import getpass
import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

import httpx

from opswarm.cli import running
from opswarm.errors import ControlUnknown, OpswarmError, Unauthenticated, Unavailable, by_code
from opswarm.guard.control import MOST_BYTES, ControlState, FileControl, plain_reason, read_state
from opswarm.guard.keys import find_token
from opswarm.guard.untrusted import clean
from opswarm.settings import Settings

_SECONDS = 5.0


class _NoAnswer(Unavailable):
    """Nobody is there to be asked."""


def change(settings: Settings, *, paused: bool, reason: str) -> str:
    """Pauses or resumes actions, and says what came of it.

    Where the orchestrator does not answer and its file is on this machine, the file is written. Raises `OpswarmError`
    when it refuses, or when it is somewhere else.
    """
    reason = plain_reason(reason)
    url = running.base_url(settings)
    try:
        state = _asked(settings, "POST", f"{url}/control/{'pause' if paused else 'resume'}", {"reason": reason})
    except _NoAnswer:
        if (file := _file(settings, url)) is None:
            raise
        state = file.change_now(paused=paused, reason=reason, by=f"local:{_user()}")
        how = f"The orchestrator does not answer at {url}, so {file.path} was written: it counts for what follows it."
        return f"{_told(state)}\n{how}"
    return _told(state)


def status(settings: Settings) -> str:
    """One line on whether actions are paused."""
    url = running.base_url(settings)
    try:
        return _told(_asked(settings, "GET", f"{url}/control", None))
    except OpswarmError as error:
        file = _file(settings, url)
        if file is None:
            return f"Whether actions are paused can't be told. {error}"
        try:
            found = _told(file.read_now())
        except ControlUnknown as unknown:
            found = f"Whether actions are paused can't be told, so they are. {unknown}"
        return found if isinstance(error, ControlUnknown) else f"{found} (from {file.path}. {error})"


def _told(state: ControlState) -> str:
    if state.epoch and not state.paused:
        because = f": {state.reason}" if state.reason else "."
        return clean(f"Actions are not paused; {state.by} resumed them{because}")
    return clean(state.sentence)


def _asked(settings: Settings, method: str, url: str, body: dict[str, str] | None) -> ControlState:
    """The state that the orchestrator answers with. Raises `_NoAnswer` when it does not, else what it raised."""
    try:
        headers = {"Authorization": f"Bearer {find_token(settings)}"}
    except Unauthenticated:
        headers = {}  # Whether that is enough is known when somebody answers.
    try:
        response = httpx.request(method, url, json=body, headers=headers, timeout=_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NoAnswer(f"The orchestrator does not answer at {url}.", hint="Run `opswarm up`.") from error
    if response.status_code == 200:
        return read_state(response.content[: MOST_BYTES + 1])
    if response.status_code == 401:
        raise Unauthenticated("The orchestrator does not accept this token.")
    raise _refusal(response)


def _refusal(response: httpx.Response) -> OpswarmError:
    try:
        told: Any = json.loads(response.content)["error"]
        return by_code(str(told["code"]))(clean(str(told["message"])))
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"The orchestrator answers HTTP {response.status_code}.")


def _file(settings: Settings, url: str) -> FileControl | None:
    """The file that the orchestrator at `url` would write, where that is this machine's."""
    if settings.control.kind != "file":
        return None
    host = urlsplit(url).hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    return FileControl(settings.control_file()) if here else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container may run as a user that has no name.
        return "somebody"
