"""The installer against a stand-in that keeps what Open WebUI keeps, with the paths and statuses of 0.12.4."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.openwebui import install
from integrations.openwebui.install import Failure
from tests.support.hosting import free_port
from tests.support.threads import threaded


class Stand:
    """The part of Open WebUI that the installer talks to."""

    def __init__(self) -> None:
        self.role = "admin"
        self.functions: dict[str, dict[str, Any]] = {}
        self.valves: dict[str, dict[str, Any]] = {}
        self.grants: dict[str, list[dict[str, Any]]] = {}
        self.writes: list[str] = []
        self.listed = [{"id": f"opswarm.{n}", "name": f"Opswarm: {n}"} for n in ("orchestrator", "devops")]
        self.url = ""

    async def handle(self, request: Request) -> Response:
        known = request.headers.get("authorization") == "Bearer good"
        if not known and request.url.path != "/api/v1/auths/signin":
            return JSONResponse({"detail": "401 Unauthorized"}, status_code=401)
        path, body = request.url.path, (await request.json()) if await request.body() else {}
        if request.method == "POST":
            self.writes.append(path)
        match path.removeprefix("/api/").split("/"):
            case ["v1", "auths", "signin"]:
                if body != {"email": "ann@example.org", "password": "pass word"}:
                    return JSONResponse({"detail": "The email or password provided is incorrect."}, status_code=400)
                return JSONResponse({"token": "good", "role": self.role})
            case ["v1", "functions", "list"]:
                if self.role != "admin":
                    return JSONResponse({"detail": "You do not have permission."}, status_code=401)
                return JSONResponse(list(self.functions.values()))
            case ["v1", "functions", "create"]:
                if "broken" in body["name"]:
                    return JSONResponse({"detail": "[ERROR: No Function class found]"}, status_code=400)
                self.functions[body["id"]] = {**body, "type": "pipe", "is_active": False}
                return JSONResponse(self.functions[body["id"]])
            case ["v1", "functions", "id", name, "update"]:
                self.functions[name] |= body
                return JSONResponse(self.functions[name])
            case ["v1", "functions", "id", name, "toggle"]:
                self.functions[name]["is_active"] ^= True
                return JSONResponse(self.functions[name])
            case ["v1", "functions", "id", name, "valves"]:
                return JSONResponse(self.valves.get(name))
            case ["v1", "functions", "id", name, "valves", "update"]:
                self.valves[name] = body
                return JSONResponse(body)
            case ["models"]:
                return JSONResponse({"data": self.listed})
            case ["v1", "models", "model"]:
                name = request.query_params["id"]
                if name not in self.grants:
                    return JSONResponse({"detail": "not found"}, status_code=404)
                return JSONResponse({"id": name, "access_grants": self.grants[name]})
            case ["v1", "models", "model", "access", "update"]:
                self.grants[body["id"]] = body["access_grants"]
                return JSONResponse({})
        return Response(status_code=404)


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    app = Starlette(routes=[Route("/{path:path}", found.handle, methods=["GET", "POST"])])
    with threaded(app) as url:
        found.url = url
        yield found


def run(stand: Stand, *words: str, key: str = "good") -> list[str]:
    return install.run(["--webui", stand.url, "--key", key, *words])


def test_it_creates_sets_and_switches_on(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("front-token\n")
    said = run(stand, "--url", "http://swarm:8700", "--token-file", str(tmp_path / "token"))
    assert said == [
        "The function 'opswarm' was created and is on.",
        "Its models: opswarm.orchestrator, opswarm.devops.",
    ]
    assert stand.functions["opswarm"]["is_active"] and stand.functions["opswarm"]["content"] == install.PIPE.read_text()
    assert stand.valves["opswarm"] == {"url": "http://swarm:8700", "token": "front-token"}
    assert not stand.grants


def test_run_again_it_updates_and_keeps_what_is_not_named(stand: Stand) -> None:
    run(stand, "--url", "http://a", "--token", "t", "--timeout", "60")
    stand.writes.clear()
    assert "was updated" in run(stand, "--url", "http://b")[0]
    assert stand.valves["opswarm"] == {"url": "http://b", "token": "t", "timeout_seconds": 60.0}
    assert stand.functions["opswarm"]["is_active"]
    assert not [w for w in stand.writes if w.endswith("toggle")]


def test_for_everyone_adds_to_who_may_use_it_already(stand: Stand) -> None:
    group = {"principal_type": "group", "principal_id": "g", "permission": "write"}
    stand.grants["opswarm.devops"] = [{**group, "id": "1"}]
    assert "Everyone who can sign in may use its models." in run(stand, "--for-everyone")
    everyone = {"principal_type": "user", "principal_id": "*", "permission": "read"}
    assert stand.grants == {"opswarm.orchestrator": [everyone], "opswarm.devops": [group, everyone]}
    stand.writes.clear()
    run(stand, "--for-everyone")
    assert not [w for w in stand.writes if "access" in w]


def test_secrets_may_come_from_the_environment(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENWEBUI_URL", stand.url)
    monkeypatch.setenv("OPENWEBUI_API_KEY", "good")
    monkeypatch.setenv("OPSWARM_FRONT_TOKEN", "from-env")
    install.run([])
    assert stand.valves["opswarm"] == {"token": "from-env"}


def test_an_administrator_may_sign_in_instead(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("pass word\n")
    words = ["--webui", stand.url, "--email", "ann@example.org"]
    assert "was created" in install.run([*words, "--password-file", str(tmp_path / "password")])[0]
    monkeypatch.setenv("OPENWEBUI_PASSWORD", "wrong")
    with pytest.raises(Failure, match="does not accept this email and password"):
        install.run(words)
    monkeypatch.delenv("OPENWEBUI_PASSWORD")
    with pytest.raises(Failure, match="--password-file"):
        install.run(words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--webui", "nonsense"), "Say where Open WebUI is"),
        (("--id", "Not One"), "An id is"),
        (("--key", "two words"), "must be one word"),
        (("--key", " "), "Give an administrator's key"),
        (("--token-file", "/nowhere"), "can't be read"),
        (("--name", "broken"), "No Function class found"),
        (("--key", "bad"), "(Settings, Account; API keys"),
        (("--webui", "http://127.0.0.1:1"), "does not answer at http://127.0.0.1:1"),
    ],
)
def test_what_goes_wrong_is_a_sentence(stand: Stand, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(Failure) as caught:
        run(stand, *words)
    assert told in str(caught.value) and str(caught.value).endswith((".", "found]"))


def test_someone_who_is_no_administrator_is_told_so(stand: Stand) -> None:
    stand.role = "user"
    with pytest.raises(Failure, match=r"You do not have permission.*administrator's key"):
        run(stand)
    assert not stand.writes


def test_a_function_of_another_kind_is_left_alone(stand: Stand) -> None:
    stand.functions["opswarm"] = {"id": "opswarm", "type": "filter"}
    with pytest.raises(Failure, match="filter 'opswarm'"):
        run(stand)
    assert not stand.writes


def test_a_pipe_that_lists_no_agents_passes_its_reason_on(stand: Stand) -> None:
    stand.listed = [{"id": "opswarm.unavailable", "name": "Opswarm: Opswarm does not answer at http://x."}]
    with pytest.raises(Failure, match=r"installed, but lists no agents: .* does not answer at http://x"):
        run(stand)
    stand.listed = []
    with pytest.raises(Failure, match="Open WebUI's log"):
        run(stand)


def test_as_a_program_it_ends_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, install.__file__, "--webui", f"http://127.0.0.1:{free_port()}", "--key", "k"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1 and "does not answer" in ran.stderr
