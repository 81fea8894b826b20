"""Budgets in tokens and money: counted while a reply streams, so that work in flight is cut off, not only new work."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from opswarm.errors import BudgetExceeded
from opswarm.models.chat import NoticePiece, UsagePiece
from opswarm.settings import Budget, Budgets
from services.model_gateway.prices import Tariff

CHARACTERS_PER_TOKEN = 4
"""For what a provider has not counted yet: OpenAI's rule of thumb for English and JSON."""

_MOST_SCOPES = 10_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What a budget is for: a task, an agent's day, or the day of all. `day` is an ISO date or ""."""

    kind: str
    name: str = ""
    day: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "task":
                return "this task"
            case "agent_day":
                return f"the agent {self.name} today"
        return "all agents together today"


@dataclass(slots=True)
class Spent:
    """Tokens and USD, of calls that ended and, as far as they got, of those that run."""

    tokens: int = 0
    usd: float = 0.0

    def share(self, budget: Budget) -> float:
        """The part of the budget that is used; 1 and more when it is used up."""
        parts = [0.0]
        if budget.tokens is not None:
            parts.append(self.tokens / budget.tokens if budget.tokens else 1.0)
        if budget.usd is not None:
            parts.append(self.usd / budget.usd if budget.usd else 1.0)
        return max(parts)


class Meter:
    """Counts against every budget. `budgets` gives the settings of the moment; `clock` Unix seconds."""

    def __init__(self, budgets: Callable[[], Budgets], *, clock: Callable[[], float] = time.time) -> None:
        self._budgets = budgets
        self._clock = clock
        self._spent: OrderedDict[Scope, Spent] = OrderedDict()
        self._warned: OrderedDict[Scope, None] = OrderedDict()

    def day(self) -> str:
        """Today's ISO date in the budgets' time zone."""
        return datetime.fromtimestamp(self._clock(), ZoneInfo(self._budgets().time_zone)).date().isoformat()

    def load(self, sums: Mapping[Scope, Spent]) -> None:
        """Begins with what was spent before this process started."""
        self._spent.update(sums)

    def begin(self, agent: str, task: str, read: int, tariff: Tariff | None) -> Running:
        """A call that sends about `read` tokens. Raises `BudgetExceeded` where a budget is used up already."""
        scopes = [Scope("swarm_day", day=self.day())]
        if agent:
            scopes.append(Scope("agent_day", agent, scopes[0].day))
        if task:
            scopes.append(Scope("task", task))
        for scope in scopes:
            self._check(scope)
        running = Running(self, scopes, tariff)
        running.add(read, 0)
        return running

    def add(self, scope: Scope, tokens: int, usd: float) -> None:
        spent = self._spent.setdefault(scope, Spent())
        self._spent.move_to_end(scope)
        spent.tokens = max(0, spent.tokens + tokens)
        spent.usd = max(0.0, spent.usd + usd)
        while len(self._spent) > _MOST_SCOPES:
            self._spent.popitem(last=False)

    def check(self, scopes: list[Scope]) -> None:
        """Raises `BudgetExceeded` for the first scope whose budget is used up."""
        for scope in scopes:
            self._check(scope)

    def warnings(self, scopes: list[Scope]) -> Iterator[NoticePiece]:
        """A warning for each scope that has come near its end, once."""
        for scope in scopes:
            share = self._share(scope)
            if share >= self._budgets().warn_at and scope not in self._warned:
                self._warned[scope] = None
                while len(self._warned) > _MOST_SCOPES:
                    self._warned.popitem(last=False)
                yield NoticePiece("budget_warning", f"{share:.0%} of the budget for {scope} is used.")

    def shares(self) -> Iterator[tuple[Scope, float, Spent]]:
        """Today's budgets that have a limit, and how much of each is used."""
        today = self.day()
        for scope, spent in self._spent.items():
            if scope.day == today and (budget := self._budget(scope)) != Budget(tokens=None, usd=None):
                yield scope, spent.share(budget), spent

    def _check(self, scope: Scope) -> None:
        if self._share(scope) >= 1:
            setting = f"budgets.{scope.kind}"
            again = "" if scope.kind == "task" else f" A new day begins at midnight, {self._budgets().time_zone}."
            raise BudgetExceeded(
                f"The budget for {scope} is used up ({self._limit(scope)}).",
                hint=f"Raise {setting}, or ask in a new task.{again}" if scope.kind == "task" else
                f"Raise {setting}, or wait.{again}",
            )  # fmt: skip

    def _share(self, scope: Scope) -> float:
        budget = self._budget(scope)
        return self._spent.get(scope, Spent()).share(budget)

    def _budget(self, scope: Scope) -> Budget:
        found: Budget = getattr(self._budgets(), scope.kind)
        return found

    def _limit(self, scope: Scope) -> str:
        budget = self._budget(scope)
        parts = [f"{budget.tokens} tokens" if budget.tokens is not None else ""]
        parts.append(f"{budget.usd:g} USD" if budget.usd is not None else "")
        return " and ".join(p for p in parts if p)


class Running:
    """One call in flight: estimated while it streams, put right when its usage is known."""

    def __init__(self, meter: Meter, scopes: list[Scope], tariff: Tariff | None) -> None:
        self._meter = meter
        self._scopes = scopes
        self._tariff = tariff
        self._read = 0
        self._written = 0
        self._characters = 0
        self._counted = Spent()

    def add(self, read: int, written: int) -> None:
        """More tokens, as far as can be told."""
        self._read += read
        self._written += written
        self._count(UsagePiece("", self._read, self._written))

    def wrote(self, characters: int) -> Iterator[NoticePiece]:
        """More of the reply came. Gives warnings; raises `BudgetExceeded` where that uses a budget up."""
        self._characters += characters
        tokens = self._characters // CHARACTERS_PER_TOKEN
        if tokens > self._written:
            self.add(0, tokens - self._written)
        self._meter.check(self._scopes)
        yield from self._meter.warnings(self._scopes)

    def settle(self, usage: UsagePiece) -> Iterator[NoticePiece]:
        """The provider told what the call used. Gives warnings."""
        self._count(usage)
        yield from self._meter.warnings(self._scopes)

    def estimate(self, model: str) -> UsagePiece:
        """What the call used, as far as can be told."""
        return UsagePiece(model, self._read, self._written)

    def _count(self, usage: UsagePiece) -> None:
        now = Spent(usage.input_tokens + usage.output_tokens, self._tariff.of(usage) if self._tariff else 0.0)
        for scope in self._scopes:
            self._meter.add(scope, now.tokens - self._counted.tokens, now.usd - self._counted.usd)
        self._counted = now
