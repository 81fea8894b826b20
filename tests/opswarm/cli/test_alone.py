from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from opswarm.cli import alone, hosting, lab
from opswarm.errors import OpswarmError, SettingsInvalid
from opswarm.guard import keys
from opswarm.settings import Settings, load
from tests.e2e.conftest import machine
from tests.opswarm.cli.conftest import Ran
from tests.support.hosting import free_port, settings_at, until

BAD_DATABASES = [
    ("nonsense", "not the URL of a database with an async driver"),
    ("nobody://host/x", "not the URL of a database with an async driver"),
    ("sqlite:////tmp/x.db", "not the URL of a database with an async driver"),
    ("postgresql+aiopg_none://ann:hunter22@127.0.0.1/x", "not the URL"),
    ("mysql+asyncmy://ann:hunter22@127.0.0.1/x", "(asyncmy)"),
    ("sqlite+aiosqlite:////dev/null/folder/x.db", "can't be opened: Not a directory"),
    ("sqlite+aiosqlite:////proc/x.db", "can't be opened"),
    ("sqlite+aiosqlite:////", "can't be opened"),
]


@pytest.mark.parametrize(("url", "told"), BAD_DATABASES)
async def test_a_database_that_can_not_be_used_is_one_sentence(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(OpswarmError) as caught:
        await alone.check_database(load(home=tmp_path, database_url=url), "orchestrator")
    assert told in str(caught.value)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("words", [("up", "--scenario", "none"), ("serve", "orchestrator"), ("serve", "devops")])
@pytest.mark.parametrize("url", ["nonsense", "sqlite+aiosqlite:////proc/x.db"])
def test_a_bad_database_url_stops_the_start_with_exit_code_2(tmp_path: Path, words: tuple[str, ...], url: str) -> None:
    ran = machine(tmp_path / "home", OPSWARM_DATABASE_URL=url).run(*words)
    assert ran.returncode == 2
    assert "database" in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr


async def test_the_database_under_home_is_well(tmp_path: Path) -> None:
    await alone.check_database(settings_at(tmp_path), "orchestrator")


async def test_a_port_of_the_lab_that_is_in_use_is_a_plain_sentence(tmp_path: Path) -> None:
    listener = hosting.listen("127.0.0.1", 0)
    listener.listen()
    port: int = listener.getsockname()[1]
    with pytest.raises(SettingsInvalid) as caught:
        await lab.start(settings_at(tmp_path), (), port)
    listener.close()
    assert caught.value.message == f"Port {port}, which the lab is to listen on, is in use."


def test_a_number_that_is_no_port_is_refused_by_the_lab(opswarm: Callable[..., Ran]) -> None:
    ran = opswarm("lab", "up", "--port", "99999")
    assert ran.code == 2 and "99999 is not a port" in ran.err


def test_a_tool_server_alone_takes_no_cluster_by_itself(tmp_path: Path) -> None:
    here = machine(tmp_path / "home")
    (here.home / ".kube").mkdir()
    body = {"contexts": [{"name": "prod"}, {"name": "home"}], "current-context": "prod"}
    (here.home / ".kube" / "config").write_text(yaml.safe_dump(body))
    for transport in ("--stdio", "--http"):
        ran = here.run("mcp", "kubernetes", transport)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith("Say which cluster: --context NAME")
        assert "home, prod" in ran.stderr and ran.stderr.count("\n") == 1


def test_a_cluster_that_was_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    nobody = settings_at(tmp_path)

    def chosen(**given: object) -> Settings:
        return nobody.updated({"kubernetes": nobody.kubernetes.model_copy(update=given)})

    with pytest.raises(SettingsInvalid, match=r"Contexts in ~/\.kube/config: none"):
        alone.require_cluster(nobody, "kubernetes")
    for settings in (chosen(context="a"), chosen(kubeconfig=Path("/k")), chosen(in_cluster=True)):
        alone.require_cluster(settings, "kubernetes")
    alone.require_cluster(nobody, "github")
    monkeypatch.setenv("KUBECONFIG", "/k")
    alone.require_cluster(nobody, "kubernetes")


async def test_an_orchestrator_alone_leaves_a_token_for_its_person(tmp_path: Path) -> None:
    port = free_port()
    here = machine(tmp_path / "home", OPSWARM_ADDRESSES=json.dumps({"orchestrator": f"http://127.0.0.1:{port}"}))
    settings = settings_at(here.home / "state")
    process = here.start("serve", "orchestrator", "--port", str(port))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def up() -> bool:
                try:
                    return (await http.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(up)
            headers = {"Authorization": f"Bearer {keys.find_token(settings)}"}
            assert (await http.get("/agents", headers=headers)).status_code == 200
    finally:
        process.terminate()
        _, told = process.communicate(timeout=15)
    assert "a token for you is in" in told
