"""Grants: a person's yes or no to one proposal, signed by the orchestrator over the hash of what they were shown.

The tool server checks a grant when it arrives and again right before it executes, so that nobody who can write to its
database can approve anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opswarm.actions.proposals import Proposal, State, may_answer
from opswarm.errors import PermissionDenied, Unauthenticated
from opswarm.guard.principal import Principal
from opswarm.guard.tokens import SigningKey, Verifier, grant_audience
from opswarm.guard.untrusted import cap_bytes, clean

GRANT_SECONDS = 900.0
"""How long after it was signed an answer is taken."""

KEPT_SECONDS = 86_400.0
"""How long one that was taken counts: as long as it is tried to go on with the task that waited for it."""

REASON_BYTES = 500

_STATES = {"approve": State.APPROVED, "reject": State.REJECTED}


@dataclass(frozen=True, slots=True)
class Grant:
    """A checked answer: who gave it, `State.APPROVED` or `State.REJECTED`, their reason or "", and when it was signed
    (Unix seconds)."""

    approver: Principal
    state: State
    reason: str
    signed: float


def sign(key: SigningKey, proposal: Proposal, approver: Principal, *, approve: bool, reason: str = "") -> str:
    """The grant of `approver` for what `proposal` shows. Raises `PermissionDenied` where their answer does not count:
    they are no operator, or an agent is in the chain."""
    if not may_answer(approver):
        raise PermissionDenied(
            "Only a person with the role operator or admin can answer this, and only by themselves: never an agent.",
            hint="Ask somebody who has it, or answer with a token of your own.",
            rule="approval.person",
        )
    said = {
        "proposal": proposal.id,
        "digest": proposal.digest(),
        "answer": "approve" if approve else "reject",
        "reason": cap_bytes(clean(reason), REASON_BYTES),
    }
    # Without the task of the request that carried the answer: it belongs to the proposal.
    person = approver.model_copy(update={"task": ""})
    return key.mint(person, [grant_audience(proposal.server)], seconds=KEPT_SECONDS, grant=said)


class Grants:
    """Checks grants at one tool server."""

    def __init__(self, verifier: Verifier, server: str, *, clock: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._audience = grant_audience(server)
        self._clock = clock

    def arrived(self, token: str, proposal: Proposal) -> Grant:
        """As `read`, of an answer that comes now: it must have been signed a moment ago."""
        grant = self.read(token, proposal)
        if grant.signed + GRANT_SECONDS < self._clock():
            raise _refused("The grant is not valid here: it was signed too long ago.")
        return grant

    def read(self, token: str, proposal: Proposal) -> Grant:
        """The answer that `token` gives to `proposal`. Raises `PermissionDenied` for one that is forged, foreign,
        stale, of somebody who may not, or over anything else than what the proposal shows."""
        try:
            signed = self._verifier.verify(token, [self._audience])
        except Unauthenticated as error:
            raise _refused(f"The grant is not valid here: {error.message}") from error
        said: Any = signed.claims.get("grant")
        if not isinstance(said, dict) or said.get("proposal") != proposal.id:
            raise _refused("The grant is for another proposal.")
        if said.get("digest") != proposal.digest():
            raise _refused("The grant is not over what this proposal shows.")
        if not may_answer(signed.principal):
            raise _refused("The grant is not a person's who may give it.")
        state = _STATES.get(str(said.get("answer")))
        if state is None:
            raise _refused("The grant says neither yes nor no.")
        return Grant(signed.principal, state, str(said.get("reason") or ""), float(signed.claims["iat"]))


def _refused(why: str) -> PermissionDenied:
    return PermissionDenied(why, hint="Ask for the action again, and have it approved.", rule="approval.grant")
