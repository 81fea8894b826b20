"""How often one may act, in memory, SQLite and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opswarm.errors import PermissionDenied, Unavailable
from opswarm.guard.policy import MOST_ACTIONS_AN_HOUR, Policy
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.rates import DAY, HOUR, MemoryUses, RateLimits, StoredUses, Tally, Use, Uses
from opswarm.store.database import database

DEVOPS = Principal(kind=Kind.AGENT, subject="agent:devops")
PR = Principal(kind=Kind.AGENT, subject="agent:pr")
ANN = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset(Role))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def uses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Uses]:
    if request.param == "memory":
        yield MemoryUses()
        return
    sqlite = f"sqlite+aiosqlite:///{tmp_path / 'uses.db'}"
    opened = database(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    stored = StoredUses(opened)
    await stored.open()
    yield stored
    await opened.close()


def limits(uses: Uses, clock: Clock, **rates: Any) -> RateLimits:
    policy = Policy.model_validate({"rates": rates})
    return RateLimits(lambda: policy, uses, clock=clock)


async def rule(found: RateLimits, tool: str = "restart", who: Principal = DEVOPS) -> str:
    """The rule that refuses one more; "" when it is counted."""
    try:
        await found.take(tool, who)
    except PermissionDenied as error:
        assert error.message.endswith(".")
        return error.rule
    return ""


async def test_the_hour_and_the_day_slide(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, total={"hour": 2, "day": 3})
    assert [await rule(found) for _ in range(3)] == ["", "", "rates.total.hour"]
    clock.now += HOUR - 1
    assert await rule(found) == "rates.total.hour", "no turn of the clock lets more through"
    clock.now += 1
    assert await rule(found) == ""
    clock.now += HOUR
    assert await rule(found) == "rates.total.day"
    clock.now += DAY - 2 * HOUR
    assert await rule(found) == "", "the first two are a day old"


async def test_what_is_refused_is_not_counted(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, total={"hour": 1})
    assert [await rule(found) for _ in range(20)].count("") == 1
    assert (await uses.tally("agent:devops", "restart", 0)).total == 1


async def test_agents_and_tools_have_limits_of_their_own(uses: Uses, clock: Clock) -> None:
    found = limits(
        uses, clock, agent={"hour": 2}, agents={"pr": {"hour": 1}}, tools={"drain": {"day": 1}}
    )  # fmt: skip
    assert [await rule(found, who=PR) for _ in range(2)] == ["", "rates.agents.pr.hour"]
    assert [await rule(found, who=ANN) for _ in range(3)] == ["", "", "rates.agent.hour"]
    assert [await rule(found, "drain") for _ in range(2)] == ["", "rates.tools.drain.day"]
    assert [await rule(found) for _ in range(2)] == ["", "rates.agent.hour"]


async def test_a_person_is_not_the_agent_of_the_same_name(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, agents={"pr": {"hour": 0}})
    assert await rule(found, who=PR) == "rates.agents.pr.hour"
    assert await rule(found, who=Principal(kind=Kind.SERVICE, subject="service:pr")) == ""


async def test_a_limit_of_none_lets_nothing_through(uses: Uses, clock: Clock) -> None:
    assert await rule(limits(uses, clock, total={"hour": 0})) == "rates.total.hour"


async def test_of_many_at_once_no_more_than_the_limit_get_through(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, total={"hour": 5})
    outcomes = await asyncio.gather(*(rule(found) for _ in range(30)))
    assert outcomes.count("") <= 5
    assert (await uses.tally("", "", 0)).total == outcomes.count("")


async def test_old_uses_are_forgotten(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, total={"hour": MOST_ACTIONS_AN_HOUR, "day": 1_000})
    await found.take("restart", DEVOPS)
    clock.now += 2 * DAY
    for _ in range(99):
        await rule(found)
    assert (await uses.tally("", "", 0)).total == MOST_ACTIONS_AN_HOUR


async def test_without_a_policy_there_is_a_limit(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock)
    assert [await rule(found) for _ in range(21)].count("") == 20


async def test_a_clock_that_is_set_back_gives_nothing_away(uses: Uses, clock: Clock) -> None:
    found = limits(uses, clock, total={"hour": 1})
    await found.take("restart", DEVOPS)
    clock.now -= 10 * DAY
    assert await rule(found) == "rates.total.hour"


async def test_stored_uses_survive_a_restart_and_are_shared(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'uses.db'}"
    for expected in ("", "", "rates.total.hour"):
        opened = database(url)
        stored = StoredUses(opened)
        await stored.open()
        assert await rule(limits(stored, clock, total={"hour": 2})) == expected
        await opened.close()


@pytest.mark.parametrize("broken", ["add", "tally", "remove", "forget"])
async def test_what_can_not_be_counted_is_refused(broken: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = MemoryUses()
    found = limits(uses, clock, total={"hour": 0 if broken == "remove" else 5})
    found._taken = 99

    async def fails(*args: Any) -> Tally:
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(uses, broken, fails)
    with pytest.raises(PermissionDenied, match="can't be counted") as refused:
        await found.take("restart", DEVOPS)
    assert refused.value.rule == "rates.unknown" and "does not answer" in refused.value.hint


async def test_a_closed_database_counts_as_one_that_can_not_be_read(tmp_path: Path, clock: Clock) -> None:
    opened = database(f"sqlite+aiosqlite:///{tmp_path / 'uses.db'}")
    stored = StoredUses(opened)
    await stored.open()
    await opened.close()
    assert await rule(limits(stored, clock)) == "rates.unknown"


async def test_a_strange_name_is_only_a_name(uses: Uses, clock: Clock) -> None:
    await uses.add(Use("1", "agent:' OR 1=1 --", "%", clock.now))
    assert await uses.tally("agent:x", "x", 0) == Tally(1, 0, 0)
