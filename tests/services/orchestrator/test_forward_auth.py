"""Headers of a forward-auth proxy at the orchestrator's door, as those who would pass for somebody send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from opswarm.errors import OpswarmError, PermissionDenied, SettingsInvalid, Unauthenticated
from opswarm.guard import keys
from opswarm.guard.forward_auth import ForwardAuth, forward_auth
from opswarm.guard.principal import Principal, Role
from opswarm.settings import ForwardAuth as Said
from opswarm.settings import load
from services.orchestrator.app import create_app
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at

ROLES = {"cluster admins": "admin", "ops": "operator", "family": "viewer"}
HERE, ELSEWHERE = ("127.0.0.1",), ("10.9.9.9",)


@asynccontextmanager
async def door(home: Path, proxies: tuple[str, ...], **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The orchestrator, which knows people by a proxy at `proxies`."""
    settings = settings_at(home, gateway=f"http://127.0.0.1:{free_port()}")
    said = Said(proxies=proxies, roles=ROLES, **options)  # type: ignore[arg-type]
    settings = settings.updated({"identity": settings.identity.model_copy(update={"forward_auth": said})})
    keys.make_person_token(settings)
    async with serving(create_app(settings).app()) as url, httpx.AsyncClient(base_url=url, timeout=10) as http:
        yield http


def person(name: str = "ann", groups: str = "ops", **more: str) -> dict[str, str]:
    return {"X-authentik-username": name, "X-authentik-groups": groups, **more}


async def pausing(http: httpx.AsyncClient, headers: Any) -> int:
    return (await http.post("/control/pause", headers=headers)).status_code


async def test_a_person_of_the_proxy_acts_directly_and_by_their_groups_roles(tmp_path: Path) -> None:
    async with door(tmp_path, HERE) as http:
        paused = await http.post("/control/pause", headers=person(groups="family|ops"))
        assert paused.status_code == 200 and paused.json()["by"] == "proxy:ann"
        assert (await http.get("/control", headers=person(groups="family"))).status_code == 200
        assert await pausing(http, person(groups="family")) == 403
        assert await pausing(http, person(groups="nobody")) == 403
        assert await pausing(http, {"X-authentik-username": "ann"}) == 403
        assert await pausing(http, {"X-authentik-groups": "ops"}) == 401


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"X-Forwarded-For": "10.9.9.9"},
        {"X-Forwarded-For": "10.9.9.9, 127.0.0.1", "X-Forwarded-Proto": "https"},
        {"X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9.9.9"},
        {"Host": "10.9.9.9"},
    ],
)
async def test_from_an_address_that_is_not_listed_the_headers_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    async with door(tmp_path, ELSEWHERE) as http:
        assert await pausing(http, person(**more)) == 401


async def test_without_a_list_of_proxies_the_headers_mean_nothing(tmp_path: Path) -> None:
    async with door(tmp_path, ()) as http:
        assert await pausing(http, person()) == 401
    assert forward_auth(Said()) is None


async def test_a_bearer_token_counts_and_the_headers_beside_it_do_not(tmp_path: Path) -> None:
    async with door(tmp_path, HERE) as http:
        viewer = keys.mint_person(settings_at(tmp_path), subject="bob", roles=(Role.VIEWER,))
        assert await pausing(http, person(Authorization=f"Bearer {viewer}")) == 403
        for bad in ("Bearer x", "bearer x", "Bearer", "BEARER  x"):
            assert await pausing(http, person(Authorization=bad)) == 401
        two = [*person().items(), ("Authorization", "Basic eDp5"), ("Authorization", "Bearer x")]
        assert await pausing(http, two) == 401
        assert await pausing(http, person(Authorization="Basic eDp5")) == 200


async def test_a_person_of_the_proxy_names_nobody_else(tmp_path: Path) -> None:
    async with door(tmp_path, HERE) as http:
        assert await pausing(http, person(**{"X-Opswarm-User": "bob"})) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "x"])
async def test_a_page_of_another_site_does_nothing_in_a_persons_name(tmp_path: Path, site: str) -> None:
    async with door(tmp_path, HERE) as http:
        assert await pausing(http, person(**{"Sec-Fetch-Site": site})) == 403
        assert await pausing(http, person(**{"Sec-Fetch-Site": "same-origin"})) == 200


async def test_no_other_door_takes_the_headers(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    said = Said(proxies=HERE, roles=ROLES)  # type: ignore[arg-type]
    settings = settings.updated({"identity": settings.identity.model_copy(update={"forward_auth": said})})
    service = echo_service(settings, "devops", "http://127.0.0.1:1", Echo("devops"))
    async with serving(service.app()) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/", headers=person(), json={})).status_code == 401


def asked(headers: list[tuple[str, str | bytes]], peer: str = "10.1.0.7", **options: Any) -> Principal | None:
    """Who is let in from the proxy, by the headers as they come off the wire."""
    given = {"proxies": ("10.1.0.0/24", "fd00::/64", "192.0.2.1"), "roles": ROLES, **options}
    raw = [(k.lower().encode(), v if isinstance(v, bytes) else v.encode()) for k, v in headers]
    return ForwardAuth(Said(**given)).person(peer, "POST", Headers(raw=raw))


USER, GROUPS = "X-authentik-username", "X-authentik-groups"


@pytest.mark.parametrize(
    "headers",
    [
        [(USER, "ann"), (USER, "root"), (GROUPS, "ops")],
        [(USER, "ann"), (USER, "ann"), (GROUPS, "ops")],
        [(USER, "ann"), (GROUPS, "family"), (GROUPS, "ops")],
        [(USER, "ann,root"), (GROUPS, "ops")],
        [(USER, "ann, root"), (GROUPS, "ops")],
        [(USER, "ann;root"), (GROUPS, "ops")],
        [(USER, "ann|root"), (GROUPS, "ops")],
        [(USER, ""), (GROUPS, "ops")],
        [(USER, " "), (GROUPS, "ops")],
        [(USER, "a b"), (GROUPS, "ops")],
        [(USER, "a\tb"), (GROUPS, "ops")],
        [(USER, "a\nb"), (GROUPS, "ops")],
        [(USER, "ann\n"), (GROUPS, "ops")],
        [(USER, b"caf\xc3\xa9"), (GROUPS, "ops")],
        [(USER, b"\xe9"), (GROUPS, "ops")],
        [(USER, "x" * 129), (GROUPS, "ops")],
        [(USER, "ann"), (GROUPS, "")],
        [(USER, "ann"), (GROUPS, "ops|")],
        [(USER, "ann"), (GROUPS, "|ops")],
        [(USER, "ann"), (GROUPS, "family||ops")],
        [(USER, "ann"), (GROUPS, b"ops|\xc3\xa9")],
        [(USER, "ann"), (GROUPS, "ops|a\tb")],
        [(USER, "ann"), (GROUPS, "ops|" + "x" * 129)],
        [(USER, "ann"), (GROUPS, "ops|" * 1_100 + "ops")],
    ],
)
def test_headers_that_can_not_be_relied_on_are_refused(headers: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        asked(headers)


@pytest.mark.parametrize("groups", ["family,ops", "family, cluster admins", "OPS", "ops ops", "xops", "family\\|ops"])
def test_no_spelling_of_the_groups_gives_more_than_is_mapped(groups: str) -> None:
    try:
        found = asked([(USER, "ann"), (GROUPS, groups)])
    except PermissionDenied:
        return
    assert found is not None and found.roles <= {Role.OPERATOR} and groups == "family\\|ops"


def test_one_kinds_headers_are_not_anothers() -> None:
    forwarded = [("X-Forwarded-User", "ann"), ("X-Forwarded-Groups", "family,ops")]
    request = [("X-Auth-Request-User", "ann"), ("X-Auth-Request-Groups", "family, ops")]
    assert asked([*forwarded]) is None
    assert asked([*request], kind="oauth2-proxy") is None
    for kind, headers in (("oauth2-proxy", forwarded), ("auth-request", request)):
        found = asked([*headers], kind=kind)
        assert found is not None and found.roles == {Role.VIEWER, Role.OPERATOR} and found.is_direct_person
    mail: list[tuple[str, str | bytes]] = [("X-Forwarded-Email", "ann@lan"), ("X-G", "a,b;ops")]
    found = asked(mail, user_header="X-Forwarded-Email", groups_header="X-G", separator=";")
    assert found is not None and (found.subject, found.roles) == ("proxy:ann@lan", {Role.OPERATOR})


@pytest.mark.parametrize("name", ["agent:devops", "person:local", "service:x", "../x", "%2e", "a=b"])
def test_whoever_is_called_like_an_agent_does_not_become_one(name: str) -> None:
    found = asked([(USER, name), (GROUPS, "ops")])
    assert found is not None and found.subject == f"proxy:{name}" and found.is_direct_person


@pytest.mark.parametrize(
    ("peer", "known"),
    [
        ("10.1.0.255", True),
        ("::ffff:10.1.0.7", True),
        ("fd00::1", True),
        ("192.0.2.1", True),
        ("10.1.1.0", False),
        ("192.0.2.10", False),
        ("fd00:0:0:1::1", False),
        ("", False),
        ("unix:", False),
        ("10.1.0.7, 1.2.3.4", False),
        ("testclient", False),
    ],
)
def test_a_proxy_is_known_by_its_address(peer: str, known: bool) -> None:
    assert (asked([(USER, "ann"), (GROUPS, "ops")], peer) is not None) == known


@pytest.mark.parametrize(
    "said",
    [
        {"proxies": ["0.0.0.0/0"]},
        {"proxies": ["::/0"]},
        {"proxies": ["10.1.0.7/8"]},
        {"proxies": ["proxy.lan"]},
        {"proxies": [""]},
        {"roles": {"ops": "root"}},
        {"kind": "x"},
        {"user_header": "X Y"},
        {"separator": "."},
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(SettingsInvalid):
        load(identity={"forward_auth": said})


def test_a_front_can_not_take_the_proxys_name(tmp_path: Path) -> None:
    with pytest.raises(OpswarmError, match="name"):
        keys.mint_front(settings_at(tmp_path), "proxy", roles=(Role.VIEWER,))
