"""The turn token: from a caller's proof to the short token that an agent works with (in the way of RFC 8693).

The orchestrator's side (`Exchange`) decides and signs; an agent's side (`TurnToken`) asks, holds and renews.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from opswarm.errors import OpswarmError, PermissionDenied, Unauthenticated, Unavailable
from opswarm.guard.issuers import ServiceProof
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.tokens import (
    AUDIENCE_GATEWAY,
    AUDIENCE_PERSON,
    AUDIENCE_TOOLS,
    TURN_SECONDS,
    SigningKey,
    Verifier,
    turn_audience,
)

log = logging.getLogger(__name__)

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
MAX_TURN_SECONDS = 3_600.0
"""A turn's token is not renewed past this: the longest turn that the settings allow."""

_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TurnTokens:
    """What an agent is sent with a request: `door` opens its own door and nothing else, `work` tools and models.

    Apart, so that a tool server that is handed the second can't walk up to an agent with it.
    """

    door: str
    work: str


class Exchange:
    """Signs turn tokens. Lives in the orchestrator, the only holder of the key."""

    def __init__(
        self,
        key: SigningKey,
        verifier: Verifier,
        agents: Callable[[], Collection[str]],
        *,
        proof: ServiceProof | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`proof` says which agent a token proves; without one, only tokens signed here prove any."""
        self._key = key
        self._verifier = verifier
        self._proof = proof or ServiceProof(verifier)
        self._agents = agents
        self._clock = clock

    def for_agent(self, principal: Principal, agent: str, task: str) -> TurnTokens:
        """The tokens with which `agent` acts for `principal` on `task`.

        The roles are kept; what may be done with them is decided where power lives. Someone else's chain is kept
        too, behind the agent that now acts.
        """
        acting = _acting(principal, agent, task)
        door = self._key.mint(acting, [turn_audience(agent)], seconds=TURN_SECONDS, started=self._clock())
        return TurnTokens(door, self.for_work(principal, agent, task))

    def for_work(self, principal: Principal, agent: str, task: str, *, started: float | None = None) -> str:
        """The token with which `agent` calls tools and models for `principal`; no agent's door takes it."""
        begun = self._clock() if started is None else started
        audience = [AUDIENCE_TOOLS, AUDIENCE_GATEWAY]
        return self._key.mint(_acting(principal, agent, task), audience, seconds=TURN_SECONDS, started=begun)

    async def exchange(self, subject_token: str, actor_token: str, task: str) -> str:
        """A work token for the agent that `actor_token` proves, on behalf of whoever `subject_token` proves.

        The subject is a person's own token, or the agent's turn or work token, which is renewed. Raises
        `Unauthenticated` for a bad proof, `PermissionDenied` for a turn that is too old or is another's, and
        `Unavailable` when the cluster's issuer can't be asked.
        """
        actor = await self._proof(actor_token)
        if actor.kind is not Kind.AGENT or actor.actors:
            raise PermissionDenied("Only an agent itself may exchange tokens.")
        agent = actor.subject.removeprefix("agent:")
        if agent not in self._agents():
            raise PermissionDenied("This agent is not in the orchestrator's directory.")
        subject = self._verifier.verify(subject_token, [AUDIENCE_PERSON, AUDIENCE_TOOLS, turn_audience(agent)])
        started = subject.claims.get("turn_started")
        if started is None:
            return self.for_work(subject.principal, agent, task)
        if subject.principal.acting != actor.subject:
            raise PermissionDenied("This turn token is another agent's.")
        if self._clock() - float(started) > MAX_TURN_SECONDS:
            raise PermissionDenied("The turn has run for too long; its token is not renewed.")
        return self.for_work(subject.principal, agent, subject.principal.task, started=float(started))


def _acting(principal: Principal, agent: str, task: str) -> Principal:
    actor = f"agent:{agent}"
    chain = principal.actors if principal.acting == actor else (actor, *principal.actors)
    return principal.model_copy(update={"actors": chain, "task": task})


class TurnToken:
    """The token of one turn, kept fresh while the turn lives. Calling it gives the token at hand."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self) -> str:
        return self._value

    def renew(self, value: str) -> None:
        self._value = value


class ExchangeClient:
    """An agent's way to the exchange at `url` (the orchestrator's base)."""

    def __init__(self, url: str, http: httpx.AsyncClient, service_token: Callable[[], str]) -> None:
        self._url = f"{url.rstrip('/')}/oauth/token"
        self._http = http
        self._service_token = service_token

    @asynccontextmanager
    async def turn(self, proof: str, task: str, *, work: str = "") -> AsyncIterator[TurnToken]:
        """A work token for the length of the block, renewed when due.

        `proof` is the incoming token, `work` the work token that came with it, if one did. Raises `Unavailable`
        when the orchestrator can't be asked, `Unauthenticated` when it says no.
        """
        held = TurnToken(work or await self._ask(proof, task))
        renewing = asyncio.create_task(self._renew(held, task))
        try:
            yield held
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self, held: TurnToken, task: str) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS / 2)
            try:
                held.renew(await self._ask(held(), task))
            except OpswarmError as error:
                # The old token still serves for a while; when it ends, the calls it is refused for say so.
                log.warning("the turn token could not be renewed: %s", error)

    async def _ask(self, subject: str, task: str) -> str:
        form = {
            "grant_type": GRANT,
            "subject_token": subject,
            "subject_token_type": JWT_TYPE,
            "actor_token": self._service_token(),
            "actor_token_type": JWT_TYPE,
            "task": task,
        }
        try:
            response = await self._http.post(self._url, data=form, timeout=_CONNECT_SECONDS)
            body: Any = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                "The orchestrator can't be reached, so this agent can't prove for whom it works.",
                hint="Check that the orchestrator runs.",
            ) from error
        if response.status_code >= 500:
            raise Unavailable("The orchestrator can't check this agent's token now.", hint="Its log says why.")
        token = body.get("access_token") if isinstance(body, dict) else None
        if response.status_code != 200 or not isinstance(token, str):
            raise Unauthenticated("The orchestrator does not let this agent work with the caller's token.")
        return token
