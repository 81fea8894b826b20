"""Small agents with a known answer, served like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from opswarm.a2a.cards import Skill, agent_card
from opswarm.a2a.server import A2AServer, TurnInput
from opswarm.agent.events import Event, Finished, TextDelta, ToolFinished, ToolStarted
from opswarm.guard.keys import verifier
from opswarm.guard.tokens import AUDIENCE_PERSON, turn_audience
from opswarm.service import Service
from opswarm.settings import Settings
from opswarm.store.tasks import Tasks


class Echo:
    """Answers with its name and the question, over a tool event. Some words make it misbehave."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[TurnInput] = []
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        self.seen.append(request)
        if "break" in request.text:
            raise ValueError("SELECT password FROM users; key " + "sk-ant-" + "y" * 30)
        yield ToolStarted(call_id="1", tool="look", arguments={"at": request.text[:20]})
        yield ToolFinished(call_id="1", tool="look", ok=True, summary="seen", seconds=0.1)
        yield TextDelta(text=f"{self.name} heard: ")
        if "flood" in request.text:
            for n in range(600):
                yield ToolStarted(call_id=f"f{n}", tool="look")
        if "wait" in request.text:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        yield TextDelta(text=request.text)
        yield Finished()


def echo_service(
    settings: Settings,
    name: str,
    url: str,
    echo: Echo,
    *,
    tags: tuple[str, ...] = ("echo",),
    database: Path | None = None,
) -> Service:
    """An echo agent as a service."""
    skill = Skill("say", f"Say {name}", f"says things about {name}", tags, (f"say something about {name}",))
    card = agent_card(name, name, f"echoes as {name}.", url, (skill,))
    path = database or settings.home / f"{name}.db"
    store = Tasks(f"sqlite+aiosqlite:///{path}", name)
    server = A2AServer(name, card, echo, store, max_bytes=settings.server.max_request_bytes)
    audiences = (turn_audience(name), AUDIENCE_PERSON)
    routes = [*server.routes(), *server.chat_routes(lambda: (name, "other"))]
    return Service(name, routes, verifier(settings), audiences, lifespan=server.lifespan)
