"""The turn: a model and its tools in a loop, told as a stream of events.

Rules first: what code already knows it must look at (`TurnRequest.first_calls`) is looked at before any model is
asked, and the model gets it as if it had asked itself. The loop is bounded in steps, wall time and bytes of tool
results; a tool that fails is told to the model and the turn goes on; a model that can't be used is replaced by the
agent's own offline playbook, and the answer says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from opswarm.agent.context import CHARACTERS_PER_TOKEN, compact
from opswarm.agent.events import (
    ApprovalNeeded,
    ApprovalRequest,
    Event,
    Failed,
    Finished,
    Notice,
    TextDelta,
    ToolFinished,
    ToolStarted,
    Usage,
)
from opswarm.agent.toolbox import Toolbox, ToolResult
from opswarm.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InvalidInput,
    LimitExceeded,
    ModelFailed,
    ModelReplyInvalid,
    OpswarmError,
    PermissionDenied,
    Unavailable,
)
from opswarm.guard.untrusted import cap_bytes, clean, envelope
from opswarm.models.chat import (
    CallPiece,
    ChatModel,
    ChatRequest,
    Message,
    NoticePiece,
    StopPiece,
    TextPiece,
    ToolCall,
    ToolSchema,
    UsagePiece,
)
from opswarm.settings import Turn
from opswarm.streams import bounded

log = logging.getLogger(__name__)

_MAX_REPEATS = 3
"""The same call with the same arguments is run this often at most; by then its result is known."""

_MAX_ANSWER_CHARACTERS = 60_000


class Pending(BaseModel):
    """A call that waits for a person."""

    model_config = ConfigDict(frozen=True)

    call: ToolCall
    request: ApprovalRequest


class PausedTurn(BaseModel):
    """A turn that waits for people, as it is kept: all that it needs to go on in another process."""

    model_config = ConfigDict(frozen=True)

    question: str
    messages: tuple[Message, ...]
    pending: tuple[Pending, ...]
    unsettled: dict[str, str] = {}
    step: int
    tool_bytes: int
    answer_size: int
    offline: bool


Pause = Callable[[PausedTurn], Awaitable[None]]
"""Keeps a turn that is about to wait. Raises `Unavailable` when it can't be kept."""


async def _no_pause(paused: PausedTurn) -> None:
    raise Unavailable("This turn can't wait for an approval.", hint="Ask an agent that keeps its tasks.")


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One question to an agent.

    `history` holds earlier questions and answers, oldest first. `notes` are sentences that the answer must open
    with, such as a tool server that is down. `run` names the turn in the keys under which actions are done once.
    """

    system: str
    question: str
    history: tuple[Message, ...] = ()
    first_calls: tuple[ToolCall, ...] = ()
    model: str = "standard"
    notes: tuple[str, ...] = ()
    steps: Mapping[int, str] = field(default_factory=dict)
    run: str = ""


@dataclass(slots=True)
class _State:
    request: TurnRequest
    messages: list[Message]
    model: ChatModel
    tool_bytes: int = 0
    answer_size: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    unsettled: dict[str, str] = field(default_factory=dict)
    """Keys of calls that were not answered, by the call."""
    notice: str = ""
    step: int = 0
    asked: bool = False
    pending: list[Pending] = field(default_factory=list)
    returning: bool = False
    """Whether it has done no more than make the calls that it waited for: it can wait again as it did."""
    halted: str = ""

    @property
    def model_name(self) -> str:
        """The tier or name for the model call at hand."""
        return self.request.steps.get(self.step, self.request.model)


def out_of_time(limits: Turn) -> DeadlineExceeded:
    """What a turn that took too long fails with."""
    return DeadlineExceeded(
        f"The turn was stopped after {limits.max_seconds:.0f} s.",
        hint="Ask a narrower question, or raise turn.max_seconds.",
    )


class TurnLoop:
    """Runs turns with one model, one fallback model and one set of limits."""

    def __init__(
        self,
        model: ChatModel,
        fallback: ChatModel,
        limits: Turn,
        *,
        halted: Callable[[], str] = lambda: "",
    ) -> None:
        """`halted` says why turns have to stop, or "": the kill switch. A turn that begins in spite of it may go on:
        it can only read, and people have questions then."""
        self._model = model
        self._fallback = fallback
        self._limits = limits
        self._halted = halted

    async def run(
        self, request: TurnRequest, tools: Toolbox, *, seconds: float | None = None, pause: Pause = _no_pause
    ) -> AsyncGenerator[Event, None]:
        """The turn's events, ending with exactly one `Finished`, `Failed` or `ApprovalNeeded`; before the last of these
        the turn is given to `pause`.

        `seconds` is what is left of the turn's time; by default all of it.
        """
        messages = [Message("system", request.system), *request.history, Message("user", request.question)]
        state = _State(request, messages, self._model, halted=self._halted())
        async with aclosing(self._told(state, self._from_start(state, tools), seconds, pause)) as events:
            async for event in events:
                yield event

    async def resume(
        self,
        request: TurnRequest,
        paused: PausedTurn,
        tools: Toolbox,
        *,
        seconds: float | None = None,
        pause: Pause = _no_pause,
    ) -> AsyncGenerator[Event, None]:
        """Goes on with a turn that waited: the calls that it waited for are made again first, exactly as they were, and
        no model is asked before. Events as of `run`; `ApprovalNeeded` again while somebody has not answered.

        Raises `Unavailable` or `DeadlineExceeded` where not all of them could be made: it is to wait as it did, and
        what was done meanwhile gives its first result when it is resumed again.
        """
        state = _State(
            request,
            list(paused.messages),
            self._fallback if paused.offline else self._model,
            tool_bytes=paused.tool_bytes,
            answer_size=paused.answer_size,
            step=paused.step,
            pending=list(paused.pending),
            unsettled=dict(paused.unsettled),
            returning=True,
            halted=self._halted(),
        )
        async with aclosing(self._told(state, self._from_pause(state, tools), seconds, pause)) as events:
            async for event in events:
                yield event

    async def _told(
        self, state: _State, source: AsyncGenerator[Event, None], seconds: float | None, pause: Pause
    ) -> AsyncGenerator[Event, None]:
        try:
            limit = self._limits.max_seconds if seconds is None else seconds
            async with aclosing(bounded(source, limit)) as steps:
                async for event in steps:
                    yield event
            if state.pending:
                await pause(self._paused(state))
        except TimeoutError:
            error = out_of_time(self._limits)
            if state.returning:
                raise error from None
            yield Failed(code=error.code, message=str(error))
        except OpswarmError as error:
            if state.returning:
                raise
            yield Failed(code=error.code, message=str(error))
        else:
            if state.pending:
                yield ApprovalNeeded(approvals=tuple(p.request for p in state.pending))
            else:
                yield Finished(notice=state.notice)

    def _paused(self, state: _State) -> PausedTurn:
        return PausedTurn(
            question=state.request.question,
            messages=tuple(state.messages),
            pending=tuple(state.pending),
            unsettled=state.unsettled,
            step=state.step,
            tool_bytes=state.tool_bytes,
            answer_size=state.answer_size,
            offline=state.model is self._fallback,
        )

    def _check(self, question: str) -> None:
        most = self._limits.context_tokens * CHARACTERS_PER_TOKEN // 2
        if len(question) > most:
            raise LimitExceeded(
                f"The question has {len(question)} characters; this agent reads at most {most}.",
                hint="Send the part that matters, or raise turn.context_tokens.",
            )

    async def _from_start(self, state: _State, tools: Toolbox) -> AsyncGenerator[Event, None]:
        self._check(state.request.question)
        for note in state.request.notes:
            yield TextDelta(text=f"{note}\n\n")
        if state.request.first_calls:
            async for event in self._run_calls(state, tools, state.request.first_calls):
                yield event
        async for event in self._steps(state, tools):
            yield event

    async def _from_pause(self, state: _State, tools: Toolbox) -> AsyncGenerator[Event, None]:
        waited, state.pending = state.pending, []
        lost: OpswarmError | None = None
        for pending in waited:
            call = pending.call
            yield ToolStarted(call_id=call.id, tool=call.name, arguments=_shown(call))
            result, seconds = await self._call(state, tools, call, proposal=pending.request.id)
            if result.later or isinstance(result.error, Unavailable | DeadlineExceeded):
                # Whatever was answered, it is not known here, or can't be done now: the call waits on.
                lost = result.error or Unavailable(_summary(result))
                state.pending.append(pending)
                yield ToolFinished(
                    call_id=call.id, tool=call.name, ok=False, summary=_summary(result), seconds=seconds
                )
                continue
            yield self._took(state, call, result, seconds)
        if lost is not None and state.pending == waited:
            raise lost
        state.returning = bool(state.pending)
        if not state.pending:
            async for event in self._steps(state, tools):
                yield event

    async def _steps(self, state: _State, tools: Toolbox) -> AsyncGenerator[Event, None]:
        if state.pending:
            return
        for step in range(state.step, self._limits.max_steps):
            self._stop_if_halted(state)
            state.step = step + 1
            last = step == self._limits.max_steps - 1
            calls: list[ToolCall] = []
            async for event in self._ask(state, () if last else tools.schemas, calls):
                yield event
            if not calls:
                return
            if last:
                break
            self._stop_if_halted(state)
            async for event in self._run_calls(state, tools, calls):
                yield event
            if state.pending:
                return
        raise LimitExceeded(
            f"The turn was stopped after {self._limits.max_steps} steps without an answer.",
            hint="Ask a narrower question, or raise turn.max_steps.",
        )

    def _stop_if_halted(self, state: _State) -> None:
        why = self._halted()
        if why and why != state.halted:
            raise PermissionDenied(f"The turn was stopped. {why}", rule="control.paused")

    async def _ask(
        self, state: _State, schemas: Sequence[ToolSchema], calls: list[ToolCall]
    ) -> AsyncGenerator[Event, None]:
        """One model call. Text and usage are yielded, tool calls put into `calls`."""
        said = ""
        try:
            async for event in self._stream(state, schemas, calls):
                if isinstance(event, TextDelta):
                    said += event.text
                yield event
        except (ModelFailed, BudgetExceeded) as error:
            if said or state.model is self._fallback or (isinstance(error, BudgetExceeded) and state.asked):
                raise
            log.warning("model failed, falling back to the playbook: %s", error)
            state.model = self._fallback
            state.notice = f"The model could not be used ({error.code}); the offline playbook answered."
            calls.clear()
            yield TextDelta(text=f"The model could not be used: {error} The offline playbook answers instead.\n\n")
            async for event in self._stream(state, schemas, calls):
                yield event

    async def _stream(
        self, state: _State, schemas: Sequence[ToolSchema], calls: list[ToolCall]
    ) -> AsyncGenerator[Event, None]:
        messages = compact(state.messages, self._limits.context_tokens, schemas)
        request = ChatRequest(messages, model=state.model_name, tools=tuple(schemas))
        said: list[str] = []
        async with aclosing(state.model.stream(request)) as pieces:
            async for piece in pieces:
                match piece:
                    case TextPiece(text):
                        state.asked = True
                        room = _MAX_ANSWER_CHARACTERS - state.answer_size
                        state.answer_size += len(text)
                        said.append(text[:room])
                        yield TextDelta(text=text[:room])
                        if len(text) > room:
                            state.notice = "The model's answer had no end and was cut off."
                            yield TextDelta(text=f"\n\n({state.notice})")
                            calls.clear()
                            break
                    case CallPiece(call):
                        state.asked = True
                        calls.append(call)
                    case NoticePiece(code, text):
                        if code == "fallback":
                            state.notice = text
                        yield Notice(code=code, text=text)
                    case UsagePiece(model, input_tokens, output_tokens, cached_tokens):
                        yield Usage(
                            model=model,
                            input_tokens=input_tokens,
                            output_tokens=output_tokens,
                            cached_tokens=cached_tokens,
                        )
                    case StopPiece(reason):
                        if reason == "length" and not calls:
                            yield TextDelta(text="\n\n(The model's answer was cut at its length limit.)")
        if not said and not calls:
            raise ModelReplyInvalid("The model sent an empty reply.", hint="Ask again, or choose another model.")
        state.messages.append(Message("assistant", "".join(said), tuple(calls)))

    async def _run_calls(self, state: _State, tools: Toolbox, calls: Sequence[ToolCall]) -> AsyncGenerator[Event, None]:
        """Runs one step's calls: read-only ones together, others one after another, in the model's order."""
        if state.messages[-1].tool_calls != tuple(calls):
            state.messages.append(Message("assistant", "", tuple(calls)))
        kinds = {s.name: s.read_only for s in tools.schemas}
        index = 0
        while index < len(calls):
            batch = [calls[index]]
            while (
                kinds.get(batch[-1].name, False)
                and index + len(batch) < len(calls)
                and len(batch) < self._limits.max_parallel_tools
                and kinds.get(calls[index + len(batch)].name, False)
            ):
                batch.append(calls[index + len(batch)])
            for call in batch:
                yield ToolStarted(call_id=call.id, tool=call.name, arguments=_shown(call))
            running = [asyncio.create_task(self._call(state, tools, call)) for call in batch]
            try:
                for call, task in zip(batch, running, strict=True):
                    result, seconds = await task
                    yield self._took(state, call, result, seconds)
            finally:
                for task in running:
                    task.cancel()
            index += len(batch)

    def _took(self, state: _State, call: ToolCall, result: ToolResult, seconds: float) -> ToolFinished:
        """Puts a result before the model, or the call among those that wait."""
        if result.approval is not None:
            state.pending.append(Pending(call=call, request=result.approval))
        else:
            state.messages.append(Message("tool", self._fit(state, call, result), tool_call_id=call.id))
        return ToolFinished(call_id=call.id, tool=call.name, ok=result.ok, summary=_summary(result), seconds=seconds)

    async def _call(
        self, state: _State, tools: Toolbox, call: ToolCall, *, proposal: str = ""
    ) -> tuple[ToolResult, float]:
        started = asyncio.get_running_loop().time()
        try:
            result = await self._checked(state, tools, call, proposal)
        except OpswarmError as error:
            result = ToolResult(str(error), ok=False, error=error)
        return result, round(asyncio.get_running_loop().time() - started, 3)

    async def _checked(self, state: _State, tools: Toolbox, call: ToolCall, proposal: str) -> ToolResult:
        names = [s.name for s in tools.schemas]
        if call.name not in names and proposal and tools.missing:
            raise tools.missing[0]  # It is one of a server that is down.
        if call.name not in names:
            raise InvalidInput(f"There is no tool '{call.name[:64]}'.", hint=f"The tools are: {', '.join(names)}.")
        arguments = call.parsed()
        same = f"{call.name} {json.dumps(arguments, sort_keys=True)}"
        state.seen[same] += 1
        # What a person answered is not held up by limits that were reached while it waited.
        if state.seen[same] > _MAX_REPEATS and not proposal:
            raise InvalidInput(
                f"{call.name} was called {_MAX_REPEATS} times with the same arguments already.",
                hint="Use the results above, or ask for something else.",
            )
        if state.tool_bytes >= self._limits.max_turn_tool_bytes and not proposal:
            raise LimitExceeded(
                "This turn has collected all the tool results it may.", hint="Answer from what is there."
            )
        # A model may give the same id to calls of different steps.
        once = f"{state.request.run}/{state.step}/{call.id}" if state.request.run else ""
        # Where nobody knows what became of the same call, its key finds out, and keeps it from being done twice.
        once = state.unsettled.pop(same, once)
        try:
            return await tools.call(call.name, arguments, key=once, proposal=proposal)
        except (Unavailable, DeadlineExceeded):
            state.unsettled[same] = once
            raise

    def _fit(self, state: _State, call: ToolCall, result: ToolResult) -> str:
        text = clean(result.text)
        shown = cap_bytes(text, self._limits.max_tool_result_bytes)
        if len(shown) < len(text):
            shown += f"\n(cut: {len(shown)} of {len(text)} characters shown; narrow the call to see the rest)"
        state.tool_bytes += len(shown)
        return envelope(f"tool {call.name}", shown if result.ok else f"ERROR: {shown}")


def _shown(call: ToolCall) -> dict[str, Any]:
    try:
        return call.parsed()
    except ModelReplyInvalid:
        return {"invalid": cap_bytes(clean(call.arguments), 200)}


def _summary(result: ToolResult) -> str:
    first = next((line.strip() for line in clean(result.text).splitlines() if line.strip()), "")
    return cap_bytes(first, 240)
