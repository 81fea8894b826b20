"""The SDK's request handler, with what it leaves open closed: input checked before a task is made, a message sent
twice worked on once, and no exception's text on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext, RequestContextBuilder
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
)
from a2a.utils.errors import A2AError, ContentTypeNotSupportedError, InternalError, InvalidParamsError
from google.protobuf.json_format import MessageToJson

from opswarm.a2a.rpc import BROKE, SAFE
from opswarm.errors import OpswarmError
from opswarm.guard.untrusted import clean
from opswarm.store.tasks import CONTEXT_LENGTH, ID_LENGTH, TERMINAL, Tasks

log = logging.getLogger(__name__)

_CLOSING = "The agent is being stopped. Ask again when it runs."
FRESH = "fresh"
"""In the state of a call: its conversation has just begun, so there is nothing before it to look for."""

AGENT_STATE = "agent"
PARKED_SECONDS = 1800.0


def text_of(message: Message) -> str:
    """What a message says: its text parts, and its data parts as JSON."""
    said: list[str] = []
    for part in message.parts:
        if part.HasField("text"):
            said.append(part.text)
        elif part.HasField("data"):
            said.append(MessageToJson(part.data))
    return clean("\n".join(said)).strip()


class _Contexts(RequestContextBuilder):
    """A follow-up that names only its task joins that task's conversation."""

    def __init__(self, store: Tasks) -> None:
        self._store = store

    async def build(
        self,
        context: ServerCallContext,
        params: SendMessageRequest | None = None,
        task_id: str | None = None,
        context_id: str | None = None,
        task: Task | None = None,
    ) -> RequestContext:
        if task_id and not context_id:
            known = await self._store.get(task_id, context)
            context_id = known.context_id if known else None
        if params is not None and (agent := context.state.get(AGENT_STATE)):
            params.metadata.update({"opswarm/path_agent": agent})
        if not context_id:
            context.state[FRESH] = True
        built = RequestContext(call_context=context, request=params, task_id=task_id, context_id=context_id, task=task)
        if not task_id and built.task_id:
            self._store.expect(built.task_id)
        return built


class Handler(DefaultRequestHandlerV2):
    """Answers A2A requests for one agent."""

    def __init__(self, executor: AgentExecutor, store: Tasks, card: AgentCard) -> None:
        super().__init__(
            executor,
            store,
            card,
            request_context_builder=_Contexts(store),
            interrupted_task_timeout=PARKED_SECONDS,
        )
        self._store = store
        self._sealed = _Sealed()
        self._beginning: dict[tuple[str, str], asyncio.Lock] = {}

    async def aclose(self) -> None:
        """Ends the work in flight; what is asked from now on is refused."""
        self._sealed.closing = True
        await super().aclose()

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        _check(params.message)
        with self._sealed:
            async with self._one_at_a_time(params.message, context):
                if (known := await self._repeated(params.message, context)) is not None:
                    return known
                answer: Message | Task = await super().on_message_send(params, context)
                return answer

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        _check(params.message)
        with self._sealed:
            async with AsyncExitStack() as stack:
                beginning = await stack.enter_async_context(AsyncExitStack())
                await beginning.enter_async_context(self._one_at_a_time(params.message, context))
                known = await self._repeated(params.message, context)
                if known is None:
                    source = super().on_message_send_stream(params, context)
                elif known.status.state in TERMINAL:
                    yield known
                    return
                else:
                    source = super().on_subscribe_to_task(SubscribeToTaskRequest(id=known.id), context)
                events = await stack.enter_async_context(aclosing(source))
                async for event in events:
                    # The first event is the task, stored by now: who sends the message again will find it.
                    await beginning.aclose()
                    yield event

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        with self._sealed:
            found: Task | None = await super().on_get_task(params, context)
            return found

    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        with self._sealed:
            page: ListTasksResponse = await super().on_list_tasks(params, context)
            return page

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        with self._sealed:
            task: Task | None = await super().on_cancel_task(params, context)
            return task

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        with self._sealed:
            async with aclosing(super().on_subscribe_to_task(params, context)) as events:
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _one_at_a_time(self, message: Message, context: ServerCallContext) -> AsyncIterator[None]:
        """Keeps the same message, sent twice at the same time, from beginning two tasks."""
        key = context.user.user_name, message.message_id
        lock = self._beginning.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._beginning.get(key) is lock:
                del self._beginning[key]

    async def _repeated(self, message: Message, context: ServerCallContext) -> Task | None:
        if message.task_id:
            return None
        return await self._store.by_message(message.message_id, context.user.user_name)


class _Sealed:
    """Lets A2A errors through and turns everything else into one that tells nothing but that it broke."""

    closing = False

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OpswarmError):
            raise InternalError(str(error), data={SAFE: error.code}) from None
        if isinstance(error, Exception) and not isinstance(error, A2AError):
            if self.closing:
                raise InternalError(_CLOSING, data={SAFE: "unavailable"}) from None
            log.error("an A2A request broke", exc_info=error)
            raise InternalError(BROKE) from None


def _check(message: Message) -> None:
    """Raises `InvalidParamsError`, or `ContentTypeNotSupportedError`, for a message that no turn could be made of."""
    if not message.message_id or len(message.message_id) > CONTEXT_LENGTH:
        raise InvalidParamsError(f"messageId must have 1 to {CONTEXT_LENGTH} characters.")
    if len(message.context_id) > CONTEXT_LENGTH:
        raise InvalidParamsError(f"contextId must have at most {CONTEXT_LENGTH} characters.")
    if len(message.task_id) > ID_LENGTH:
        raise InvalidParamsError(f"taskId must have at most {ID_LENGTH} characters.")
    if message.role == Role.ROLE_AGENT:
        raise InvalidParamsError("A message to an agent must have the role of a user.")
    if not message.parts:
        raise InvalidParamsError("The message has no parts.")
    if any(p.HasField("url") or p.HasField("raw") for p in message.parts):
        raise ContentTypeNotSupportedError("Files are not supported; send text.")
    if not text_of(message):
        raise InvalidParamsError("The message has no text.")
