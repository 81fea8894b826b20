"""The kill switch at the orchestrator's door: who may see, pause and resume, and how soon it is known."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from opswarm.errors import PermissionDenied
from opswarm.guard import keys
from opswarm.guard.control import FileControl
from opswarm.guard.exchange import Exchange
from opswarm.guard.follower import Follower, OrchestratorSource, follower
from opswarm.guard.keys import ServiceToken
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_PERSON, Verifier
from opswarm.settings import Settings
from services.orchestrator.app import create_app
from tests.support.hosting import free_port, serving, settings_at, until


class Door:
    def __init__(self, settings: Settings, http: httpx.AsyncClient, url: str) -> None:
        self.settings = settings
        self.url = url
        self._http = http
        self.operator = keys.mint_person(settings, subject="ann", roles=(Role.OPERATOR,))

    async def pause(self, token: str, body: object = None, verb: str = "pause", **headers: str) -> httpx.Response:
        given = {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}
        said = {"reason": "flood"} if body is None else body
        return await self._http.post(f"/control/{verb}", json=said, headers=given)

    async def get(self, token: str = "") -> httpx.Response:
        return await self._http.get("/control", headers={"Authorization": f"Bearer {token}"} if token else {})

    def kept(self) -> FileControl:
        return FileControl(self.settings.control_file())


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    settings = settings_at(tmp_path, gateway=f"http://127.0.0.1:{free_port()}")
    async with serving(create_app(settings).app()) as url, httpx.AsyncClient(base_url=url, timeout=10) as http:
        yield Door(settings, http, url)


async def test_an_operator_pauses_and_resumes_and_the_epoch_grows(door: Door) -> None:
    before = (await door.get(door.operator)).json()
    paused = await door.pause(door.operator)
    seen = (await door.get(door.operator)).json()
    resumed = (await door.pause(door.operator, {}, "resume")).json()
    assert (before["epoch"], before["paused"]) == (0, False)
    assert paused.status_code == 200 and paused.headers["cache-control"] == "no-store"
    assert (seen["paused"], seen["reason"], seen["by"]) == (True, "flood", "person:ann")
    assert 0 < seen["epoch"] < resumed["epoch"] and not resumed["paused"]
    assert 0 <= seen["age"] < 5


async def test_a_pause_outlives_the_orchestrator(door: Door) -> None:
    await door.pause(door.operator)
    async with serving(create_app(door.settings).app()) as url:
        headers = {"Authorization": f"Bearer {door.operator}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as http:
            assert (await http.get("/control")).json()["paused"]


async def test_nobody_but_a_person_who_may_operate_changes_it(door: Door) -> None:
    key = keys.signing_key(door.settings)
    person = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset(Role))
    tokens = Exchange(key, Verifier(key.public_pem()), lambda: ("devops",)).for_agent(person, "devops", "t")
    acting = person.model_copy(update={"actors": ("agent:devops",)})
    front = keys.mint_front(door.settings, "openwebui", roles=(Role.OPERATOR,))
    refusals = [
        (await door.pause("")).status_code,
        (await door.pause("x")).status_code,
        (await door.pause(tokens.door)).status_code,
        (await door.pause(tokens.work)).status_code,
        (await door.pause(ServiceToken(door.settings, "devops")())).status_code,
        (await door.pause(key.mint(acting, [AUDIENCE_PERSON], seconds=60))).status_code,
        (await door.pause(front)).status_code,
        (await door.pause(front, **{"X-Opswarm-User": "u-1"})).status_code,
        (await door.pause(keys.mint_person(door.settings, roles=(Role.VIEWER,)))).status_code,
        (await door.pause(keys.mint_person(door.settings, roles=()))).status_code,
    ]
    assert refusals == [401, 401, 401, 401, 401, 403, 403, 403, 403, 403]
    await door.pause(door.operator)
    assert (await door.pause(front, verb="resume", **{"X-Opswarm-User": "u-1"})).status_code == 403
    assert (await door.pause(tokens.work, verb="resume")).status_code == 401
    assert (await door.get(door.operator)).json()["paused"]


async def test_whoever_proves_who_they_are_may_ask(door: Door) -> None:
    key = keys.signing_key(door.settings)
    person = Principal(kind=Kind.PERSON, subject="person:ann")
    work = Exchange(key, Verifier(key.public_pem()), lambda: ("devops",)).for_agent(person, "devops", "t").work
    known = [
        door.operator,
        keys.mint_person(door.settings, roles=(Role.VIEWER,)),
        ServiceToken(door.settings, "devops")(),
        ServiceToken(door.settings, "kubernetes", Kind.SERVICE)(),
    ]
    assert [(await door.get(t)).status_code for t in known] == [200] * 4
    assert [(await door.get(t)).status_code for t in ("", "x", work)] == [401] * 3


@pytest.mark.parametrize("body", [{"reason": "x" * 501}, {"reason": 7}, {"reason": None}, [], "x", 1])
async def test_what_is_no_reason_is_refused(door: Door, body: object) -> None:
    assert (await door.pause(door.operator, body)).status_code == 400
    assert not (await door.get(door.operator)).json()["paused"]


async def test_a_body_is_not_needed_and_a_reason_is_one_clean_line(door: Door) -> None:
    headers = {"Authorization": f"Bearer {door.operator}"}
    async with httpx.AsyncClient(base_url=door.url, headers=headers) as http:
        assert (await http.post("/control/pause")).json()["paused"]
    assert (await door.pause(door.operator, {"reason": "a\r\nb\x1b[31m"})).json()["reason"] == "a b"


async def test_what_can_not_be_read_is_unknown_and_can_be_paused_all_the_same(door: Door) -> None:
    door.kept().path.write_text("{")
    unknown = await door.get(door.operator)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "control_unknown")
    assert (await door.pause(door.operator)).status_code == 200
    assert (await door.get(door.operator)).json()["paused"]


async def test_a_file_that_is_taken_away_is_not_a_resumption(door: Door) -> None:
    await door.pause(door.operator)
    await door.get(door.operator)
    door.kept().path.unlink()
    assert (await door.get(door.operator)).status_code == 503
    await door.pause(door.operator, verb="resume")
    assert not (await door.get(door.operator)).json()["paused"]


def remote(door: Door, name: str) -> Follower:
    """A follower that sees nothing but what the orchestrator says."""
    return follower(door.settings, OrchestratorSource(door.url, ServiceToken(door.settings, name)))


async def test_every_follower_refuses_within_a_second_of_a_pause(door: Door) -> None:
    controls = [remote(door, f"a{n}") for n in range(3)]
    async with controls[0].following(), controls[1].following(), controls[2].following():
        for control in controls:
            await control.check_action()
        await door.pause(door.operator)
        began = time.monotonic()
        await until(lambda: all(c.paused() for c in controls))
        assert time.monotonic() - began < 1.0
        for control in controls:
            with pytest.raises(PermissionDenied, match=r"person:ann.*flood"):
                await control.check_action()
        await door.pause(door.operator, verb="resume")
        await until(lambda: not any(c.paused() for c in controls))
        await controls[0].check_action()


async def test_actions_are_refused_once_the_orchestrator_is_gone_for_too_long(tmp_path: Path) -> None:
    settings = settings_at(tmp_path, gateway=f"http://127.0.0.1:{free_port()}")
    port = free_port()
    source = OrchestratorSource(f"http://127.0.0.1:{port}", ServiceToken(settings, "devops"))
    async with AsyncExitStack() as running:
        await running.enter_async_context(serving(create_app(settings).app(), port))
        control = await running.enter_async_context(follower(settings, source).following())
        await control.check_action()
    await until(lambda: bool(control._unknown()))
    with pytest.raises(PermissionDenied) as refused:
        await control.check_action()
    assert refused.value.rule == "control.unknown"
    async with serving(create_app(settings).app(), port):

        async def heard() -> bool:
            await control.look()
            return not control._unknown()

        await until(heard)
        await control.check_action()
        await control.aclose()
