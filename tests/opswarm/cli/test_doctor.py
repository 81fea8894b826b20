from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from opswarm import settings as settings_module
from opswarm.cli import doctor
from opswarm.cli.doctor import Finding
from opswarm.guard import keys
from opswarm.guard.tokens import SigningKey
from opswarm.settings import Settings
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at


async def found(settings: Settings) -> dict[str, Finding]:
    findings = await asyncio.to_thread(lambda: list(doctor.examine(settings)))
    return {f.what: f for f in findings}


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Default ports where nothing of this machine listens."""
    free = {name: free_port() for name in settings_module.PORTS}
    monkeypatch.setattr(settings_module, "PORTS", MappingProxyType(free))
    monkeypatch.setattr(doctor, "PORTS", MappingProxyType(free))
    return free


async def test_each_service_that_the_settings_name_is_looked_at(tmp_path: Path, ports: dict[str, int]) -> None:
    settings = settings_at(tmp_path)
    keys.make_person_token(settings)
    dead = f"http://127.0.0.1:{free_port()}"
    async with serving(echo_service(settings, "devops", "http://x", Echo("devops")).app()) as url:
        told = await found(settings_at(tmp_path, devops=url, flux=dead, gateway=url, loki="no url"))
    assert told["swarm"].ok
    assert told["devops"] == Finding("devops", True, f"ready at {url}")
    assert told["flux"] == Finding("flux", False, f"does not answer at {dead}")
    assert not told["gateway"].ok and "something else answers" in told["gateway"].detail
    assert not told["loki"].ok
    assert "orchestrator" not in told


async def test_a_service_at_its_default_port_is_found(tmp_path: Path, ports: dict[str, int]) -> None:
    settings = settings_at(tmp_path)
    app = echo_service(settings, "devops", "http://x", Echo("devops")).app()
    stranger = Starlette(routes=[Route("/readyz", lambda request: JSONResponse(["not", "ours"]))])
    async with serving(app, ports["devops"]), serving(stranger, ports["gateway"]):
        told = await found(settings)
    assert told["devops"].ok
    assert "gateway" not in told and "kubernetes" not in told


async def test_with_nothing_anywhere_it_says_how_to_start(tmp_path: Path, ports: dict[str, int]) -> None:
    told = await found(settings_at(tmp_path))
    assert told["swarm"] == Finding("swarm", False, "not running here: start it with `opswarm up`")


async def test_a_token_is_checked_with_the_key(
    tmp_path: Path, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_at(tmp_path)
    missing = (await found(settings))["token"]
    assert not missing.ok and "opswarm token --save" in missing.detail
    assert not (tmp_path / "keys").exists()

    keys.save_token(settings, "a.b.c")
    assert "no key here" in (await found(settings))["token"].detail

    keys.make_person_token(settings)
    assert (await found(settings))["token"] == Finding("token", True, "good for 30 days")

    keys.save_token(settings, keys.mint_person(settings, seconds=-60))
    expired = (await found(settings))["token"]
    assert not expired.ok and "has expired. `opswarm token --save`" in expired.detail

    keys.write_private(tmp_path / "keys" / "signing.pem", SigningKey.generate().private_pem())
    keys.signing_key(settings)
    foreign = (await found(settings))["token"]
    assert not foreign.ok and "not valid here" in foreign.detail

    monkeypatch.setenv("OPSWARM_TOKEN", "of.another.cluster")
    assert "OPSWARM_TOKEN is set" in (await found(settings))["token"].detail
