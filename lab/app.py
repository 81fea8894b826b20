"""The lab: a cluster in memory behind an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.routing import Route

from lab.access import ADMIN, Access, RbacUser
from lab.api import Api
from lab.scenarios import Scenario, apply, choose
from lab.seed.plant import plant
from lab.simulation.cluster import Cluster
from lab.simulation.world import World
from lab.store import Store

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class LabClock:
    """The given clock, which stands at a past instant while the cluster's history is made."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._fixed: datetime | None = None

    def __call__(self) -> datetime:
        return self._fixed or self._now()

    @contextlib.contextmanager
    def travel(self, at: datetime) -> Iterator[None]:
        before, self._fixed = self._fixed, at
        try:
            yield
        finally:
            self._fixed = before


def build_cluster(scenarios: Sequence[Scenario], clock: LabClock, seed: int = 0) -> Cluster:
    """The healthy cluster with its history, and the scenarios in it, as of now.

    It can be pickled together with its clock, if the clock's source can.
    """
    rng = random.Random(seed)
    cluster = Cluster(Store(clock, rng), World(), rng)
    start = clock()
    first = start - max((one.since for one in scenarios), default=timedelta())
    plant(cluster, start, first, clock.travel)
    apply(cluster, scenarios, start, clock.travel)
    cluster.store.compact()
    return cluster


class Lab:
    """A simulated cluster. `app` serves it, `tick` makes its time pass.

    Everything happens in the event loop that serves `app`; `tick` must be called there too.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: LabClock,
        scenarios: Sequence[Scenario] = (),
        *,
        token: str | None = None,
        rbac: Mapping[str, RbacUser] | None = None,
        tick_seconds: float = 2.0,
    ) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self.scenarios = tuple(scenarios)
        self.cluster, self.store = cluster, cluster.store
        self.clock, self._tick_seconds = clock, tick_seconds
        self.api = Api(cluster, Access({**(rbac or {}), self.token: ADMIN}), clock)
        self.app = Starlette(
            routes=[Route("/{path:path}", self.api.handle, methods=list(METHODS))], lifespan=self._lifespan
        )

    def tick(self) -> None:
        """One step of every controller and kubelet, up to the present of the lab's clock."""
        self.cluster.step(self.clock())

    def close_streams(self) -> None:
        """Ends every watch and followed log, so that a server can stop at once."""
        self.api.closing = True
        self.store.wake()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.api.closing = False
        ticking = asyncio.create_task(self._tick_forever()) if self._tick_seconds else None
        try:
            yield
        finally:
            self.close_streams()
            if ticking is not None:
                ticking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticking

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self.tick()


def create_lab(
    scenarios: Sequence[str] = (),
    *,
    token: str | None = None,
    rbac: Mapping[str, RbacUser] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    tick_seconds: float = 2.0,
    seed: int = 0,
) -> Lab:
    """A lab with the named scenarios; none gives the healthy cluster.

    `rbac` maps further bearer tokens to users with fewer rights; `token` itself is an administrator's.
    `tick_seconds` 0 leaves time to the caller's `tick`. The same `seed` and clock give the same cluster.
    Raises UnknownScenario, and ScenarioConflict where two scenarios touch the same object.
    """
    chosen, clock = choose(scenarios), LabClock(now)
    cluster = build_cluster(chosen, clock, seed)
    return Lab(cluster, clock, chosen, token=token, rbac=rbac, tick_seconds=tick_seconds)
