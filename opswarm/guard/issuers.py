"""ServiceAccounts: the projected tokens of a cluster's pods, checked against the keys of the cluster's issuer.

A token counts when the pinned issuer signed it with RS256 or ES256, for our audience, with an end, and when the
settings say who its account is. Whether it was taken back since (its pod deleted) can't be seen in it: give it a short
life.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from opswarm import incluster
from opswarm.errors import OpswarmError, Unauthenticated, Unavailable
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, Verifier
from opswarm.settings import Identity

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256")

FRESH_SECONDS = 3_600.0
"""For how long keys are used without a look at whether the issuer still has them."""

KEPT_SECONDS = 4 * 3_600.0
"""For how long they are used when the issuer can't be asked. After that nobody is let in."""

AGAIN_SECONDS = 10.0
"""The issuer is asked no more often, whatever is sent here."""

_FETCH_SECONDS = 5.0
_LEEWAY_SECONDS = 10
_MOST_BYTES = 262_144
_MOST_KEYS = 64
_MOST_TOKEN = 16_384
_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class _Held:
    """The issuer's keys by their ids, and when they were fetched."""

    keys: Mapping[str, jwt.PyJWK]
    at: float


class Keys:
    """The public keys of one issuer, fetched when they are needed and kept for a while."""

    def __init__(
        self,
        issuer: str,
        *,
        jwks_url: str = "",
        ca_file: Path | None = None,
        token_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._url = jwks_url
        self._token_file = token_file
        # Only these are shown the pod's token: not whomever a discovery document names.
        self._trusted = {_origin(url) for url in (issuer, jwks_url) if url}
        self._clock = clock
        self._http = incluster.client(ca_file, most=_MOST_BYTES)
        self._lock = asyncio.Lock()
        self._held = _Held({}, -math.inf)
        self._tried = -math.inf
        self.fetches = 0

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key with this id, or None where the issuer has none. Raises `Unavailable` when it can't be asked."""
        key = self._held.keys.get(kid)
        if key is not None and (self._age() < FRESH_SECONDS or (self._lock.locked() and self._age() < KEPT_SECONDS)):
            return key
        async with self._lock:
            trouble = await self._look_again(kid)
            if self._age() >= KEPT_SECONDS:
                raise Unavailable(trouble or "The issuer of ServiceAccount tokens was not heard of for too long.")
            return self._held.keys.get(kid)

    async def aclose(self) -> None:
        await self._http.aclose()

    def _age(self) -> float:
        return self._clock() - self._held.at

    async def _look_again(self, kid: str) -> str:
        """Fetches the keys where that may help and was not just done. Gives what went wrong, or ""."""
        now = self._clock()
        if (kid in self._held.keys and self._age() < FRESH_SECONDS) or now - self._tried < AGAIN_SECONDS:
            return ""
        self._tried = now
        self.fetches += 1
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                keys = await self._fetched()
        except (OpswarmError, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            told = str(error) if isinstance(error, OpswarmError) else "The issuer does not answer."
            log.warning("the keys of %s could not be fetched: %s", self._issuer, told)
            return f"The keys of the issuer of ServiceAccount tokens can't be had. {told}"
        if dropped := sorted(set(self._held.keys) - set(keys)):
            log.info("the issuer %s dropped %d of its keys", self._issuer, len(dropped))
        self._held = _Held(keys, now)
        return ""

    async def _fetched(self) -> dict[str, jwt.PyJWK]:
        body = await self._json(self._url or await self._discovered())
        keys = body.get("keys")
        if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
            raise Unavailable("What the issuer sends is no set of keys.")
        return dict(pair for entry in keys if (pair := _public(entry)) is not None)

    async def _discovered(self) -> str:
        body = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        url = body.get("jwks_uri")
        if body.get("issuer") != self._issuer or not isinstance(url, str):
            raise Unavailable("The discovery document is another issuer's.", hint="Check identity.issuer.")
        if urlsplit(url).scheme != "https" and _origin(url) not in self._trusted:
            raise Unavailable("The discovery document names a place for keys that does not prove itself.")
        return url

    async def _json(self, url: str) -> dict[str, Any]:
        headers = {"Accept": "application/json, application/jwk-set+json"}
        if self._token_file is not None and _origin(url) in self._trusted:
            headers["Authorization"] = f"Bearer {incluster.read_small(self._token_file)}"
        response = await self._http.get(url, headers=headers)
        if response.status_code != 200:
            denied = response.status_code in (401, 403)
            hint = "identity.token_file and identity.jwks_url say how to ask." if denied else ""
            raise Unavailable(f"{url} answers HTTP {response.status_code}.", hint=hint)
        try:
            body: Any = response.json()
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Unavailable(f"What {url} answers is no JSON object.")
        return body


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _public(entry: object) -> tuple[str, jwt.PyJWK] | None:
    """A key that may sign, by its id; None for one that we have no use for, such as a shared secret."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") not in ("RSA", "EC"):
        return None
    kid = entry.get("kid")
    if not isinstance(kid, str) or not kid:
        return None
    try:
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return (kid, key) if key.algorithm_name in ALGORITHMS else None


class ServiceAccounts:
    """Who a pod is, by its ServiceAccount's token."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        accounts: Mapping[str, str],
        keys: Keys,
    ) -> None:
        """`accounts` maps `namespace/name` to `agent:<name>` or `service:<name>`."""
        self.issuer = issuer
        self._audience = audience
        self._accounts = dict(accounts)
        self._keys = keys

    async def verify(self, token: str) -> Principal:
        """Who `token` proves. Raises `Unauthenticated`, never with the token in it, and `Unavailable` when the issuer
        has not been heard of for too long."""
        header = _header(token)
        key = await self._keys.find(header["kid"])
        if key is None or key.algorithm_name != header["alg"]:
            raise Unauthenticated("The ServiceAccount token is signed with no key of the issuer's.")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self.issuer,
                audience=self._audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The ServiceAccount token has expired.") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated(f"The ServiceAccount token is not for the audience {self._audience}.") from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The ServiceAccount token is not valid here.") from error
        return self._mapped(claims)

    def _mapped(self, claims: Mapping[str, Any]) -> Principal:
        subject = str(claims["sub"])
        account = subject.removeprefix(_PREFIX).replace(":", "/", 1)
        known = self._accounts.get(account, "") if subject == f"{_PREFIX}{account.replace('/', ':', 1)}" else ""
        if not known or not _agrees(claims, account):
            raise Unauthenticated(
                "This ServiceAccount is nobody here.", hint="identity.service_accounts says who an account is."
            )
        return Principal(kind=Kind(known.partition(":")[0]), subject=known)

    async def aclose(self) -> None:
        await self._keys.aclose()


def _header(token: str) -> dict[str, str]:
    """`alg` and `kid` of a token that may be worth a look at its signature."""
    if len(token) <= _MOST_TOKEN:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            header = {}
        alg, kid = header.get("alg"), header.get("kid")
        if alg in ALGORITHMS and isinstance(kid, str) and kid and "crit" not in header:
            return {"alg": alg, "kid": kid}
    raise Unauthenticated("The ServiceAccount token is not valid here.")


def _agrees(claims: Mapping[str, Any], account: str) -> bool:
    """Whether what Kubernetes says besides, where it does, names the same account."""
    bound = claims.get("kubernetes.io")
    if bound is None:
        return True
    inner = bound.get("serviceaccount") if isinstance(bound, dict) else None
    return isinstance(inner, dict) and f"{bound.get('namespace')}/{inner.get('name')}" == account


def service_accounts(identity: Identity) -> ServiceAccounts | None:
    """What checks ServiceAccount tokens; None where the settings name no issuer."""
    if not identity.issuer:
        return None
    keys = Keys(
        identity.issuer, jwks_url=identity.jwks_url, ca_file=identity.ca_file, token_file=identity.token_file
    )
    return ServiceAccounts(identity.issuer, identity.audience, identity.service_accounts, keys)


class ServiceProof:
    """Calling it says which service or agent a token proves: one of ours for the exchange, or a ServiceAccount's."""

    def __init__(self, verifier: Verifier, accounts: ServiceAccounts | None = None) -> None:
        self._verifier = verifier
        self._accounts = accounts

    async def __call__(self, token: str, audiences: Sequence[str] = (AUDIENCE_EXCHANGE,)) -> Principal:
        """Raises `Unauthenticated`, and `Unavailable` when the cluster's issuer can't be asked.

        One of our tokens must be for one of `audiences`; a ServiceAccount's has an audience of its own.
        """
        if self._accounts is not None and _issuer(token) == self._accounts.issuer:
            return await self._accounts.verify(token)
        return self._verifier.verify(token, audiences).principal

    async def aclose(self) -> None:
        if self._accounts is not None:
            await self._accounts.aclose()


def _issuer(token: str) -> str:
    """Who a token says that it is from: which of two checks it has to pass, no more."""
    if len(token) > _MOST_TOKEN:
        return ""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, RecursionError):
        return ""
    return str(claims.get("iss", ""))
