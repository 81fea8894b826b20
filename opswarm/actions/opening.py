"""Opening the gate of one tool server from the settings: its database, its keys, and what it was doing before."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from opswarm.actions.action import Action
from opswarm.actions.audit import Audit
from opswarm.actions.execution import Executions
from opswarm.actions.gate import Control, Gate
from opswarm.actions.grants import Grants
from opswarm.actions.proposals import Proposals
from opswarm.actions.records import LEASE_SECONDS
from opswarm.errors import Unavailable
from opswarm.guard.keys import audit_key
from opswarm.guard.policy import Policy
from opswarm.guard.rates import RateLimits, StoredUses
from opswarm.guard.tokens import Verifier
from opswarm.settings import Settings
from opswarm.store.database import database

log = logging.getLogger(__name__)

_DAY = 86_400.0
_TIDY_SECONDS = 6 * 3_600.0


@asynccontextmanager
async def open_gate(
    settings: Settings,
    server: str,
    actions: Mapping[str, Action],
    *,
    policy: Callable[[], Policy],
    control: Control,
    verifier: Verifier,
) -> AsyncIterator[Gate]:
    """The gate of the tool server `server`, whose actions are given by their tools' names.

    What was broken off before is looked after meanwhile; nothing of it can be done a second time until then. Raises
    `Unavailable` when its database can't be used, and `SettingsInvalid` for keys.
    """
    store = database(settings.database(server))
    uses, proposals = StoredUses(store), Proposals(store, server)
    executions = Executions(store, server, executor=settings.executor)
    audit = Audit(store, server, audit_key(settings, server), keep_days=settings.actions.audit_days)
    try:
        for part in (uses, proposals, executions, audit):
            await part.open()
        gate = Gate(
            server,
            policy,
            control,
            RateLimits(policy, uses),
            proposals,
            Grants(verifier, server),
            executions,
            audit,
            chat_seconds=settings.actions.chat_minutes * 60,
            alone_seconds=settings.actions.autonomous_hours * 3_600,
        )
        await _tidied(settings, proposals, executions)
        beside = [
            asyncio.create_task(_tidy(settings, proposals, executions)),
            asyncio.create_task(_recover(gate, actions)),
        ]
        try:
            yield gate
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    finally:
        await executions.aclose()
        await store.close()


async def _recover(gate: Gate, actions: Mapping[str, Action]) -> None:
    """Now, and once more when the last word of a process that was killed a moment ago has run out."""
    for wait in (0.0, LEASE_SECONDS + 1.0):
        await asyncio.sleep(wait)
        try:
            await gate.recover(actions)
        except Unavailable as error:
            log.warning("what was broken off could not be looked after: %s", error)


async def _tidied(settings: Settings, proposals: Proposals, executions: Executions) -> None:
    until = time.time() - settings.keep_days * _DAY
    await proposals.forget(until)
    await executions.forget(until)


async def _tidy(settings: Settings, proposals: Proposals, executions: Executions) -> None:
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        try:
            await _tidied(settings, proposals, executions)
        except Unavailable as error:
            log.warning("old proposals could not be dropped: %s", error)
