"""Minting and verifying the JWTs by which people, services and turns prove themselves.

Five kinds of token, told apart by their audience:

- a person's token: audience `opswarm`, accepted at every door; a front's is the same with a claim more (`fronts`);
- a service's token: audience `exchange`, good for nothing but proving at the exchange which agent is asking;
- a turn token: audience `turn:<agent>`: with it the orchestrator passes a request on to that agent;
- a work token: audience `tools` and `gateway`: what an agent carries while it works for someone;
- a grant: audience `grant:<tool server>`: a person's answer to one proposal, no door's key.

Signed with Ed25519 (RFC 8037), so whoever verifies holds only the public key.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from opswarm.errors import SettingsInvalid, Unauthenticated
from opswarm.guard.principal import Kind, Principal, Role

ISSUER = "opswarm"
ALGORITHM = "EdDSA"
AUDIENCE_PERSON = "opswarm"
AUDIENCE_EXCHANGE = "exchange"
AUDIENCE_TOOLS = "tools"
AUDIENCE_GATEWAY = "gateway"

TURN_SECONDS = 300
"""A turn token's life. Short, since it can't be taken back; renewed while the turn lives."""

_LEEWAY_SECONDS = 10
_MAX_ACTORS = 8
_MOST_KNOWN = 1_000
"""Tokens, by their hashes, whose signature is not checked a second time. When they end is looked at each time."""


def turn_audience(agent: str) -> str:
    """The audience of a turn token that `agent` accepts."""
    return f"turn:{agent}"


def actions_audience(server: str) -> str:
    """The audience of the token with which the orchestrator reads and answers the proposals of a tool server.

    Nothing else takes it, so that one that was broken into gets no key to the tools, or to another server.
    """
    return f"actions:{server}"


def grant_audience(server: str) -> str:
    """The audience of a grant that the tool server `server` accepts."""
    return f"grant:{server}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified token: who it speaks for, its raw claims, and when it ends (Unix seconds)."""

    principal: Principal
    claims: Mapping[str, Any]
    expires: int


class SigningKey:
    """The private key of the orchestrator (or of a laptop). Nothing else can mint a token."""

    def __init__(self, key: Ed25519PrivateKey, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Raises `SettingsInvalid` when `pem` is not an Ed25519 private key."""
        try:
            key = load_pem_private_key(pem, password=None)
        except ValueError as error:
            raise SettingsInvalid("The signing key file is not a readable PEM private key.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsInvalid("The signing key must be an Ed25519 key.")
        return cls(key)

    @property
    def private(self) -> Ed25519PrivateKey:
        return self._key

    def private_pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def public_jwk(self) -> dict[str, Any]:
        """The public half as a JWK, as served in the JWKS document."""
        jwk: dict[str, Any] = jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {**jwk, "alg": ALGORITHM, "use": "sig"}

    def mint(
        self,
        principal: Principal,
        audience: Sequence[str],
        *,
        seconds: float,
        started: float | None = None,
        front: str = "",
        grant: Mapping[str, str] | None = None,
    ) -> str:
        """A token for `principal`, valid for `seconds`. `started` is when the turn it belongs to began.

        `front` is the name of the front whose own token this is: with it, its users may be named. `grant` is what
        `principal` answers to a proposal (`opswarm.actions.grants`).
        """
        now = self._clock()
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": principal.subject,
            "aud": list(audience),
            "iat": int(now),
            "exp": int(now + seconds),
            "jti": uuid.uuid4().hex,
            "kind": principal.kind.value,
            "roles": sorted(role.value for role in principal.roles),
        }
        if principal.actors:
            claims["act"] = _nest(principal.actors)
        if principal.task:
            claims["task"] = principal.task
        if started is not None:
            claims["turn_started"] = int(started)
        if front:
            claims["front"] = front
        if grant is not None:
            claims["grant"] = dict(grant)
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)


class Verifier:
    """Checks tokens against one public key."""

    def __init__(self, public_pem: bytes, *, clock: Callable[[], float] = time.time) -> None:
        try:
            key = load_pem_public_key(public_pem)
        except ValueError as error:
            raise SettingsInvalid("The public key file is not a readable PEM public key.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SettingsInvalid("The public key must be an Ed25519 key.")
        self._key = key
        self._clock = clock
        self._known: dict[tuple[bytes, tuple[str, ...]], Signed] = {}

    def verify(self, token: str, audience: Iterable[str]) -> Signed:
        """What `token` proves at a door that answers to any of `audience`.

        Raises `Unauthenticated`, with a sentence that says whether it is missing, expired or foreign, never
        with the token in it.
        """
        if not token:
            raise Unauthenticated("No bearer token was sent.", hint="Send `Authorization: Bearer <token>`.")
        accepted = tuple(audience)
        key = hashlib.sha256(token.encode("utf-8", errors="replace")).digest(), accepted
        signed = self._known.get(key)
        if signed is None:
            signed = self._checked(token, accepted)
            while len(self._known) >= _MOST_KNOWN:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = signed
        if signed.expires + _LEEWAY_SECONDS < self._clock():
            self._known.pop(key, None)
            raise Unauthenticated("The bearer token has expired.", hint="Get a fresh one and try again.")
        return signed

    def signed(self, token: str, audience: Iterable[str]) -> Signed:
        """What `token` proved while it was valid: everything is checked but when it ended. It opens no door.

        Raises `Unauthenticated` as `verify` does.
        """
        return self._checked(token, tuple(audience))

    def _checked(self, token: str, audience: Sequence[str]) -> Signed:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=audience,
                options={
                    "require": ["exp", "iat", "sub", "aud", "iss"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated("The bearer token is not meant for this service.") from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The bearer token is not valid here.") from error
        expires = claims["exp"]
        if not isinstance(expires, int):
            raise Unauthenticated("The bearer token has expired.", hint="Get a fresh one and try again.")
        return Signed(_principal(claims), claims, expires)


def _nest(actors: Sequence[str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for actor in reversed(actors):
        nested = {"sub": actor, "act": nested} if nested else {"sub": actor}
    return nested


def _principal(claims: Mapping[str, Any]) -> Principal:
    actors: list[str] = []
    node: Any = claims.get("act")
    while isinstance(node, Mapping) and len(actors) < _MAX_ACTORS:
        actors.append(str(node.get("sub", "")))
        node = node.get("act")
    if node or not all(actors):
        raise Unauthenticated("The bearer token's chain of actors can't be read.")
    try:
        return Principal(
            kind=Kind(claims.get("kind", "")),
            subject=claims["sub"],
            roles=frozenset(Role(role) for role in claims.get("roles", ())),
            actors=tuple(actors),
            task=str(claims.get("task", "")),
        )
    except (ValueError, TypeError) as error:
        raise Unauthenticated("The bearer token does not say who is calling.") from error
