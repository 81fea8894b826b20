"""Serving an agent over A2A: protocol 1.0 and 0.3 on one endpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.routes import create_agent_card_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import AgentCard, TaskState
from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from opswarm import telemetry
from opswarm.a2a import rpc, wire
from opswarm.a2a.coalesce import coalesced
from opswarm.a2a.handler import FRESH, Handler, text_of
from opswarm.a2a.openai import ChatDoor
from opswarm.a2a.wire import HISTORY_KEY
from opswarm.agent.events import Event, Failed, Finished, TextDelta
from opswarm.errors import LimitExceeded, OpswarmError
from opswarm.guard import principal as principals
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.untrusted import clean
from opswarm.models.chat import Message
from opswarm.service import WORK_HEADER, incoming_token, incoming_work, read_body
from opswarm.store.tasks import Tasks

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TurnInput:
    """One request to an agent, with the conversation before it and the proof of who asks."""

    text: str
    task_id: str
    context_id: str
    principal: Principal
    token: str
    history: tuple[Message, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    work_token: str = ""


class Responder(Protocol):
    """What an agent is, to the A2A server."""

    def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        """The turn's events, ending with `Finished` or `Failed`. Cancelled when the task is."""
        ...


class _Executor(AgentExecutor):
    """Renders a responder's events as A2A events."""

    def __init__(self, name: str, responder: Responder, store: Tasks) -> None:
        self._name = name
        self._responder = responder
        self._store = store

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None and context.task_id and context.context_id
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        ids = context.task_id, context.context_id
        await event_queue.enqueue_event(wire.state_update(*ids, TaskState.TASK_STATE_WORKING))
        started = time.monotonic()
        outcome: Finished | Failed
        try:
            outcome = await self._stream(await self._input(context), ids, event_queue)
        except OpswarmError as error:
            outcome = Failed(code=error.code, message=str(error))
        except Exception:  # The process boundary: the log gets the details, the client a sentence.
            log.exception("turn of task %s broke", context.task_id)
            outcome = Failed(code="internal", message=f"The {self._name} agent broke on this request; see its log.")
        if isinstance(outcome, Failed):
            last = wire.state_update(*ids, TaskState.TASK_STATE_FAILED, outcome.message, code=outcome.code)
        else:
            last = wire.state_update(*ids, TaskState.TASK_STATE_COMPLETED, outcome.notice)
        seconds = time.monotonic() - started
        telemetry.TURNS.labels(self._name, outcome.kind).inc()
        telemetry.TURN_SECONDS.labels(self._name).observe(seconds)
        log.info("turn of task %s %s in %.2f s", context.task_id, outcome.kind, seconds)
        await event_queue.enqueue_event(last)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id and context.context_id
        telemetry.TURNS.labels(self._name, "canceled").inc()
        await event_queue.enqueue_event(
            wire.state_update(context.task_id, context.context_id, TaskState.TASK_STATE_CANCELED, "Canceled.")
        )

    async def _stream(self, request: TurnInput, ids: tuple[str, str], event_queue: EventQueue) -> Finished | Failed:
        first = True
        async with aclosing(coalesced(self._responder.respond(request))) as events:
            async for event in events:
                if isinstance(event, Finished | Failed):
                    return event
                if isinstance(event, TextDelta):
                    await event_queue.enqueue_event(wire.text_update(*ids, event.text, first=first))
                    first = False
                else:
                    await event_queue.enqueue_event(wire.event_update(*ids, event))
        return Failed(code="internal", message=f"The {self._name} agent stopped without an end.")

    async def _input(self, context: RequestContext) -> TurnInput:
        assert context.message is not None and context.task_id and context.context_id
        owner = context.call_context.user.user_name
        principal = principals.current() or Principal(kind=Kind.SERVICE, subject=owner)
        metadata = {**context.metadata, **MessageToDict(context.message.metadata)}
        history = _brought(metadata.get(HISTORY_KEY))
        if history is None and context.call_context.state.get(FRESH):
            history = []
        if history is None:
            earlier = await self._store.conversation(context.context_id, owner)
            history = [m for e in earlier for m in (Message("user", e.question), Message("assistant", e.answer))]
        return TurnInput(
            text_of(context.message),
            context.task_id,
            context.context_id,
            principal,
            incoming_token.get(),
            tuple(m for m in history if m.content),
            metadata,
            incoming_work.get(),
        )


def _brought(given: Any) -> list[Message] | None:
    """The conversation that the caller brought along, the newest of it; None when it brought none."""
    if not isinstance(given, list):
        return None
    found = []
    for item in given[-wire.MOST_HISTORY :]:
        role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
        if role in ("user", "assistant") and isinstance(content, str):
            found.append(Message(role, clean(content)))
    return found


class A2AServer:
    """One agent's A2A side: its routes, and what must run while they are served."""

    def __init__(self, name: str, card: AgentCard, responder: Responder, store: Tasks, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._card = card
        self._handler = Handler(_Executor(name, responder, store), store, card)
        self._dispatcher = JsonRpcDispatcher(
            self._handler, enable_v0_3_compat=True, context_builder=_CallContexts(), shutdown_grace_period=0
        )

    def routes(self) -> list[BaseRoute]:
        """The card and the JSON-RPC endpoint, also under the paths that kagent's clients use."""
        cards: list[BaseRoute] = []
        prefixes = ("", "/a2a/{namespace}/{agent}", "/api/a2a/{namespace}/{agent}")
        for prefix in prefixes:
            for path in ("/.well-known/agent-card.json", "/.well-known/agent.json"):
                cards += create_agent_card_routes(self._card, card_url=f"{prefix}{path}")
        endpoints = [Route("/", self._rpc, methods=["POST"])]
        for prefix in prefixes[1:]:
            endpoints.append(Route(prefix, self._rpc, methods=["POST"]))
            endpoints.append(Route(f"{prefix}/", self._rpc, methods=["POST"]))
        return [*cards, *endpoints]

    def chat_routes(self, agents: Callable[[], Collection[str]]) -> list[BaseRoute]:
        """The OpenAI endpoints; `agents` names who may be asked for as a model, the first being this agent."""
        return ChatDoor(self._handler, _CallContexts().build, agents, self._max_bytes).routes()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await self._store.open()
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._handler.aclose()
            except TimeoutError:
                log.warning("some tasks did not stop in time")
            await self._store.close()

    async def _rpc(self, request: Request) -> Response:
        """Checks what the SDK does not: the size, the encoding and the shape of the body."""
        try:
            body = rpc.parse(await read_body(request, self._max_bytes))
        except LimitExceeded as error:
            return rpc.error(-32600, str(error), status=413)
        except rpc.Refused as error:
            return rpc.error(error.code, str(error))
        return rpc.plain(await self._dispatcher.handle_requests(_Parsed(request, body)))


class _Parsed(Request):
    """A request whose body has been read and parsed."""

    def __init__(self, request: Request, body: dict[str, Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._parsed = body

    async def json(self) -> dict[str, Any]:
        return self._parsed


class _CallContexts(DefaultServerCallContextBuilder):
    """Builds the SDK's call context from our request: the user is the subject, the agent in the path is kept."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        if agent := request.path_params.get("agent"):
            context.state["agent"] = agent
        for secret in ("authorization", WORK_HEADER):
            context.state["headers"].pop(secret, None)
        return context
