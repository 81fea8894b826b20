"""The SDK's request handler on top of the engine: what is rare, and what speaks protocol 0.3, comes in here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import (
    A2AError,
    InternalError,
    PushNotificationNotSupportedError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size
from google.protobuf.json_format import MessageToDict

from opswarm.a2a.engine import Call, Engine, Taken
from opswarm.a2a.messages import check
from opswarm.a2a.rpc import BROKE, SAFE
from opswarm.a2a.sdk import RequestHandler, ServerCallContext, validate_request_params
from opswarm.errors import OpswarmError

log = logging.getLogger(__name__)

AGENT_STATE = "agent"
PATH_KEY = "opswarm/path_agent"
_NO_PUSH = "Push notifications are not supported by the agent"


@contextmanager
def sealed() -> Iterator[None]:
    """Lets A2A errors through and turns everything else into one that tells nothing but that it broke."""
    try:
        yield
    except A2AError:
        raise
    except OpswarmError as error:
        raise InternalError(str(error), data={SAFE: error.code}) from None
    except Exception as error:
        log.error("an A2A request broke", exc_info=error)
        raise InternalError(BROKE) from None


def call_of(params: SendMessageRequest, context: ServerCallContext) -> Call:
    """The request as the engine takes it; the agent named in the URL is in its metadata."""
    metadata = MessageToDict(params.metadata) if params.metadata.fields else {}
    if agent := context.state.get(AGENT_STATE):
        metadata[PATH_KEY] = agent
    return Call(params.message, context.user.user_name, metadata)


def _validate(params: SendMessageRequest) -> None:
    check(params.message)
    validate_proto_required_fields(params)
    validate_history_length(params.configuration)


class Handler(RequestHandler):
    """Answers A2A requests for one agent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        _validate(params)
        with sealed():
            taken = await self._engine.take(call_of(params, context))
            task = taken.task
            if taken.work is not None:
                if taken.listener is not None:
                    taken.work.leave(taken.listener)
                if not params.configuration.return_immediately:
                    await asyncio.shield(taken.work.settled)
                task = taken.work.snapshot()
            answer: Task = apply_history_length(task, params.configuration)
            return answer

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        _validate(params)
        with sealed():
            taken = await self._engine.take(call_of(params, context))
            async for update in _updates(taken):
                yield apply_history_length(update, params.configuration) if isinstance(update, Task) else update

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        with sealed():
            async for update in _updates(await self._engine.listen(params.id, context.user.user_name)):
                yield update

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        validate_history_length(params)
        with sealed():
            task: Task = apply_history_length(await self._engine.find(params.id, context.user.user_name), params)
            return task

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        with sealed():
            page = await self._engine.page(params, context.user.user_name)
        for task in page.tasks:
            if not params.include_artifacts:
                task.ClearField("artifacts")
            if (shorter := apply_history_length(task, params)) is not task:
                task.CopyFrom(shorter)
        return page

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        with sealed():
            return await self._engine.cancel(params.id, context.user.user_name)

    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        raise UnsupportedOperationError("The agent does not support authenticated extended cards")


async def _updates(taken: Taken) -> AsyncGenerator[Any, None]:
    """The frames as protobuf; a task that is at rest is the only one."""
    if taken.work is None or taken.listener is None:
        yield taken.task
        return
    try:
        while (frames := await taken.listener.next()) is not None:
            for frame in frames:
                yield frame.proto()
    finally:
        taken.work.leave(taken.listener)
