"""How many actions there may be in an hour and in a day: of all together, of each agent, of each tool.

Hours and days slide: they are the last 3,600 and 86,400 seconds, so that no turn of the clock lets twice as many
through. What can't be counted is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from opswarm.errors import OpswarmError, PermissionDenied
from opswarm.guard.policy import Policy, Rate
from opswarm.guard.principal import Principal
from opswarm.store.database import Database

HOUR = 3_600.0
DAY = 86_400.0
_PRUNE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Use:
    """One action: its `id`, who did it with which tool, and when (seconds since the epoch)."""

    id: str
    actor: str
    tool: str
    at: float


@dataclass(frozen=True, slots=True)
class Tally:
    """How many uses there were after a time: of all, of one actor, of one tool."""

    total: int
    actor: int
    tool: int


class Uses(Protocol):
    """Where uses are kept. Each method raises `Unavailable` when it can't be done."""

    async def add(self, use: Use) -> None: ...

    async def remove(self, id: str) -> None: ...

    async def tally(self, actor: str, tool: str, since: float) -> Tally:
        """Of uses after `since`, those of the future among them."""
        ...

    async def forget(self, until: float) -> None:
        """Drops uses up to a time."""
        ...


class MemoryUses:
    """Uses that are gone with the process: for tests, and for what has no database."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}

    async def add(self, use: Use) -> None:
        self._uses[use.id] = use

    async def remove(self, id: str) -> None:
        self._uses.pop(id, None)

    async def tally(self, actor: str, tool: str, since: float) -> Tally:
        found: Sequence[Use] = [u for u in self._uses.values() if u.at > since]
        return Tally(len(found), sum(u.actor == actor for u in found), sum(u.tool == tool for u in found))

    async def forget(self, until: float) -> None:
        self._uses = {id: u for id, u in self._uses.items() if u.at > until}


class StoredUses:
    """Uses in a database, which all replicas of a tool server share. `open` it before anything else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS action_uses (id VARCHAR(64) NOT NULL PRIMARY KEY,"
                " actor VARCHAR(256) NOT NULL, tool VARCHAR(64) NOT NULL, used_at DOUBLE PRECISION NOT NULL)",
                "CREATE INDEX IF NOT EXISTS action_uses_by_time ON action_uses (used_at)",
            ]
        )

    async def add(self, use: Use) -> None:
        await self._database.write(
            "INSERT INTO action_uses (id, actor, tool, used_at) VALUES (:id, :actor, :tool, :used_at)",
            {"id": use.id, "actor": use.actor, "tool": use.tool, "used_at": use.at},
        )

    async def remove(self, id: str) -> None:
        await self._database.write("DELETE FROM action_uses WHERE id = :id", {"id": id})

    async def tally(self, actor: str, tool: str, since: float) -> Tally:
        rows = await self._database.rows(
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN actor = :actor THEN 1 ELSE 0 END), 0),"
            " COALESCE(SUM(CASE WHEN tool = :tool THEN 1 ELSE 0 END), 0) FROM action_uses WHERE used_at > :since",
            {"actor": actor, "tool": tool, "since": since},
        )
        total, by_actor, by_tool = rows[0]
        return Tally(int(total), int(by_actor), int(by_tool))

    async def forget(self, until: float) -> None:
        await self._database.write("DELETE FROM action_uses WHERE used_at <= :until", {"until": until})


class RateLimits:
    """Counts actions and refuses those that are too many. One a tool server; replicas share what is in `uses`."""

    def __init__(self, policy: Callable[[], Policy], uses: Uses, *, clock: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._uses = uses
        self._clock = clock
        self._taken = 0

    async def take(self, tool: str, principal: Principal) -> None:
        """Counts one action, right before it is executed. Raises `PermissionDenied` where it is one too many, or where
        that can't be told; then it is not to be executed.

        Counted first and compared then: of several at once too many may be refused, never too many let through.
        """
        now = self._clock()
        use = Use(uuid.uuid4().hex, principal.acting[:256], tool, now)
        try:
            await self._uses.add(use)
            over = await self._over(use)
            if over is not None:
                await self._uses.remove(use.id)
            await self._prune(now)
        except OpswarmError as error:
            raise PermissionDenied(
                f"How many actions there were can't be counted, so {tool} is refused.",
                hint=str(error),
                rule="rates.unknown",
            ) from error
        if over is not None:
            raise over

    async def _over(self, use: Use) -> PermissionDenied | None:
        policy = self._policy()
        for unit, seconds in (("hour", HOUR), ("day", DAY)):
            tally = await self._uses.tally(use.actor, use.tool, use.at - seconds)
            for rule, what, rate, used in _applied(policy, use, tally):
                most = getattr(rate, unit)
                if most is not None and used > most:
                    return PermissionDenied(
                        f"{what} had {used - 1} actions within the last {unit}; {most} are allowed.",
                        hint=f"Wait, or change {rule}.{unit} in the policy.",
                        rule=f"{rule}.{unit}",
                    )
        return None

    async def _prune(self, now: float) -> None:
        self._taken += 1
        if self._taken % _PRUNE_EVERY == 0:
            await self._uses.forget(now - DAY - HOUR)


def _applied(policy: Policy, use: Use, tally: Tally) -> Iterator[tuple[str, str, Rate, int]]:
    """Each rate that a use falls under: its rule, whose it is, the rate, and how many there were, this one included."""
    rates = policy.rates
    agent = use.actor.removeprefix("agent:")
    named = rates.agents.get(agent) if use.actor.startswith("agent:") else None
    if (tool := rates.tools.get(use.tool)) is not None:
        yield f"rates.tools.{use.tool}", use.tool, tool, tally.tool
    yield f"rates.agents.{agent}" if named else "rates.agent", use.actor, named or rates.agent, tally.actor
    yield "rates.total", "All together", rates.total, tally.total
