"""Tools called as a model's call reaches them, and actions taken step by step as the gate takes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification, asking_before_writes
from opswarm.errors import OpswarmError, PermissionDenied
from opswarm.guard.limits import Limits
from opswarm.mcp.tools import ToolOutput, ToolSpec


@dataclass
class Act:
    """One action under way: its plan, and what is written down of it."""

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

    async def paused(self) -> None:
        """Has it performed while actions are paused, after everything that the gate asks before: nothing is done."""

        async def check() -> None:
            raise PermissionDenied("Actions are paused.", rule="control.paused")

        with asking_before_writes(check), pytest.raises(PermissionDenied, match="paused"):
            await self.perform()
        assert await self.probe() is Happened.NO

    async def whole(self) -> Done:
        """Does it as the gate does: not done before, done, found, verified."""
        assert await self.probe() is Happened.NO
        done = await self.perform()
        assert await self.probe() is Happened.YES
        assert (await self.verify()).ok
        return done


class Tools:
    """The tools of one server by name."""

    tools: dict[str, ToolSpec]
    points = False
    """Whether an error may point at a place of the query, under a caret."""

    async def ask(self, tool: str, /, **arguments: Any) -> ToolOutput:
        """What a tool that reads gives; its data is JSON."""
        answer: Any = await self.tools[tool].function(**arguments)
        assert isinstance(answer, ToolOutput)
        json.dumps(answer.data, allow_nan=False)
        return answer

    async def text(self, tool: str, /, **arguments: Any) -> str:
        return (await self.ask(tool, **arguments)).text

    async def data(self, tool: str, /, **arguments: Any) -> Any:
        return (await self.ask(tool, **arguments)).data

    async def plan(self, tool: str, key: str = "key-1", /, **arguments: Any) -> Act:
        """The plan of a call, which must be the same when it is asked again and within the hard limits."""
        plan, again = await self.unchecked(tool, **arguments), await self.unchecked(tool, **arguments)
        assert (plan.summary, plan.preview, plan.touches) == (again.summary, again.preview, again.touches)
        for touch in plan.touches:
            Limits().check(touch)
        return Act(self.tools[tool], plan, Intent(key, tool, arguments, json.loads(json.dumps(plan.state))))

    async def unchecked(self, tool: str, /, **arguments: Any) -> Plan:
        """The plan of a call, whatever it touches."""
        plan: Any = await self.tools[tool].function(**arguments)
        assert isinstance(plan, Plan)
        return plan

    async def refused(self, tool: str, /, **arguments: Any) -> OpswarmError:
        """The error of a call, its own or that of the hard limits, on one line; nothing has changed by it."""
        before = self.state()
        try:
            answer: Any = await self.tools[tool].function(**arguments)
            for touch in answer.touches if isinstance(answer, Plan) else ():
                Limits().check(touch)
        except OpswarmError as error:
            assert self.state() == before and ("\n" not in str(error) or self.points)
            return error
        raise AssertionError(f"{tool} was not refused: {answer}")

    def state(self) -> object:
        """What no call that is refused may change."""
        return None
