from __future__ import annotations

import jwt
import pytest

from opswarm.errors import PermissionDenied, Unauthenticated
from opswarm.guard.exchange import MAX_TURN_SECONDS, Exchange
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import (
    AUDIENCE_EXCHANGE,
    AUDIENCE_GATEWAY,
    AUDIENCE_PERSON,
    AUDIENCE_TOOLS,
    SigningKey,
    Verifier,
    turn_audience,
)

PERSON = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.VIEWER}))
AGENT = Principal(kind=Kind.AGENT, subject="agent:devops")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_says_who_it_speaks_for() -> None:
    key = SigningKey.generate()
    signed = Verifier(key.public_pem()).verify(key.mint(PERSON, [AUDIENCE_PERSON], seconds=60), [AUDIENCE_PERSON])
    assert signed.principal == PERSON
    assert signed.principal.is_direct_person


def test_a_token_that_was_good_once_is_still_looked_at_each_time() -> None:
    key, clock = SigningKey.generate(), Clock()
    key._clock = clock
    verifier = Verifier(key.public_pem(), clock=clock)
    token = key.mint(PERSON, [AUDIENCE_PERSON], seconds=60)
    for _ in range(2):
        assert verifier.verify(token, [AUDIENCE_PERSON]).principal == PERSON
    with pytest.raises(Unauthenticated, match="not meant"):
        verifier.verify(token, [AUDIENCE_TOOLS])
    with pytest.raises(Unauthenticated, match="not valid"):
        verifier.verify(f"{token[:-4]}AAAA", [AUDIENCE_PERSON])
    clock.now += 71
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired"):
            verifier.verify(token, [AUDIENCE_PERSON])


def test_tokens_that_are_remembered_are_not_many() -> None:
    key = SigningKey.generate()
    verifier = Verifier(key.public_pem())
    for _ in range(1_050):
        verifier.verify(key.mint(PERSON, [AUDIENCE_PERSON], seconds=60), [AUDIENCE_PERSON])
    assert len(verifier._known) == 1_000


def test_a_token_for_another_door_is_refused() -> None:
    key = SigningKey.generate()
    token = key.mint(AGENT, [AUDIENCE_EXCHANGE], seconds=60)
    with pytest.raises(Unauthenticated, match="not meant for this service"):
        Verifier(key.public_pem()).verify(token, [AUDIENCE_PERSON, AUDIENCE_TOOLS])


def test_a_token_of_another_key_is_refused_without_being_repeated() -> None:
    token = SigningKey.generate().mint(PERSON, [AUDIENCE_PERSON], seconds=60)
    with pytest.raises(Unauthenticated) as caught:
        Verifier(SigningKey.generate().public_pem()).verify(token, [AUDIENCE_PERSON])
    assert token not in str(caught.value)


def test_a_token_that_ended_is_refused() -> None:
    clock = Clock()
    key = SigningKey.generate()
    minted = SigningKey(key._key, clock=clock).mint(PERSON, [AUDIENCE_PERSON], seconds=60)
    check = Verifier(key.public_pem(), clock=clock)
    assert check.verify(minted, [AUDIENCE_PERSON])
    clock.now += 80
    with pytest.raises(Unauthenticated, match="expired"):
        check.verify(minted, [AUDIENCE_PERSON])


@pytest.mark.parametrize("forged", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused(forged: str) -> None:
    with pytest.raises(Unauthenticated):
        Verifier(SigningKey.generate().public_pem()).verify(forged, [AUDIENCE_PERSON])


def test_the_public_key_used_as_a_shared_secret_forges_nothing() -> None:
    key = SigningKey.generate()
    claims = {"iss": "opswarm", "sub": "person:eve", "aud": AUDIENCE_PERSON, "exp": 4e9, "iat": 1, "kind": "person"}
    raw = key.public_pem().replace(b"-----BEGIN PUBLIC KEY-----", b"").replace(b"-----END PUBLIC KEY-----", b"")
    forged = jwt.encode(claims, raw.strip(), algorithm="HS256")
    with pytest.raises(Unauthenticated):
        Verifier(key.public_pem()).verify(forged, [AUDIENCE_PERSON])


def _exchange(clock: Clock) -> tuple[SigningKey, Verifier, Exchange]:
    key = SigningKey(SigningKey.generate()._key, clock=clock)
    check = Verifier(key.public_pem(), clock=clock)
    return key, check, Exchange(key, check, lambda: ("devops", "pr"), clock=clock)


async def test_a_turn_token_names_the_user_and_the_acting_agent() -> None:
    key, check, exchange = _exchange(Clock())
    proof = key.mint(PERSON, [AUDIENCE_PERSON], seconds=600)
    agent = key.mint(AGENT, [AUDIENCE_EXCHANGE], seconds=600)
    turn = check.verify(await exchange.exchange(proof, agent, "task-1"), [AUDIENCE_TOOLS]).principal
    assert (turn.subject, turn.actors, turn.task) == ("person:ann", ("agent:devops",), "task-1")
    assert turn.roles == PERSON.roles
    assert not turn.is_direct_person


def test_each_token_opens_its_own_doors_and_no_other() -> None:
    _, check, exchange = _exchange(Clock())
    tokens = exchange.for_agent(PERSON, "devops", "t")
    every = {AUDIENCE_PERSON, AUDIENCE_EXCHANGE, AUDIENCE_TOOLS, AUDIENCE_GATEWAY}
    every |= {turn_audience("devops"), turn_audience("pr")}
    for token, opens in (
        (tokens.door, {turn_audience("devops")}),
        (tokens.work, {AUDIENCE_TOOLS, AUDIENCE_GATEWAY}),
    ):
        for audience in every - opens:
            with pytest.raises(Unauthenticated):
                check.verify(token, [audience])
        assert all(check.verify(token, [a]) for a in opens)


async def test_an_agent_that_nobody_listed_gets_no_token() -> None:
    key, _, exchange = _exchange(Clock())
    proof = key.mint(PERSON, [AUDIENCE_PERSON], seconds=600)
    stranger = Principal(kind=Kind.AGENT, subject="agent:ghost")
    with pytest.raises(PermissionDenied, match="directory"):
        await exchange.exchange(proof, key.mint(stranger, [AUDIENCE_EXCHANGE], seconds=600), "t")


async def test_a_person_can_not_pass_for_an_agent_at_the_exchange() -> None:
    key, _, exchange = _exchange(Clock())
    proof = key.mint(PERSON, [AUDIENCE_PERSON], seconds=600)
    with pytest.raises(Unauthenticated):
        await exchange.exchange(proof, proof, "t")


async def test_an_agent_can_not_renew_the_turn_of_another() -> None:
    key, _, exchange = _exchange(Clock())
    other = exchange.for_agent(PERSON, "pr", "t")
    agent = key.mint(AGENT, [AUDIENCE_EXCHANGE], seconds=600)
    with pytest.raises(Unauthenticated):
        await exchange.exchange(other.door, agent, "t")
    with pytest.raises(PermissionDenied, match="another"):
        await exchange.exchange(other.work, agent, "t")


async def test_a_turn_is_renewed_but_not_for_ever() -> None:
    clock = Clock()
    key, _, exchange = _exchange(clock)
    agent = key.mint(AGENT, [AUDIENCE_EXCHANGE], seconds=100_000)
    token = exchange.for_work(PERSON, "devops", "t")
    for _ in range(20):
        clock.now += 240
        if clock.now - 1_800_000_000 > MAX_TURN_SECONDS:
            break
        token = await exchange.exchange(token, agent, "ignored")
    with pytest.raises(PermissionDenied, match="too long"):
        await exchange.exchange(token, agent, "t")
