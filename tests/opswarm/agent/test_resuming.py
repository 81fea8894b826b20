"""A turn that waited for people and goes on: what they said yes to is done, and lost by nothing on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from opswarm.agent.events import ApprovalNeeded, ApprovalRequest, Event, Finished, TextDelta, ToolFinished
from opswarm.agent.toolbox import ToolResult
from opswarm.agent.turn import PausedTurn, TurnLoop, TurnRequest
from opswarm.errors import DeadlineExceeded, OpswarmError, ToolServerDown
from opswarm.models.chat import CallPiece, ChatRequest, Piece, TextPiece, ToolCall, ToolSchema
from opswarm.models.playbook import Playbook
from opswarm.settings import Turn
from tests.opswarm.agent.test_turn import Model, call

DOWN = ToolServerDown("The lamps tool server can't be reached.")
REQUEST = TurnRequest(system="", question="switch them", run="t1")


class Lamps:
    """Switches wait until they are among the `answered`; what is in `raises` is raised for a lamp instead."""

    def __init__(self) -> None:
        self.schemas: tuple[ToolSchema, ...] = (ToolSchema("switch", "", {"type": "object"}, read_only=False),)
        self.missing: tuple[OpswarmError, ...] = ()
        self.raises: dict[str, OpswarmError] = {}
        self.answered: set[str] = set()
        self.done: list[str] = []
        self.keys: list[str] = []
        self.holds = False

    async def call(self, name: str, arguments: dict[str, Any], *, key: str = "", proposal: str = "") -> ToolResult:
        lamp = arguments["lamp"]
        self.keys.append(key)
        if self.holds:
            await asyncio.sleep(30)
        if lamp in self.raises:
            raise self.raises[lamp]
        if lamp not in self.answered:
            return ToolResult("waits", approval=ApprovalRequest(id=f"ap{lamp}"))
        if proposal not in self.done:
            self.done.append(proposal)
        return ToolResult("switched")


class Paused:
    """A turn that asked for `lamps` and waits for people."""

    def __init__(self, *lamps: str, limits: Turn | None = None) -> None:
        self.calls = [call("switch", n, lamp=lamp) for n, lamp in enumerate(lamps)]
        self.model = Model([CallPiece(c) for c in self.calls], [TextPiece("all done")])
        self.loop = TurnLoop(self.model, Playbook(), limits or Turn())
        self.tools = Lamps()
        self.kept: list[PausedTurn] = []

    async def keep(self, paused: PausedTurn) -> None:
        self.kept.append(paused)

    async def begin(self) -> None:
        events = [e async for e in self.loop.run(REQUEST, self.tools, pause=self.keep)]
        assert isinstance(events[-1], ApprovalNeeded)

    async def resume(self, seconds: float | None = None) -> list[Event]:
        source = self.loop.resume(REQUEST, self.kept[-1], self.tools, seconds=seconds, pause=self.keep)
        return [e async for e in source]


@pytest.mark.parametrize("error", [DOWN, DeadlineExceeded("The lamps tool server did not answer within 280 s.")])
async def test_an_approval_is_not_spent_on_a_tool_server_that_is_being_restarted(error: OpswarmError) -> None:
    paused = Paused("hall")
    await paused.begin()
    paused.tools.raises["hall"] = error
    with pytest.raises(type(error)):
        await paused.resume()
    assert len(paused.kept) == 1 and len(paused.model.requests) == 1
    paused.tools.raises.clear()
    paused.tools.answered.add("hall")
    assert isinstance((await paused.resume())[-1], Finished) and paused.tools.done == ["aphall"]


async def test_an_approval_is_not_spent_while_its_tool_is_not_listed() -> None:
    paused = Paused("hall")
    await paused.begin()
    paused.tools.schemas, paused.tools.missing = (), (DOWN,)
    with pytest.raises(ToolServerDown):
        await paused.resume()
    paused.tools.missing = ()  # Every server was asked, and none has it: it will not come back.
    events = await paused.resume()
    assert any(isinstance(e, ToolFinished) and "There is no tool" in e.summary for e in events)


async def test_an_approval_is_not_spent_on_a_turn_that_runs_out_of_time_before_its_call_is_answered() -> None:
    paused = Paused("hall")
    await paused.begin()
    paused.tools.holds = True
    with pytest.raises(DeadlineExceeded):
        await paused.resume(seconds=0.05)
    assert len(paused.kept) == 1


async def test_one_of_two_calls_that_cant_be_made_waits_on_alone() -> None:
    paused = Paused("hall", "desk")
    await paused.begin()
    paused.tools.answered |= {"hall", "desk"}
    paused.tools.raises["desk"] = DOWN
    events = await paused.resume()
    assert isinstance(events[-1], ApprovalNeeded) and [r.id for r in events[-1].approvals] == ["apdesk"]
    paused.tools.raises.clear()
    assert isinstance((await paused.resume())[-1], Finished) and paused.tools.done == ["aphall", "apdesk"]


async def test_what_was_approved_is_done_though_the_turn_has_reached_its_limits_meanwhile() -> None:
    # Full of what it had read by the time it began to wait.
    paused = Paused("hall", limits=Turn(max_turn_tool_bytes=2_000))
    await paused.begin()
    paused.tools.answered.add("hall")
    paused.kept[0] = paused.kept[0].model_copy(update={"tool_bytes": 2_000})
    events = await paused.resume()
    assert paused.tools.done == ["aphall"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "all done"


async def test_the_same_call_approved_many_times_is_done_each_time() -> None:
    paused = Paused("hall")
    await paused.begin()
    paused.tools.answered.add("hall")
    one = paused.kept[0].pending[0]
    many = [
        one.model_copy(update={"call": ToolCall(f"c{n}", one.call.name, one.call.arguments)}) for n in range(5)
    ]
    paused.kept[0] = paused.kept[0].model_copy(update={"pending": tuple(many)})
    events = await paused.resume()
    assert all(e.ok for e in events if isinstance(e, ToolFinished))


async def test_the_same_call_after_one_whose_answer_was_lost_has_its_key() -> None:
    tools = Lamps()
    tools.raises["hall"] = DOWN
    tools.answered.add("hall")

    class Again(Model):
        """Asks for the same three times; the answer to the first is lost."""

        async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
            if len(self.requests) == 1:
                tools.raises.clear()
            async for piece in super().stream(request):
                yield piece

    steps = [[CallPiece(call("switch", n, lamp="hall"))] for n in (1, 2, 3)]
    loop = TurnLoop(Again(*steps, [TextPiece("done")]), Playbook(), Turn())
    events = [e async for e in loop.run(REQUEST, tools)]
    assert isinstance(events[-1], Finished)
    assert tools.keys == ["t1/1/c1", "t1/1/c1", "t1/3/c3"]


async def test_a_turn_that_waits_keeps_the_key_of_a_call_whose_answer_was_lost() -> None:
    paused = Paused("hall", "desk")
    paused.tools.raises["hall"] = DOWN
    await paused.begin()
    assert list(paused.kept[0].unsettled.values()) == ["t1/1/c0"]
    paused.tools.raises.clear()
    paused.tools.answered |= {"hall", "desk"}
    paused.model.steps = ([], [CallPiece(call("switch", 7, lamp="hall"))], [TextPiece("all done")])
    await paused.resume()
    assert paused.tools.keys == ["t1/1/c0", "t1/1/c1", "t1/1/c1", "t1/1/c0"]
