"""Budgets in tokens and money: counted while a reply streams, so that work in flight is cut off, not only new work."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from opswarm.agent.context import CHARACTERS_PER_TOKEN
from opswarm.errors import BudgetExceeded
from opswarm.models.chat import NoticePiece, UsagePiece
from opswarm.settings import Budget, Budgets
from services.model_gateway.prices import Tariff

_MOST_TASKS = 10_000


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
        self._tasks: OrderedDict[Scope, Spent] = OrderedDict()
        self._days: dict[Scope, Spent] = {}
        self._warned: OrderedDict[Scope, None] = OrderedDict()

    def day(self) -> str:
        """Today's ISO date in the budgets' time zone."""
        return datetime.fromtimestamp(self._clock(), ZoneInfo(self._budgets().time_zone)).date().isoformat()

    def load(self, sums: Mapping[Scope, Spent]) -> None:
        """Begins with what was spent before this process started."""
        for scope, spent in sums.items():
            self._keep(scope)
            self._known(scope)[scope] = spent

    def begin(self, agent: str, task: str, read: int, tariff: Tariff | None) -> Running:
        """A call that sends about `read` tokens. Raises `BudgetExceeded` where a budget has not that much left."""
        scopes = [Scope("swarm_day", day=self.day())]
        if agent:
            scopes.append(Scope("agent_day", agent, scopes[0].day))
        if task:
            scopes.append(Scope("task", task))
        usd = tariff.of(UsagePiece("", read)) if tariff else 0.0
        for scope in scopes:
            self._check(scope, Spent(read, usd))
        running = Running(self, scopes, tariff)
        running.add(read, 0)
        return running

    def add(self, scope: Scope, tokens: int, usd: float) -> None:
        spent = self._keep(scope)
        spent.tokens = max(0, spent.tokens + tokens)
        spent.usd = max(0.0, spent.usd + usd)

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
                while len(self._warned) > _MOST_TASKS:
                    self._warned.popitem(last=False)
                yield NoticePiece("budget_warning", f"{share:.0%} of the budget for {scope} is used.")

    def shares(self) -> Iterator[tuple[Scope, float, Spent]]:
        """Today's budgets that have a limit, and how much of each is used."""
        today = self.day()
        for scope, spent in self._days.items():
            if scope.day == today and (budget := self._budget(scope)) != Budget(tokens=None, usd=None):
                yield scope, spent.share(budget), spent

    def _known(self, scope: Scope) -> dict[Scope, Spent]:
        return self._days if scope.day else self._tasks

    def _keep(self, scope: Scope) -> Spent:
        """The scope's sum. Of tasks the oldest are forgotten before there are too many, of days those that are over."""
        if scope.day:
            if scope not in self._days:
                today = self.day()
                self._days = {s: spent for s, spent in self._days.items() if s.day >= today}
            return self._days.setdefault(scope, Spent())
        spent = self._tasks.setdefault(scope, Spent())
        self._tasks.move_to_end(scope)
        while len(self._tasks) > _MOST_TASKS:
            self._tasks.popitem(last=False)
        return spent

    def _check(self, scope: Scope, more: Spent | None = None) -> None:
        """Raises `BudgetExceeded` where the scope's budget is used up, or would be with `more`."""
        budget = self._budget(scope)
        spent = self._known(scope).get(scope, Spent())
        used = spent.share(budget) >= 1
        if not used and (more is None or Spent(spent.tokens + more.tokens, spent.usd + more.usd).share(budget) <= 1):
            return
        state = "is used up" if used else "has too little left for this call"
        if scope.kind == "task":
            hint = "Raise budgets.task, or ask in a new task."
        else:
            hint = f"Raise budgets.{scope.kind}, or wait. A new day begins at midnight, {self._budgets().time_zone}."
        raise BudgetExceeded(f"The budget for {scope} {state} ({self._limit(scope)}).", hint=hint)

    def _share(self, scope: Scope) -> float:
        budget = self._budget(scope)
        return self._known(scope).get(scope, Spent()).share(budget)

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
        self._told: list[NoticePiece] = []

    def add(self, read: int, written: int) -> None:
        """More tokens, as far as can be told."""
        self._read += read
        self._written += written
        self._count(UsagePiece("", self._read, self._written))

    def wrote(self, characters: int) -> None:
        """More of the reply came: text, reasoning, or arguments of a tool call.

        Raises `BudgetExceeded` where that uses a budget up.
        """
        self._characters += characters
        tokens = self._characters // CHARACTERS_PER_TOKEN
        if tokens > self._written:
            self.add(0, tokens - self._written)
        self._meter.check(self._scopes)
        self._told += self._meter.warnings(self._scopes)

    def settle(self, usage: UsagePiece) -> None:
        """The provider told what the call used."""
        self._count(usage)
        self._told += self._meter.warnings(self._scopes)

    @property
    def began(self) -> bool:
        """Whether anything of the reply came."""
        return self._characters > 0

    def close(self, usage: UsagePiece) -> None:
        """The call ended without the provider's count; nobody is there to be warned."""
        self._count(usage)

    def denies(self, usage: UsagePiece) -> bool:
        """Whether a provider's count can't be: it wrote, and says that it wrote nothing."""
        return self._characters >= CHARACTERS_PER_TOKEN and usage.output_tokens == 0

    def news(self) -> list[NoticePiece]:
        """The warnings since this was asked last."""
        told, self._told = self._told, []
        return told

    def estimate(self, model: str) -> UsagePiece:
        """What the call used, as far as can be told."""
        return UsagePiece(model, self._read, self._written)

    def _count(self, usage: UsagePiece) -> None:
        now = Spent(usage.input_tokens + usage.output_tokens, self._tariff.of(usage) if self._tariff else 0.0)
        for scope in self._scopes:
            self._meter.add(scope, now.tokens - self._counted.tokens, now.usd - self._counted.usd)
        self._counted = now
