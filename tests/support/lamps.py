"""A small world with a tool server of its own: lamps that can be switched. What happens to a call can be scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification, may_go_on
from opswarm.errors import NotFound, Unavailable
from opswarm.guard.limits import Touch
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Target
from opswarm.mcp.serving import Opener, ToolProvider
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import Settings


@dataclass
class Lamps:
    """`lit` by lamp, `marks` the idempotency keys that the world holds, `effects` how often something was switched.

    `breaks` is where a call fails: "before" or "after" the effect. `mute` keeps the probe from seeing anything. With
    `holds` an action waits for `hold`, and with `steps` it has another step behind that.
    """

    lit: dict[str, bool] = field(default_factory=lambda: {"hall": False, "desk": False, "kube-system": False})
    marks: set[str] = field(default_factory=set)
    effects: int = 0
    breaks: str = ""
    mute: bool = False
    note: str = ""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    holds: bool = False
    steps: bool = False

    async def lamp_switch(
        self,
        name: Annotated[str, Field(description="The lamp.")],
        on: Annotated[bool, Field(description="Whether it is to be lit.")] = True,
    ) -> Plan:
        """Switch a lamp on or off. Off is risky."""
        if name not in self.lit:
            raise NotFound(f"There is no lamp '{name}'.")
        namespace = name if name == "kube-system" else "home"
        touches: tuple[Touch, ...] = (Target("label", "ConfigMap", "lamp", namespace),)
        was = "on" if self.lit[name] else "off"
        return Plan(
            f"Switch {name} {'on' if on else 'off'}.",
            touches,
            Risk.SAFE if on else Risk.RISKY,
            f"{name}: {was} -> {'on' if on else 'off'} {self.note}".strip(),
            {"was": self.lit[name]},
        )

    async def perform(self, intent: Intent) -> Done:
        if self.holds:
            self.holding.set()
            await self.hold.wait()
            if self.steps:
                await may_go_on()
        if self.breaks == "before":
            raise Unavailable("The lamp does not answer.")
        self.lit[str(intent.arguments["name"])] = bool(intent.arguments["on"])
        self.marks.add(intent.key)
        self.effects += 1
        if self.breaks == "after":
            raise Unavailable("The answer of the lamp was lost.")
        return Done("It was switched.", {"lit": intent.arguments["on"]})

    async def probe(self, intent: Intent) -> Happened:
        if self.mute:
            return Happened.UNKNOWN
        return Happened.YES if intent.key in self.marks else Happened.NO

    async def verify(self, intent: Intent) -> Verification:
        wanted = intent.arguments["on"]
        seen = self.lit[str(intent.arguments["name"])]
        return Verification(seen == wanted, f"It is {'lit' if seen else 'dark'}.")

    async def lamps_list(self) -> ToolOutput:
        """List the lamps."""
        return ToolOutput("\n".join(f"{n} {'on' if on else 'off'}" for n, on in self.lit.items()))

    def specs(self) -> list[ToolSpec]:
        action = Action(self.perform, self.probe, self.verify, seconds=5, verify_seconds=5)
        return [ToolSpec(self.lamps_list), ToolSpec(self.lamp_switch, read_only=False, risk=Risk.SAFE, action=action)]

    def opener(self) -> Opener:
        @asynccontextmanager
        async def opened(settings: Settings) -> AsyncIterator[ToolProvider]:
            yield ToolProvider("lamps", self.specs(), "Lamps.")

        return opened
