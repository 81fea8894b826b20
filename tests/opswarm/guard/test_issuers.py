"""ServiceAccount tokens against a real issuer over loopback, which rotates its keys and breaks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opswarm.errors import OpswarmError, PermissionDenied, SettingsInvalid, Unauthenticated, Unavailable
from opswarm.guard.exchange import Exchange
from opswarm.guard.issuers import AGAIN_SECONDS, FRESH_SECONDS, KEPT_SECONDS, Keys, ServiceAccounts, ServiceProof
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, AUDIENCE_PERSON, AUDIENCE_TOOLS, SigningKey, Verifier
from opswarm.settings import load
from services.orchestrator.app import create_app
from tests.support.hosting import free_port, serving, settings_at

ACCOUNTS = {"opswarm/devops": "agent:devops", "opswarm/kube": "service:kubernetes"}
RSA = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    family = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    public: dict[str, Any] = family.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig", **more}


class Issuer:
    """An API server's discovery and key set."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = [jwk(RSA[0], "one"), jwk(EC, "curve")]
        self.asked = 0
        self.authorizations: list[str | None] = []
        self.status = 200
        self.body: Any = None
        self.discovery: dict[str, Any] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/.well-known/openid-configuration", self._discovery), Route("/openid/v1/jwks", self._jwks)]
        )

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/openid/v1/jwks", **self.discovery})

    async def _jwks(self, request: Request) -> Response:
        self.asked += 1
        self.authorizations.append(request.headers.get("authorization"))
        body = {"keys": self.keys} if self.body is None else self.body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Response(raw, status_code=self.status, media_type="application/json")

    def token(self, key: Any = RSA[0], kid: str | None = "one", alg: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        given = {
            "iss": self.url,
            "sub": "system:serviceaccount:opswarm:devops",
            "aud": ["opswarm"],
            "iat": now,
            "exp": now + 600,
            "kubernetes.io": {"namespace": "opswarm", "serviceaccount": {"name": "devops", "uid": "1"}},
            **claims,
        }
        headers = {"kid": kid} if kid is not None else None
        return jwt.encode({k: v for k, v in given.items() if v is not None}, key, algorithm=alg, headers=headers)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Checked:
    """What checks the tokens of `issuer`, on a clock of its own."""

    def __init__(self, issuer: Issuer, **options: Any) -> None:
        self.clock = Clock()
        self.keys = Keys(issuer.url, clock=self.clock, **options)
        self.accounts = ServiceAccounts(issuer.url, "opswarm", ACCOUNTS, self.keys)

    async def verify(self, token: str) -> Principal:
        return await self.accounts.verify(token)


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with serving(made.app()) as made.url:
        yield made


@pytest_asyncio.fixture
async def checked(issuer: Issuer) -> AsyncIterator[Checked]:
    made = Checked(issuer)
    yield made
    await made.accounts.aclose()


async def test_an_account_that_the_settings_know_is_who_they_say(issuer: Issuer, checked: Checked) -> None:
    agent = await checked.verify(issuer.token())
    bound = {"namespace": "opswarm", "serviceaccount": {"name": "kube"}}
    service = await checked.verify(
        issuer.token(EC, "curve", "ES256", sub="system:serviceaccount:opswarm:kube", **{"kubernetes.io": bound})
    )
    assert agent == Principal(kind=Kind.AGENT, subject="agent:devops")
    assert service == Principal(kind=Kind.SERVICE, subject="service:kubernetes")
    assert issuer.asked == 1


def _forged(issuer: Issuer) -> dict[str, str]:
    pem = RSA[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stripped = b"".join(pem.splitlines()[1:-1])
    now = int(time.time())
    return {
        "wrong audience": issuer.token(aud=["https://kubernetes.default.svc"]),
        "no audience": issuer.token(aud=None),
        "wrong issuer": issuer.token(iss="https://elsewhere"),
        "issuer with a slash": issuer.token(iss=f"{issuer.url}/"),
        "no issuer": issuer.token(iss=None),
        "expired": issuer.token(exp=now - 60),
        "no end": issuer.token(exp=None),
        "not yet": issuer.token(nbf=now + 600),
        "alg none": issuer.token(None, "one", "none"),
        "shared secret": issuer.token(stripped, "one", "HS256"),
        "foreign key under a known id": issuer.token(RSA[1], "one"),
        "another curve": issuer.token(P384, "one", "ES384"),
        "another padding": issuer.token(RSA[0], "one", "PS256"),
        "longer hash": issuer.token(RSA[0], "one", "RS512"),
        "the id of a key of another kind": issuer.token(RSA[0], "curve"),
        "no key id": issuer.token(kid=None),
        "empty key id": issuer.token(kid=""),
        "account that is nobody here": issuer.token(sub="system:serviceaccount:opswarm:ghost"),
        "account of another namespace": issuer.token(sub="system:serviceaccount:evil:devops"),
        "account and claim that differ": issuer.token(
            **{"kubernetes.io": {"namespace": "evil", "serviceaccount": {"name": "devops"}}}
        ),
        "claim that can't be read": issuer.token(**{"kubernetes.io": "opswarm"}),
        "a slash for a colon": issuer.token(sub="system:serviceaccount:opswarm/devops"),
        "no account": issuer.token(sub="opswarm/devops"),
        "a user": issuer.token(sub="agent:devops"),
        "too long": issuer.token(pad="x" * 20_000),
        "no token": "x.y.z",
        "nothing": "",
    }


async def test_a_token_that_is_wrong_in_any_one_way_is_refused_without_being_repeated(
    issuer: Issuer, checked: Checked
) -> None:
    await checked.verify(issuer.token())
    for what, token in _forged(issuer).items():
        with pytest.raises(Unauthenticated) as refused:
            await checked.verify(token)
        assert not token or token not in str(refused.value), what


async def test_a_shared_secret_in_the_key_set_is_no_key(issuer: Issuer, checked: Checked) -> None:
    secret = "s" * 43
    issuer.keys.append({"kty": "oct", "kid": "secret", "k": secret, "alg": "HS256", "use": "sig"})
    issuer.keys.append(jwk(RSA[1], "enc", use="enc"))
    issuer.keys.append(jwk(P384, "p384"))
    await checked.verify(issuer.token())
    for token in (issuer.token(secret, "secret", "HS256"), issuer.token(RSA[1], "enc")):
        with pytest.raises(Unauthenticated):
            await checked.verify(token)


async def test_a_new_key_is_fetched_and_one_that_was_rotated_away_no_longer_counts(
    issuer: Issuer, checked: Checked
) -> None:
    await checked.verify(issuer.token())
    issuer.keys = [jwk(RSA[1], "two")]
    checked.clock.now += AGAIN_SECONDS
    await checked.verify(issuer.token(RSA[1], "two"))
    with pytest.raises(Unauthenticated):
        await checked.verify(issuer.token())
    assert issuer.asked == 2


async def test_a_key_that_nobody_replaced_is_looked_after_once_an_hour(issuer: Issuer, checked: Checked) -> None:
    await checked.verify(issuer.token())
    issuer.keys = []
    checked.clock.now += FRESH_SECONDS - 1
    await checked.verify(issuer.token())
    checked.clock.now += 2
    with pytest.raises(Unauthenticated):
        await checked.verify(issuer.token())


async def test_a_storm_of_unknown_keys_asks_the_issuer_once_in_ten_seconds(issuer: Issuer, checked: Checked) -> None:
    await checked.verify(issuer.token())
    for round_ in range(1, 4):
        checked.clock.now += AGAIN_SECONDS
        storm = [checked.verify(issuer.token(kid=f"k{n}")) for n in range(60)]
        results = await asyncio.gather(*storm, return_exceptions=True)
        assert all(isinstance(r, Unauthenticated) for r in results)
        assert issuer.asked == 1 + round_
        await checked.verify(issuer.token())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (401, None),
        (302, None),
        (200, b"<html>"),
        (200, []),
        (200, {"keys": {}}),
        (200, {"keys": [{"kty": "RSA", "kid": str(n)} for n in range(65)]}),
        (200, b'{"keys": [' + b" " * 300_000 + b"]}"),
        (200, b'{"a":' * 30_000),
    ],
)
async def test_an_issuer_that_breaks_is_borne_for_a_while_and_then_nobody_is_let_in(
    issuer: Issuer, checked: Checked, status: int, body: Any
) -> None:
    await checked.verify(issuer.token())
    issuer.status, issuer.body = status, body
    checked.clock.now += FRESH_SECONDS + 1
    await checked.verify(issuer.token())
    await checked.verify(issuer.token())
    assert issuer.asked == 2
    with pytest.raises(Unauthenticated):
        await checked.verify(issuer.token(kid="new"))
    checked.clock.now += KEPT_SECONDS
    for _ in range(2):
        with pytest.raises(Unavailable):
            await checked.verify(issuer.token())
    issuer.status, issuer.body = 200, None
    checked.clock.now += AGAIN_SECONDS
    await checked.verify(issuer.token())


async def test_an_issuer_that_was_never_heard_lets_nobody_in() -> None:
    gone = Issuer()
    gone.url = f"http://127.0.0.1:{free_port()}"
    made = Checked(gone)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await made.verify(gone.token())
    assert made.keys.fetches == 1
    await made.accounts.aclose()


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://elsewhere"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://127.0.0.1:9/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_the_discovery_document_of_another_is_not_followed(
    issuer: Issuer, checked: Checked, discovery: dict[str, Any]
) -> None:
    issuer.discovery = discovery
    with pytest.raises(Unavailable):
        await checked.verify(issuer.token())
    assert issuer.asked == 0


async def test_the_pods_own_token_is_shown_to_the_issuer_and_to_nobody_that_it_names(
    issuer: Issuer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("pod-token\n")
    other = Issuer()
    async with serving(other.app()) as other.url:
        there = f"{other.url}/openid/v1/jwks"
        for options, asked in (({}, issuer), ({"jwks_url": there}, other)):
            made = Checked(issuer, token_file=tmp_path / "token", **options)
            await made.verify(issuer.token())
            assert asked.authorizations == ["Bearer pod-token"]
            await made.accounts.aclose()
        keys = Keys(issuer.url, token_file=tmp_path / "token")
        await keys._json(there)
        assert other.authorizations == ["Bearer pod-token", None]
        await keys.aclose()


def test_an_issuer_has_to_prove_itself_and_an_account_to_be_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    for identity in (
        {"issuer": "http://kubernetes.default.svc"},
        {"issuer": "https://k", "jwks_url": "http://192.168.1.2/keys"},
        {"issuer": "kubernetes"},
        {"service_accounts": {"opswarm/devops": "agent:devops"}},
        {"issuer": "https://k", "service_accounts": {"devops": "agent:devops"}},
        {"issuer": "https://k", "service_accounts": {"opswarm/devops": "person:ann"}},
        {"issuer": "https://k", "service_accounts": {"opswarm/devops": "agent:"}},
        {"issuer": "https://k", "audience": ""},
    ):
        with pytest.raises(SettingsInvalid):
            load(identity=identity)
    assert load(identity={"issuer": "https://k", "service_accounts": ACCOUNTS}).identity.issuer == "https://k"


async def test_the_exchange_takes_an_agents_account_for_its_proof_by_the_same_rules(
    issuer: Issuer, checked: Checked
) -> None:
    key = SigningKey.generate()
    check = Verifier(key.public_pem())
    exchange = Exchange(key, check, lambda: ("devops",), proof=ServiceProof(check, checked.accounts))
    ann = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.VIEWER}))
    person = key.mint(ann, [AUDIENCE_PERSON], seconds=600)
    work = await exchange.exchange(person, issuer.token(), "t")
    assert str(check.verify(work, [AUDIENCE_TOOLS]).principal) == "agent:devops for person:ann"
    ours = key.mint(Principal(kind=Kind.AGENT, subject="agent:devops"), [AUDIENCE_EXCHANGE], seconds=600)
    assert await exchange.exchange(person, ours, "t")
    bound = {"namespace": "opswarm", "serviceaccount": {"name": "kube"}}
    service = issuer.token(sub="system:serviceaccount:opswarm:kube", **{"kubernetes.io": bound})
    with pytest.raises(PermissionDenied, match="Only an agent"):
        await exchange.exchange(person, service, "t")
    nobody = Exchange(key, check, lambda: ("pr",), proof=ServiceProof(check, checked.accounts))
    with pytest.raises(PermissionDenied, match="directory"):
        await nobody.exchange(person, issuer.token(), "t")
    for subject, actor in ((issuer.token(), issuer.token()), (person, issuer.token(kid="ghost")), (person, "")):
        with pytest.raises(OpswarmError):
            await exchange.exchange(subject, actor, "t")
    with pytest.raises(Unauthenticated):
        await Exchange(key, check, lambda: ("devops",)).exchange(person, issuer.token(), "t")


async def test_a_service_account_asks_for_the_pause_and_for_nothing_else(issuer: Issuer, tmp_path: Path) -> None:
    settings = settings_at(tmp_path, gateway=f"http://127.0.0.1:{free_port()}")
    identity = settings.identity.model_copy(update={"issuer": issuer.url, "service_accounts": ACCOUNTS})
    settings = settings.updated({"identity": identity})
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    ghost = {"Authorization": f"Bearer {issuer.token(sub='system:serviceaccount:opswarm:ghost')}"}
    async with serving(create_app(settings).app()) as url, httpx.AsyncClient(base_url=url, timeout=10) as http:
        assert (await http.get("/control", headers=headers)).status_code == 200
        assert (await http.get("/control", headers=ghost)).status_code == 401
        assert (await http.post("/control/pause", headers=headers)).status_code == 401
        assert (await http.get("/agents", headers=headers)).status_code == 401
