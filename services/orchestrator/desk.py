"""The desk where people answer: all that the orchestrator needs for approvals, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from a2a.types import Task
from starlette.routing import BaseRoute

from opswarm.a2a.engine import Engine
from opswarm.agent.pauses import Pauses
from opswarm.errors import SettingsInvalid
from opswarm.guard.exchange import Exchange
from opswarm.guard.tokens import SigningKey, Verifier
from opswarm.settings import Settings
from opswarm.store.tasks import Tasks
from services.orchestrator.approval_routes import ApprovalRoutes
from services.orchestrator.approvals import Approvals
from services.orchestrator.card import NAME
from services.orchestrator.directory import Directory
from services.orchestrator.parking import Parking
from services.orchestrator.proofs import Proofs
from services.orchestrator.resuming import Resuming, WaitingTask

if TYPE_CHECKING:
    from services.orchestrator.waiting import ApprovalWorkflows

log = logging.getLogger(__name__)


class Desk:
    """Made where a tool server has actions. `resumes` is to be called before `lifespan`."""

    def __init__(
        self, settings: Settings, http: httpx.AsyncClient, key: SigningKey, verifier: Verifier, store: Tasks
    ) -> None:
        servers = {s: settings.address(s) for s in settings.actions.servers}
        self._settings = settings
        self._approvals = Approvals(servers, http, key, verifier)
        self._pauses = Pauses[WaitingTask](store.database, NAME, WaitingTask)
        self._proofs = Proofs(key, verifier)
        self.parking = Parking(self._approvals, self._pauses, self._proofs, self._begin)

    def resumes(self, engine: Engine, directory: Directory, exchange: Exchange) -> None:
        self.parking.resuming = Resuming(
            engine,
            self._pauses,
            self._approvals,
            self._proofs,
            directory,
            exchange,
            delegation_seconds=self._settings.orchestrator.delegation_seconds,
        )
        self._approvals.wanted = self.parking.resuming.wanted

    async def ended(self, task: Task) -> None:
        """What waited with a task goes when its end is stored."""
        if self.parking.resuming is not None:
            await self.parking.resuming.ended(task)

    def routes(self) -> list[BaseRoute]:
        return ApprovalRoutes(self._approvals).routes()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """While it runs, what waits is waited for. Raises `Unavailable` when it can't be kept."""
        assert self.parking.resuming is not None
        # Imported here: DBOS costs 45 MB and half a second, and a swarm that only reads has no use for it.
        made = await asyncio.to_thread(_load)
        self._workflows = made(self._settings, self._approvals, self.parking.resuming)
        async with AsyncExitStack() as stack:
            await self._pauses.open()
            await stack.enter_async_context(self._workflows.lifespan())
            yield

    async def _begin(self, id: str, expires: float) -> None:
        try:
            await self._workflows.begin(id, expires)
        except Exception:  # The library's boundary. The task is parked: the next sweep has it waited for.
            log.exception("approval %s is not waited for yet", id)


def _load() -> type[ApprovalWorkflows]:
    try:
        from services.orchestrator.waiting import ApprovalWorkflows
    except ModuleNotFoundError as error:
        if error.name != "dbos":
            raise
        raise SettingsInvalid(
            "actions.servers is set, but what keeps approvals is not installed.", hint="Install opswarm[actions]."
        ) from error
    return ApprovalWorkflows
