"""The tools of the Prometheus server over one backend, called as a model's call reaches them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from mcp_servers.prometheus.settings import backends
from mcp_servers.prometheus.tools import open_apis, specs
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import OpswarmError
from opswarm.guard.limits import Limits
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import Api, Prometheus
from tests.mcp_servers.prometheus.history import NOW


@dataclass
class Act:
    """One action under way."""

    spec: ToolSpec
    plan: Plan
    intent: Intent

    @property
    def action(self) -> Action:
        assert self.spec.action is not None
        return self.spec.action

    async def perform(self) -> Done:
        return await self.action.perform(self.intent)

    async def probe(self) -> Happened:
        return await self.action.probe(self.intent)

    async def verify(self) -> Verification:
        return await self.action.verify(self.intent)


class Stage:
    """Tools by name."""

    def __init__(self, tools: dict[str, ToolSpec]) -> None:
        self.tools = tools

    async def ask(self, tool: str, /, **arguments: Any) -> ToolOutput:
        answer: Any = await self.tools[tool].function(**arguments)
        assert isinstance(answer, ToolOutput)
        assert len(answer.text.encode()) <= 16_500
        json.dumps(answer.data, allow_nan=False)
        return answer

    async def text(self, tool: str, /, **arguments: Any) -> str:
        return (await self.ask(tool, **arguments)).text

    async def data(self, tool: str, /, **arguments: Any) -> Any:
        return (await self.ask(tool, **arguments)).data

    async def refused(self, tool: str, /, **arguments: Any) -> OpswarmError:
        """The error of a call, its own or that of the hard limits."""
        try:
            answer: Any = await self.tools[tool].function(**arguments)
            for touch in answer.touches if isinstance(answer, Plan) else ():
                Limits().check(touch)
        except OpswarmError as error:
            return error
        raise AssertionError(f"{tool} was not refused: {answer}")

    async def plan(self, tool: str, key: str = "key-1", /, **arguments: Any) -> Act:
        """The plan of a call, which must be the same when it is asked again and within the hard limits."""
        spec = self.tools[tool]
        plan: Any = await spec.function(**arguments)
        again: Any = await spec.function(**arguments)
        assert (plan.summary, plan.preview, plan.touches) == (again.summary, again.preview, again.touches)
        for touch in plan.touches:
            Limits().check(touch)
        return Act(spec, plan, Intent(key, tool, arguments, json.loads(json.dumps(plan.state))))


@asynccontextmanager
async def staged(
    url: str = "", *, alertmanager: str = "", clock: Callable[[], float] = lambda: NOW, actions: bool = True,
    total: float = 20.0, **more: Any,
) -> AsyncIterator[Stage]:  # fmt: skip
    """The tools over a server at `url` and an Alertmanager, with further settings of the former."""
    chosen = Prometheus(url=url, alertmanager=Api(url=alertmanager), timeout_seconds=total, **more)
    async with open_apis(backends(chosen)) as apis:
        found = specs(replace(apis, clock=clock), actions=actions)
        yield Stage({spec.name: spec for spec in found})
