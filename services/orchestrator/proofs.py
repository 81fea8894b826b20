"""For whom a waiting task goes on, proven: a pause has a token that the orchestrator signed when it parked the task.

Whoever can write to the database could otherwise name anybody there, with any role, and have an agent work with that.
The token names the task, so that it says nothing about another; its audience is that of no door.
"""

from __future__ import annotations

from opswarm.errors import PermissionDenied, Unauthenticated
from opswarm.guard.principal import Principal
from opswarm.guard.tokens import SigningKey, Verifier

_AUDIENCE = "pause"
_SECONDS = 14 * 86_400.0
"""As long as a pause is kept. That it has ended is not what is asked."""


class Proofs:
    """Makes and checks the proofs of one orchestrator's pauses."""

    def __init__(self, key: SigningKey, verifier: Verifier) -> None:
        self._key = key
        self._verifier = verifier

    def sign(self, principal: Principal, task_id: str) -> str:
        return self._key.mint(principal.model_copy(update={"task": task_id}), [_AUDIENCE], seconds=_SECONDS)

    def whose(self, proof: str, task_id: str) -> Principal:
        """For whom the task `task_id` works. Raises `PermissionDenied` where `proof` does not say so."""
        try:
            principal = self._verifier.signed(proof, [_AUDIENCE]).principal
        except Unauthenticated as error:
            raise _unproven() from error
        if principal.task != task_id:
            raise _unproven()
        return principal.model_copy(update={"task": ""})


def _unproven() -> PermissionDenied:
    return PermissionDenied(
        "For whom this task waits is not proven, so it does not go on.", hint="Ask again.", rule="approval.pause"
    )
