"""Who may name a user, over real HTTP, and what the named one becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from opswarm.errors import InvalidInput
from opswarm.guard import keys
from opswarm.guard.exchange import Exchange
from opswarm.guard.fronts import front
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_PERSON, AUDIENCE_TOOLS, SigningKey, Verifier, turn_audience
from opswarm.settings import Settings
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at

BOTH = (Role.VIEWER, Role.OPERATOR)

class Door:
    """An agent at which fronts may name their users, or not."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, echo: Echo) -> None:
        self.settings = settings
        self.echo = echo
        self._http = http

    async def knock(
        self, token: str, *users: str | bytes, method: str = "SendMessage", message_id: str = "m"
    ) -> httpx.Response:
        headers: list[tuple[str, str | bytes]] = [("Authorization", f"Bearer {token}"), ("A2A-Version", "1.0")]
        headers += [("X-Opswarm-User", user) for user in users]
        params: dict[str, Any] = {}
        if method == "SendMessage":
            params = {"message": {"role": "ROLE_USER", "messageId": message_id, "parts": [{"text": "hello"}]}}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self._http.post("/", json=body, headers=[(k, v) for k, v in headers])  # type: ignore[misc]

    @property
    def seen(self) -> Principal:
        return self.echo.seen[-1].principal

    def front(self, *roles: Role) -> str:
        return keys.mint_front(self.settings, "openwebui", roles=roles or BOTH)


@pytest_asyncio.fixture(params=[True])
async def door(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    settings = settings_at(tmp_path)
    port, echo = free_port(), Echo("echo")
    service = replace(echo_service(settings, "echo", f"http://127.0.0.1:{port}", echo), fronts=request.param)
    async with serving(service.app(), port) as url, httpx.AsyncClient(base_url=url, timeout=10) as http:
        yield Door(settings, http, echo)


async def test_a_front_names_its_user_who_is_a_person_that_never_acts_directly(door: Door) -> None:
    assert (await door.knock(door.front(), "u-1")).status_code == 200
    assert (door.seen.kind, door.seen.subject) == (Kind.PERSON, "openwebui:u-1")
    assert door.seen.actors == ("service:openwebui",)
    assert door.seen.roles == set(BOTH)
    assert not door.seen.is_direct_person


async def test_the_users_of_a_front_do_not_see_each_others_tasks(door: Door) -> None:
    front = door.front()
    first = (await door.knock(front, "u-1")).json()["result"]["task"]["id"]
    second = (await door.knock(front, "u-2")).json()["result"]["task"]["id"]
    listed = [(await door.knock(front, u, method="ListTasks")).json()["result"]["tasks"] for u in ("u-1", "u-2")]
    assert [[t["id"] for t in tasks] for tasks in listed] == [[first], [second]]
    assert not (await door.knock(front, method="ListTasks")).json()["result"].get("tasks")


async def test_a_front_that_names_nobody_is_itself_a_service(door: Door) -> None:
    assert (await door.knock(door.front())).status_code == 200
    assert (door.seen.kind, door.seen.subject, door.seen.actors) == (Kind.SERVICE, "service:openwebui", ())


async def test_a_user_has_no_role_that_the_front_has_not(door: Door) -> None:
    await door.knock(door.front(Role.VIEWER), "u-1")
    assert door.seen.roles == {Role.VIEWER}
    forged = Principal(kind=Kind.SERVICE, subject="service:openwebui", roles=frozenset(Role))
    token = keys.signing_key(door.settings).mint(forged, [AUDIENCE_PERSON], seconds=60, front="openwebui")
    await door.knock(token, "u-1", message_id="m2")
    assert Role.ADMIN not in door.seen.roles


async def test_any_other_token_with_the_header_is_refused(door: Door) -> None:
    key = keys.signing_key(door.settings)
    person = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset(Role))
    service = Principal(kind=Kind.SERVICE, subject="service:openwebui")
    turn = Exchange(key, Verifier(key.public_pem()), lambda: ("echo",)).for_agent(person, "echo", "t").door
    acting = service.model_copy(update={"actors": ("agent:echo",)})
    for token in (
        keys.mint_person(door.settings),
        turn,
        key.mint(service, [AUDIENCE_PERSON], seconds=60),
        key.mint(person, [AUDIENCE_PERSON], seconds=60, front="openwebui"),
        key.mint(acting, [turn_audience("echo")], seconds=60, front="openwebui"),
        key.mint(service.model_copy(update={"kind": Kind.AGENT}), [AUDIENCE_PERSON], seconds=60, front="openwebui"),
        key.mint(service, [AUDIENCE_PERSON], seconds=60, front="other"),
    ):
        refused = await door.knock(token, "u-1")
        assert refused.status_code == 403
        assert "opswarm token --front" in refused.json()["error"]["message"]
    assert not door.echo.seen


async def test_the_header_alone_opens_nothing(door: Door) -> None:
    for token in ("x", SigningKey.generate().mint(front("openwebui", frozenset()), ["opswarm"], seconds=60)):
        assert (await door.knock(token, "u-1")).status_code == 401


@pytest.mark.parametrize("user", ["", "a b", "a\tb", "x" * 129, b"caf\xc3\xa9", b"\x80", b"a\x01b"])
async def test_what_can_not_be_an_id_is_refused(door: Door, user: str | bytes) -> None:
    refused = await door.knock(door.front(), user)
    assert refused.status_code == 400
    assert not door.echo.seen


async def test_two_names_in_one_call_are_refused(door: Door) -> None:
    assert (await door.knock(door.front(), "u-1", "u-2")).status_code == 400


@pytest.mark.parametrize("user", ["agent:devops", "person:local", "service:openwebui", "x" * 128])
async def test_a_user_who_is_called_like_an_agent_does_not_become_one(door: Door, user: str) -> None:
    assert (await door.knock(door.front(), user)).status_code == 200
    assert (door.seen.kind, door.seen.subject) == (Kind.PERSON, f"openwebui:{user}")
    assert door.seen.actors == ("service:openwebui",)


@pytest.mark.parametrize("door", [False], indirect=True)
async def test_an_agents_own_door_lets_no_front_name_users(door: Door) -> None:
    refused = await door.knock(door.front(), "u-1")
    assert refused.status_code == 403 and "orchestrator" in refused.json()["error"]["message"]
    assert (await door.knock(door.front())).status_code == 200


def test_the_agent_that_works_for_a_fronts_user_carries_the_whole_chain() -> None:
    key = SigningKey.generate()
    check = Verifier(key.public_pem())
    named = Principal(kind=Kind.PERSON, subject="openwebui:u-1", actors=("service:openwebui",))
    tokens = Exchange(key, check, lambda: ("devops",)).for_agent(named, "devops", "t")
    work = check.verify(tokens.work, [AUDIENCE_TOOLS])
    assert work.principal.subject == "openwebui:u-1"
    assert work.principal.actors == ("agent:devops", "service:openwebui")
    assert "front" not in work.claims and not work.principal.is_direct_person


@pytest.mark.parametrize("name", ["", "agent", "person", "service", "turn", "Open", "a:b", "-a", "a" * 33, "a\n"])
def test_a_front_can_not_be_called_what_would_be_taken_for_something_else(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        front(name, frozenset({Role.VIEWER}))


def test_a_front_can_not_be_an_admin() -> None:
    with pytest.raises(InvalidInput, match="admin"):
        front("openwebui", frozenset(Role))
