"""What the orchestrator offers desktop apps over MCP: its agents, as two tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from opswarm.a2a import wire
from opswarm.a2a.asking import Asked
from opswarm.a2a.engine import Call, Engine
from opswarm.a2a.messages import question
from opswarm.agent.events import ApprovalNeeded, Event, Failed, Finished, Notice, TextDelta, Usage, line
from opswarm.errors import InvalidInput, NotFound, OpswarmError, Unauthenticated
from opswarm.guard import principal as principals
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.pacing import paced
from services.orchestrator.directory import Directory

_SIGN_SECONDS = 5.0
"""A sign of life so often: clients that watch progress give up after a minute without."""

_MOST_NOTICES = 20
_MOST_ANSWER_BYTES = 24_000


@dataclass(slots=True)
class _Answer:
    """What a task told so far."""

    text: list[str] = field(default_factory=list)
    approvals: list[dict[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    state: str = "working"
    failure: str = ""

    def take(self, event: Event) -> None:
        match event:
            case TextDelta(text=text):
                self.text.append(text)
            case ApprovalNeeded(approvals=approvals):
                self.approvals = [
                    {"id": a.id, "tool": a.tool, "summary": clean(a.summary), "preview": clean(a.preview)}
                    for a in approvals
                ]
            case Notice(text=text):
                self.notices = [*self.notices, clean(text)][-_MOST_NOTICES:]
            case Usage():
                self.input_tokens += event.input_tokens
                self.output_tokens += event.output_tokens
            case Failed(message=message):
                self.state, self.failure = "failed", message
            case Finished(notice=notice):
                self.state = "input_required" if self.approvals else "completed"
                if notice:
                    self.notices.append(clean(notice))


class AgentTools:
    """`list_agents` and `invoke_agent`."""

    def __init__(self, engine: Engine, directory: Directory, own: str, *, wait: float) -> None:
        """`own` is the orchestrator's name; one call waits for `wait` seconds."""
        self._engine = engine
        self._directory = directory
        self._own = own
        self._wait = wait

    def specs(self) -> Sequence[ToolSpec]:
        return (
            ToolSpec(self.list_agents, toolset="agents", title="List agents", timeout=15),
            ToolSpec(
                self.invoke_agent,
                read_only=False,
                delegates=True,
                toolset="agents",
                title="Ask an agent",
                timeout=self._wait + 30,
            ),
        )

    async def list_agents(self) -> ToolOutput:
        """The agents that can be asked: what each is for, and whether it answers now."""
        entries = [e.shown() for e in self._directory.entries()]
        lines = [
            f"{e['name']} ({e['state']}): {e['description'] or e['error']}"
            + (f" Skills: {', '.join(s['name'] for s in e['skills'])}." if e["skills"] else "")
            for e in entries
        ]
        return ToolOutput("\n".join(lines) or "There are no agents.", {"agents": entries})

    async def invoke_agent(
        self,
        task: Annotated[str, Field(description="The question or job, in plain words. Empty with task_id.")] = "",
        agent: Annotated[str, Field(description="An agent's name. Empty: whoever fits best.")] = "",
        context_id: Annotated[str, Field(description="Continues the conversation of an earlier answer.")] = "",
        task_id: Annotated[str, Field(description="Waits on for a task that was still being worked on.")] = "",
        ctx: Context[Any, Any] | None = None,
    ) -> ToolOutput:
        """Asks an agent of the swarm that looks after the cluster, and waits for its answer.

        The result ends with the context_id for follow-up questions. An answer that takes long says so and gives a
        task_id: call again with it to wait on.
        """
        principal = principals.current()
        if principal is None:
            raise Unauthenticated("Nobody is known to be asking.")
        asked = await self._asked(principal.subject, task, agent, context_id, task_id)
        answer = _Answer()
        try:
            async with asyncio.timeout(self._wait):
                async with aclosing(self._told(asked, answer, ctx)) as steps:
                    async for _ in steps:
                        pass
        except TimeoutError:
            asked.leave()
            return _still(asked, answer)
        except BaseException:  # Whoever asked is gone, or it broke: what was asked for here is not waited for any more.
            asked.leave()
            if not task_id:
                asked.cancel()
            raise
        asked.leave()
        if answer.state == "failed":
            raise OpswarmError(f"{clean(answer.failure)} (context_id: {asked.context_id})")
        return _whole(asked, answer)

    async def _asked(self, owner: str, task: str, agent: str, context_id: str, task_id: str) -> Asked:
        if task_id:
            if task or agent or context_id:
                raise InvalidInput("task_id goes alone: it waits for a task that was asked for already.")
            return await Asked.join(self._engine, task_id, owner)
        if not task.strip():
            raise InvalidInput("Say what is to be done, in 'task'.", hint="Or give a task_id to wait on.")
        named = "" if agent == self._own else agent
        if named and named not in {e.name for e in self._directory.entries()}:
            known = ", ".join(e.name for e in self._directory.entries())
            raise NotFound(f"There is no agent '{cap_bytes(clean(agent), 60)}'.", hint=f"The agents are: {known}.")
        # The words are a desktop app's model's, whoever's token it is that it holds.
        metadata: dict[str, Any] = {wire.MODEL_ASKS_KEY: True}
        if named:
            metadata[wire.AGENT_KEY] = named
        return await Asked.begin(self._engine, Call(question(task, context_id), owner, metadata))

    async def _told(self, asked: Asked, answer: _Answer, ctx: Context[Any, Any] | None) -> AsyncGenerator[None, None]:
        """Takes the events into `answer`, with a progress notification for each thing that happens, and in silence."""
        step = 0.0
        async with aclosing(paced(asked.events(), _SIGN_SECONDS)) as events:
            async for event in events:
                if event is not None:
                    answer.take(event)
                if ctx is not None and not isinstance(event, TextDelta | Usage):
                    step += 1
                    told = clean(line(event)) if event is not None else "still working"
                    await ctx.report_progress(step, message=cap_bytes(told, 200) or None)
                yield


def _data(asked: Asked, answer: _Answer) -> dict[str, Any]:
    return {
        "state": answer.state,
        "context_id": asked.context_id,
        "task_id": asked.task_id,
        "approvals": answer.approvals,
        "notices": answer.notices,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
    }


def _capped(text: str) -> str:
    """The answer with room behind it for what must not be cut off: approvals, notes, the context id."""
    cut = cap_bytes(text, _MOST_ANSWER_BYTES)
    return cut if len(cut) == len(text) else f"{cut}\n(the answer was cut after {_MOST_ANSWER_BYTES} bytes)"


def _whole(asked: Asked, answer: _Answer) -> ToolOutput:
    parts = [_capped("".join(answer.text).strip())]
    parts += [
        f"Waiting for a person's approval {a['id']}: {a['summary']} {a['preview']}\n"
        f"They answer with `opswarm approve {a['id']}` or `opswarm reject {a['id']}`."
        for a in answer.approvals
    ]
    parts += [f"Note: {n}" for n in answer.notices]
    parts.append(f"(context_id: {asked.context_id})")
    return ToolOutput("\n\n".join(p for p in parts if p), _data(asked, answer))


def _still(asked: Asked, answer: _Answer) -> ToolOutput:
    so_far = _capped("".join(answer.text).strip())
    told = f"Still being worked on. Call invoke_agent with task_id {asked.task_id} alone to wait on."
    return ToolOutput(f"{so_far}\n\n{told}".strip(), _data(asked, answer))
