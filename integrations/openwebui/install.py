"""Puts the pipe into an Open WebUI by its API: `python integrations/openwebui/install.py --help`.

Run it again after an upgrade, or with other valves: what is there is brought up to date, and what was set by hand and
is not named here stays. It needs httpx and the file `opswarm_pipe.py` beside it, nothing else of Opswarm.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PIPE = Path(__file__).with_name("opswarm_pipe.py")
USAGE = 2
_SECONDS = 30.0
_EVERYONE = {"principal_type": "user", "principal_id": "*", "permission": "read"}
"""How Open WebUI spells that all who may sign in can use a model."""


class Failure(Exception):
    """A sentence for the person who installs, with what to do next."""


@dataclass(frozen=True)
class Wanted:
    """What is to be there in the end. A valve that is None stays as it is."""

    id: str
    name: str
    content: str
    valves: dict[str, Any]
    for_everyone: bool


class WebUI:
    """The administrator's side of Open WebUI's API. Every call raises `Failure` when it goes wrong."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self._url = url

    def sign_in(self, email: str, password: str) -> str:
        """A session's token."""
        form = {"email": email, "password": password}
        return str(self._call("POST", "/api/v1/auths/signin", "sign in", form)["token"])

    def function(self, id: str) -> dict[str, Any] | None:
        """The function of this id, or None. Answered to administrators only."""
        listed = self._call("GET", "/api/v1/functions/list", "list the functions")
        found = [f for f in listed if f.get("id") == id] if isinstance(listed, list) else []
        if found and found[0].get("type") != "pipe":
            raise Failure(f"There is a {found[0].get('type')} '{id}' already. Choose another id with --id.")
        return found[0] if found else None

    def put(self, wanted: Wanted) -> str:
        """Creates or updates the function and switches it on; says which."""
        form = {
            "id": wanted.id,
            "name": wanted.name,
            "content": wanted.content,
            "meta": {"description": "The agents of Opswarm as models."},
        }
        there = self.function(wanted.id)
        if there is None:
            there = self._call("POST", "/api/v1/functions/create", "create the function", form)
            done = "created"
        else:
            there = self._call("POST", f"/api/v1/functions/id/{wanted.id}/update", "update the function", form)
            done = "updated"
        if not there.get("is_active"):
            self._call("POST", f"/api/v1/functions/id/{wanted.id}/toggle", "switch the function on")
        return done

    def set_valves(self, wanted: Wanted) -> None:
        path = f"/api/v1/functions/id/{wanted.id}/valves"
        kept = self._call("GET", path, "read the valves") or {}
        given = {name: value for name, value in wanted.valves.items() if value is not None}
        if given:
            self._call("POST", f"{path}/update", "set the valves", {**kept, **given})

    def models(self, id: str) -> list[dict[str, Any]]:
        body = self._call("GET", "/api/models?refresh=true", "list the models")
        return [m for m in body["data"] if str(m.get("id", "")).startswith(f"{id}.")]

    def open_to_everyone(self, model: dict[str, Any]) -> None:
        there = self._call("GET", "/api/v1/models/model", "read who may use a model", absent=404, id=model["id"])
        grants = [
            {k: g[k] for k in ("principal_type", "principal_id", "permission")}
            for g in (there or {}).get("access_grants") or []
        ]
        if _EVERYONE not in grants:
            form = {"id": model["id"], "name": model["name"], "access_grants": [*grants, _EVERYONE]}
            self._call("POST", "/api/v1/models/model/access/update", "open a model to everyone", form)

    def _call(
        self, method: str, path: str, purpose: str, body: Any = None, *, absent: int = 0, **query: str
    ) -> Any:
        """The answer; None for the status `absent`."""
        try:
            response = self._http.request(method, path, json=body, params=query or None)
        except httpx.TimeoutException:
            raise Failure(f"Open WebUI did not answer within {_SECONDS:.0f} s to: {purpose}. Try again.") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise Failure(f"Open WebUI does not answer at {self._url}. Check --webui, and that it runs.") from None
        if absent and response.status_code == absent:
            return None
        if response.status_code in (401, 403):
            raise Failure(
                f"Open WebUI refused to {purpose} ({_detail(response)}). Give an administrator's key (Settings, "
                "Account; API keys have to be enabled first), or sign in with --email."
            )
        if response.status_code == 400 and purpose == "sign in":
            raise Failure("Open WebUI does not accept this email and password.")
        if response.status_code != 200:
            raise Failure(f"Open WebUI could not {purpose}: HTTP {response.status_code}, {_detail(response)}")
        try:
            return response.json()
        except ValueError:
            raise Failure(f"What answers at {self._url} is not Open WebUI's API. Check --webui.") from None


def _detail(response: httpx.Response) -> str:
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return "without saying why; its log may."
    return " ".join(str(said).split())[:300]


def install(http: httpx.Client, url: str, wanted: Wanted) -> list[str]:
    """Does it, and gives what was done as lines. Raises `Failure`."""
    webui = WebUI(http, url)
    done = [f"The function '{wanted.id}' was {webui.put(wanted)} and is on."]
    webui.set_valves(wanted)
    models = webui.models(wanted.id)
    agents = [m for m in models if not m["id"].endswith(".unavailable")]
    if not agents:
        reason = models[0]["name"] if models else "Its entry is missing from the list of models; see Open WebUI's log."
        raise Failure(f"The pipe is installed, but lists no agents: {reason} Run this again when that is mended.")
    if wanted.for_everyone:
        for model in agents:
            webui.open_to_everyone(model)
        done.append("Everyone who can sign in may use its models.")
    return [*done, f"Its models: {', '.join(m['id'] for m in agents)}."]


def _read(value: str | None, file: Path | None, variable: str, what: str) -> str:
    """What the argument, the file or the environment holds, in this order; "" where there is nothing."""
    if value is None and file is not None:
        try:
            value = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise Failure(f"The file {file} with {what} can't be read.") from None
    return (value if value is not None else os.environ.get(variable, "")).strip()


def _secret(value: str | None, file: Path | None, variable: str, what: str) -> str | None:
    """A key or token; None where there is none."""
    found = _read(value, file, variable, what)
    if found and (not found.isascii() or not found.isprintable() or " " in found):
        raise Failure(f"What was given as {what} is none: it must be one word.")
    return found or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="install.py", description="Put the Opswarm pipe into an Open WebUI, or bring it up to date."
    )
    env = os.environ.get
    parser.add_argument("--webui", default=env("OPENWEBUI_URL", ""), help="Open WebUI's address (OPENWEBUI_URL)")
    parser.add_argument("--key", help="an administrator's API key or session token (OPENWEBUI_API_KEY)")
    parser.add_argument("--key-file", type=Path, help="a file that holds it")
    parser.add_argument("--email", help="instead of a key: sign in as this administrator")
    parser.add_argument("--password-file", type=Path, help="a file with the password (OPENWEBUI_PASSWORD)")
    parser.add_argument("--url", default=env("OPSWARM_URL"), help="the orchestrator as it sees it (OPSWARM_URL)")
    parser.add_argument("--token", help="the front's token, of `opswarm token --front openwebui` (OPSWARM_FRONT_TOKEN)")
    parser.add_argument("--token-file", type=Path, help="a file that holds it")
    parser.add_argument("--timeout", type=float, help="seconds that one answer may take")
    parser.add_argument("--id", default="opswarm", help="the function's id")
    parser.add_argument("--name", default="Opswarm", help="the function's name")
    parser.add_argument("--for-everyone", action="store_true", help="let all users use the agents, not admins only")
    return parser


def run(arguments: Sequence[str]) -> list[str]:
    """Parses and installs. Raises `Failure`."""
    given = _parser().parse_args(arguments)
    if not re.fullmatch(r"https?://[^/\s]+\S*", given.webui):
        raise Failure("Say where Open WebUI is: --webui http://HOST:PORT, or OPENWEBUI_URL.")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,63}", given.id):
        raise Failure("An id is lower-case letters, digits and underscores, no digit first.")
    key = _secret(given.key, given.key_file, "OPENWEBUI_API_KEY", "Open WebUI's key")
    password = _read(None, given.password_file, "OPENWEBUI_PASSWORD", "the password") if given.email else ""
    if key is None and not password:
        raise Failure(
            "Give an administrator's key of Open WebUI (--key-file FILE, or OPENWEBUI_API_KEY), or --email with "
            "--password-file FILE or OPENWEBUI_PASSWORD."
        )
    token = _secret(given.token, given.token_file, "OPSWARM_FRONT_TOKEN", "the front's token")
    valves = {"url": given.url, "token": token, "timeout_seconds": given.timeout}
    try:
        content = PIPE.read_text(encoding="utf-8")
    except OSError:
        raise Failure(f"The pipe is not at {PIPE}. Run this from a checkout of Opswarm.") from None
    url = given.webui.rstrip("/")
    with httpx.Client(base_url=url, timeout=_SECONDS, trust_env=False) as http:
        key = WebUI(http, url).sign_in(given.email, password) if password else key
        http.headers["Authorization"] = f"Bearer {key}"
        return install(http, url, Wanted(given.id, given.name, content, valves, given.for_everyone))


def main() -> None:
    try:
        for line in run(sys.argv[1:]):
            print(line)
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
