"""One attempt to act, and what the audit is told of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opswarm.actions.action import Intent
from opswarm.actions.audit import Audit
from opswarm.actions.chain import Event
from opswarm.actions.execution import Told
from opswarm.actions.records import Outcome
from opswarm.guard.decision import Decision
from opswarm.guard.principal import Kind, Principal

_RECOVERY = Principal(kind=Kind.SERVICE, subject="service:recovery")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call under way. `key` is what it is done under: `given`, the caller's idempotency key as the server keeps it
    (or ""), the id of the approval that it has, or a new one. `started` is of the monotonic clock."""

    tool: str
    arguments: Mapping[str, Any]
    principal: Principal
    key: str
    given: str = ""
    started: float = field(default_factory=time.monotonic)


def recovering(intent: Intent) -> Attempt:
    """The attempt to find out what became of what was broken off."""
    return Attempt(intent.tool, intent.arguments, _RECOVERY, intent.key)


class Telling:
    """Tells the audit."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def tell(
        self,
        attempt: Attempt,
        event: str,
        *,
        decision: Decision | None = None,
        rule: str = "",
        text: str = "",
        proposal: str = "",
        state: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Adds an entry. Raises `Unavailable` when it can't be written."""
        who = attempt.principal
        await self._audit.add(
            Event(
                event=event,
                tool=attempt.tool,
                caller=str(who),
                subject=who.subject,
                task=who.task,
                arguments=attempt.arguments,
                key=attempt.key,
                proposal=proposal,
                outcome=decision.outcome.value if decision else "",
                rule=decision.rule if decision else rule,
                risk=decision.risk.value if decision else "",
                text=text,
                state=state or {},
                seconds=round(time.monotonic() - attempt.started if seconds is None else seconds, 3),
            )
        )

    def of(
        self,
        attempt: Attempt,
        intent: Intent,
        decision: Decision | None = None,
        *,
        proposal: str = "",
        before: Callable[[], Awaitable[None]] | None = None,
        last: Callable[[], Awaitable[None]] | None = None,
    ) -> Told:
        """Tells what an execution says of itself. `before` and `last` are the checks around the entry that it begins:
        what they raise keeps it from being done."""

        async def told(event: str, outcome: Outcome, seconds: float) -> None:
            begins = event == "executing"
            if begins and before is not None:
                await before()
            state = intent.state if begins else outcome.after
            await self.tell(
                attempt, event, decision=decision, text=outcome.text, proposal=proposal, state=state, seconds=seconds
            )
            if begins and last is not None:
                await last()

        return told
