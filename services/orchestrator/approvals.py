"""Approvals: what waits at the tool servers, shown to people, and their answers, signed.

The tool servers hold the proposals; nothing is kept here. What a person is shown and what is signed are read from there
at that moment, so that no agent can come between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from opswarm.actions import grants
from opswarm.actions.proposals import Proposal
from opswarm.actions.routes import ORCHESTRATOR
from opswarm.agent.events import ApprovalRequest
from opswarm.errors import (
    Conflict,
    NotFound,
    OpswarmError,
    PermissionDenied,
    ToolServerDown,
    Unauthenticated,
    Unavailable,
    by_code,
)
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.redaction import redact_value
from opswarm.guard.tokens import AUDIENCE_TOOLS, SigningKey, Verifier, actions_audience
from opswarm.guard.untrusted import cap_bytes, clean

log = logging.getLogger(__name__)

_SECONDS = 5.0
_TOKEN_SECONDS = 60.0


class Approvals:
    """The approvals of the tool servers at `servers`: base URL by name."""

    def __init__(
        self, servers: Mapping[str, str], http: httpx.AsyncClient, key: SigningKey, verifier: Verifier
    ) -> None:
        self._servers = servers
        self._http = http
        self._key = key
        self._verifier = verifier
        self.answered: Callable[[Proposal], Awaitable[None]] = _nobody_waits
        """Told of each answer that was taken: whatever waits for it goes on."""
        self.wanted: Callable[[Proposal], Awaitable[None]] = _nobody_waits
        """Asked before a yes is signed. Raises `Conflict` where nobody waits for it any more."""

    async def waiting(self) -> tuple[list[Proposal], list[str]]:
        """All that waits, the oldest first, and which tool servers could not be asked, and why."""
        listed = await asyncio.gather(*(self._list(s) for s in self._servers), return_exceptions=True)
        found: list[Proposal] = []
        missing: list[str] = []
        for result in listed:
            if isinstance(result, OpswarmError):
                missing.append(str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                found += result
        return sorted(found, key=lambda p: p.created), missing

    async def find(self, id: str) -> Proposal:
        """Raises `NotFound`, or `ToolServerDown` when it may be at one that can't be asked."""
        down: OpswarmError | None = None
        for server in self._servers:
            try:
                return self._read(server, await self._ask(server, "GET", f"/proposals/{id}"))
            except NotFound:
                continue
            except Unavailable as error:
                down = error
        if down is not None:
            raise down
        raise NotFound(f"There is no approval {cap_bytes(clean(id), 32)}.", hint="`opswarm approvals` lists them.")

    async def answer(
        self, id: str, approver: Principal, *, approve: bool, reason: str = "", digest: str = ""
    ) -> Proposal:
        """Takes a person's answer; `digest` is that of what they were shown, where they say.

        Raises `PermissionDenied` where theirs does not count, `NotFound`, and `Conflict` where somebody was first, it
        has expired, what asked for it was cancelled, or it is not what they were shown.
        """
        proposal = await self.find(id)
        if approve and digest and digest != proposal.digest():
            raise Conflict(
                f"What waits as {id} is not what you were shown.", hint="Look at it again: `opswarm approvals`."
            )
        if approve:
            await self.wanted(proposal)
        grant = grants.sign(self._key, proposal, approver, approve=approve, reason=reason)
        body = await self._ask(proposal.server, "POST", f"/proposals/{id}/answer", {"grant": grant})
        said = self._read(proposal.server, body)
        log.info("%s %s approval %s", approver, "approved" if approve else "rejected", id)
        try:
            await self.answered(said)
        except Exception:  # The library's boundary. The answer counts; what waits for it looks by itself, later.
            log.exception("what waits for approval %s could not be woken", id)
        return said

    def asked_by(self, proposal: Proposal) -> Principal:
        """For whom the call was made, as the token shows that came with it: our own signature, not the tool server's
        word. Raises `PermissionDenied` when it shows nothing."""
        try:
            signed = self._verifier.signed(proposal.proof, [AUDIENCE_TOOLS])
        except Unauthenticated as error:
            raise PermissionDenied(f"For whom approval {proposal.id} was asked is not proven.") from error
        return signed.principal

    async def audit(self, server: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The audit of one tool server, as it gives it."""
        if server not in self._servers:
            known = ", ".join(sorted(self._servers)) or "none"
            raise NotFound(f"No tool server {cap_bytes(clean(server), 60)} has an audit.", hint=f"There are: {known}.")
        return await self._ask(server, "GET", "/audit", query=query)

    @property
    def servers(self) -> list[str]:
        return sorted(self._servers)

    async def _list(self, server: str) -> list[Proposal]:
        body = await self._ask(server, "GET", "/proposals")
        return [self._read(server, p) for p in body.get("proposals", [])]

    def _read(self, server: str, body: Any) -> Proposal:
        try:
            proposal = Proposal.model_validate(body)
        except ValidationError as error:
            raise Unavailable(f"The {server} tool server sent a proposal that can't be read.") from error
        if proposal.server != server:
            raise Unavailable(f"The {server} tool server sent a proposal of another.")
        return proposal

    async def _ask(
        self,
        server: str,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        token = self._key.mint(ORCHESTRATOR, [actions_audience(server)], seconds=_TOKEN_SECONDS)
        url = f"{self._servers[server].rstrip('/')}/actions{path}"
        try:
            response = await self._http.request(
                method,
                url,
                json=dict(body) if body is not None else None,
                params=dict(query or {}),
                headers={"Authorization": f"Bearer {token}"},
                timeout=_SECONDS,
            )
            found: Any = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ToolServerDown(
                f"The {server} tool server can't be asked about approvals.", hint="Check that it runs."
            ) from error
        if response.status_code != 200 or not isinstance(found, dict):
            raise self._refused(server, response.status_code, found)
        return found

    def _refused(self, server: str, status: int, found: Any) -> OpswarmError:
        error = found.get("error") if isinstance(found, dict) else None
        said = error if isinstance(error, dict) else {}
        kind = by_code(str(said.get("code", "")))
        if status >= 500 or kind in (OpswarmError, Unauthenticated):
            return ToolServerDown(f"The {server} tool server answered HTTP {status} about approvals.")
        return kind(cap_bytes(clean(str(said.get("message", ""))), 600))


def request_of(proposal: Proposal) -> ApprovalRequest:
    """The proposal as people are shown it."""
    return ApprovalRequest(
        id=proposal.id,
        server=proposal.server,
        tool=proposal.tool,
        summary=proposal.summary,
        preview=proposal.preview,
        risk=proposal.risk.value,
        expires=proposal.expires,
        digest=proposal.digest(),
    )


def shown(proposal: Proposal) -> dict[str, Any]:
    """The proposal as JSON for people."""
    found: dict[str, Any] = redact_value(proposal.shown())
    return found


def may_look(principal: Principal | None) -> None:
    """Raises `PermissionDenied` for whoever may not see what waits: only people with a role do."""
    if principal is None or principal.kind is not Kind.PERSON or not principal.roles:
        raise PermissionDenied("Only people with a role see what waits.", hint="Use a token of your own.")
    if any(a.startswith("agent:") for a in principal.actors):
        raise PermissionDenied("An agent does not see what waits for others.")


async def _nobody_waits(proposal: Proposal) -> None:
    return None

