"""`opswarm ask` and `opswarm chat`: a person's side of a conversation with the swarm."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TextIO

import httpx

from opswarm import telemetry
from opswarm.a2a.client import RemoteAgent
from opswarm.a2a.wire import AGENT_KEY, MODEL_KEY
from opswarm.agent.events import (
    ApprovalNeeded,
    Delegated,
    Event,
    Failed,
    Finished,
    Notice,
    TextDelta,
    ToolFinished,
    ToolStarted,
    line,
)
from opswarm.cli import running
from opswarm.errors import OpswarmError
from opswarm.guard.keys import find_token
from opswarm.guard.untrusted import clean
from opswarm.settings import Settings

_SLACK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, to the agent that is named or to whoever the orchestrator chooses."""

    question: str
    agent: str = ""
    context_id: str = ""
    model: str = ""


def new_context() -> str:
    return f"ctx-{uuid.uuid4()}"


async def answer(settings: Settings, ask: Ask) -> AsyncGenerator[Event, None]:
    """The swarm's events for a question. Raises `OpswarmError` when nobody is there to ask."""
    telemetry.begin_run(None, "cli")
    token = find_token(settings)
    metadata = {key: value for key, value in ((AGENT_KEY, ask.agent), (MODEL_KEY, ask.model)) if value}
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=False) as http:
        agent = await RemoteAgent.connect("orchestrator", running.base_url(settings), http)
        source = agent.ask(
            ask.question,
            token=token,
            context_id=ask.context_id or new_context(),
            metadata=metadata,
            deadline=settings.orchestrator.delegation_seconds + _SLACK_SECONDS,
        )
        async with aclosing(source) as events:
            async for event in events:
                yield event


async def show(settings: Settings, ask: Ask, *, as_json: bool) -> bool:
    """Prints an answer as it arrives; says whether the turn ended well.

    Raises `OpswarmError` when nobody could be asked, and `BrokenPipeError` when nobody reads the answer any more:
    the turn is cancelled then.
    """
    screen = _JsonLines() if as_json else _Screen(sys.stdout, sys.stderr)
    well = False
    try:
        async with aclosing(answer(settings, ask)) as events:
            async for event in events:
                screen.show(event)
                well = isinstance(event, Finished)
    except OpswarmError as error:
        if as_json:
            screen.show(Failed(code=error.code, message=str(error)))
        raise
    return well


def hang_up() -> None:
    """Lets what is still in the buffers go nowhere, so that leaving does not complain that nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


class _JsonLines:
    """One event a line, for scripts."""

    def show(self, event: Event) -> None:
        sys.stdout.write(json.dumps(event.model_dump(mode="json"), ensure_ascii=False) + "\n")
        sys.stdout.flush()


class _Screen:
    """The answer on stdout; what happens on the way, dimmed, on stderr."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if err.isatty() else ("", "")
        self._at_line_start = True

    def show(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                safe = clean(text)
                self._out.write(safe)
                self._out.flush()
                self._at_line_start = safe.endswith("\n") if safe else self._at_line_start
            case Delegated() | ToolStarted() | ToolFinished() | Notice():
                self._aside(line(event))
            case ApprovalNeeded():
                self._end_line()
                self._out.write(f"{clean(event.text())}\n")
                self._out.flush()
            case Failed(message=message):
                self._end_line()
                self._err.write(f"{clean(message)}\n")
            case Finished(notice=notice):
                self._end_line()
                if notice:
                    self._aside(notice)

    def _aside(self, text: str) -> None:
        self._end_line()
        self._err.write(f"{self._dim}{clean(text)}{self._plain}\n")
        self._err.flush()

    def _end_line(self) -> None:
        if not self._at_line_start:
            self._out.write("\n")
            self._out.flush()
            self._at_line_start = True
