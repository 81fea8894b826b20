"""Check runs and commit statuses of a commit, as one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcp_servers.github.client import Client
from mcp_servers.github.strangers import line

_PASSED = frozenset({"success", "neutral", "skipped"})
_STATUS_PASSED, _STATUS_PENDING = frozenset({"success", "warning"}), frozenset({"pending", "expected"})


class State(StrEnum):
    """What the checks of a commit amount to. `NONE` is that nothing has reported yet, which is no pass."""

    PASSING = "passing"
    FAILING = "failing"
    PENDING = "pending"
    NONE = "none yet"


@dataclass(frozen=True, slots=True)
class Check:
    """One check run or status: its name, what became of it (GitHub's word), and what it says. `run` is its workflow
    run's id, or 0."""

    name: str
    state: State
    result: str
    text: str
    run: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one commit, the failing first."""

    sha: str
    checks: Sequence[Check]

    @property
    def state(self) -> State:
        states = {check.state for check in self.checks}
        # The refusal wins, then what is not known yet.
        return next((s for s in (State.FAILING, State.PENDING, State.PASSING) if s in states), State.NONE)

    def of(self, state: State) -> list[Check]:
        return [check for check in self.checks if check.state is state]

    def __str__(self) -> str:
        counts = [f"{len(found)} {s}" for s in (State.FAILING, State.PENDING, State.PASSING) if (found := self.of(s))]
        told = ", ".join(counts)
        return f"{self.state} ({told})" if told else str(self.state)

    def lines(self, most: int = 40) -> list[str]:
        """The failing and pending ones one by one, then the names of those that passed."""
        told = [
            f"- {check.state}: {check.name} ({check.result}){f': {check.text}' if check.text else ''}"
            f"{f' [run {check.run}]' if check.run and check.state is State.FAILING else ''}"
            for check in self.checks
            if check.state is not State.PASSING
        ]
        cut = [f"- and {len(told) - most} more"] if len(told) > most else []
        passed = [check.name for check in self.of(State.PASSING)]
        names = ", ".join(passed[:most]) + (f" and {len(passed) - most} more" if len(passed) > most else "")
        return [*told[:most], *cut, *([f"passed: {names}"] if passed else [])]

    def data(self) -> dict[str, Any]:
        checks = [{"name": c.name, "state": c.state.value, "result": c.result, "run": c.run} for c in self.checks]
        return {"sha": self.sha, "state": self.state.value, "checks": checks}


async def verdict(client: Client, repo: str, sha: str) -> Verdict:
    """The verdict on a commit of the repository at the path `repo`. Raises `OpswarmError`: what can't be read is
    never taken for passed."""
    found = [_of_status(s) for s in await _statuses(client, repo, sha)]
    if client.settings.kind == "github":
        runs = await client.all(f"{repo}/commits/{sha}/check-runs", key="check_runs", filter="latest")
        found += [_of_run(run) for run in runs.items]
    order = (State.FAILING, State.PENDING, State.PASSING)
    return Verdict(sha, tuple(sorted(found, key=lambda c: (order.index(c.state), c.name))))


async def _statuses(client: Client, repo: str, sha: str) -> Sequence[Any]:
    """The last status of each context."""
    if client.settings.kind == "gitea":
        every = await client.all(f"{repo}/commits/{sha}/statuses")
        newest: dict[str, Any] = {}
        for one in sorted(every.items, key=lambda s: (str(s.get("created_at")), int(s.get("id") or 0))):
            newest[str(one.get("context"))] = {**one, "state": one.get("status") or one.get("state")}
        return list(newest.values())
    found: list[Any] = []
    number = 1
    while True:
        one = await client.get(f"{repo}/commits/{sha}/status", per_page=100, page=number)
        found += one.get("statuses") or []
        if not one.get("statuses") or len(found) >= int(one.get("total_count") or 0):
            return found
        number += 1


def _of_status(status: Any) -> Check:
    result = str(status.get("state"))
    state = State.PASSING if result in _STATUS_PASSED else State.PENDING if result in _STATUS_PENDING else State.FAILING
    return Check(line(status.get("context"), 100), state, line(result, 30), line(status.get("description")))


def _of_run(run: Any) -> Check:
    done, result = run.get("status") == "completed", str(run.get("conclusion") or run.get("status"))
    state = State.PENDING if not done else State.PASSING if result in _PASSED else State.FAILING
    output = run.get("output") or {}
    return Check(line(run.get("name"), 100), state, line(result, 30), line(output.get("title")), _run_of(run))


def _run_of(run: Any) -> int:
    """The workflow run that a check run of GitHub Actions belongs to, by its page's address."""
    _, _, rest = str(run.get("details_url") or "").partition("/actions/runs/")
    number = rest.partition("/")[0]
    return int(number) if number.isascii() and number.isdigit() else 0
