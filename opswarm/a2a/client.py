"""Calling an agent over A2A."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError, A2AClientTimeoutError, AgentCardResolutionError
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    Task,
)
from a2a.utils.errors import A2AError
from google.protobuf.json_format import ParseError

from opswarm.a2a import wire
from opswarm.agent.events import Event, Failed, Finished
from opswarm.errors import AgentDown, DeadlineExceeded, InvalidInput, OpswarmError, Unauthenticated, Unavailable
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.service import WORK_HEADER
from opswarm.streams import bounded
from opswarm.telemetry import traceparent

SILENCE_SECONDS = 60.0
"""A stream that says nothing, not even its ping (every 15 s), for this long is dead."""

_CARD_SECONDS = 5.0
_CANCEL_SECONDS = 3.0
_MAX_ANSWER_BYTES = 4_000_000
_BROKEN = (A2AError, httpx.HTTPError, ParseError, ValueError)
"""What the SDK's client raises when the other side refuses, is gone, or sends what is no answer."""


class RemoteAgent:
    """An agent somewhere else, known by its card. `http` is shared and stays the caller's to close."""

    def __init__(self, name: str, card: AgentCard, http: httpx.AsyncClient) -> None:
        self.name = name
        self.card = card
        self._client: Client = ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(card)

    @classmethod
    async def connect(cls, name: str, url: str, http: httpx.AsyncClient, *, token: str = "") -> RemoteAgent:
        """Reads the card at `url`, which ours show everyone and others only with a `token`.

        Raises `AgentDown` when there is none.
        """
        try:
            async with asyncio.timeout(_CARD_SECONDS):
                shown = {"headers": {"Authorization": f"Bearer {token}"}} if token else None
                card = await A2ACardResolver(http, url.rstrip("/")).get_agent_card(http_kwargs=shown)
            for interface in card.supported_interfaces:
                if _origin(interface.url) != _origin(url):
                    # A card does not decide to whom our tokens go: the address that was configured does.
                    interface.url = f"{url.rstrip('/')}/"
            return cls(name, card, http)
        except (TimeoutError, AgentCardResolutionError, httpx.InvalidURL, *_BROKEN) as error:
            if getattr(error, "status_code", None) in (401, 403):
                raise AgentDown(
                    f"The {name} agent at {url} does not accept our token.", hint="Set the one that it wants."
                ) from error
            raise AgentDown(f"The {name} agent does not answer at {url}.", hint="Check that it runs.") from error

    async def ask(
        self,
        text: str,
        *,
        token: str,
        work_token: str = "",
        context_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        deadline: float,
        started: Any = None,
    ) -> AsyncGenerator[Event, None]:
        """The agent's events for one request, ending with `Finished` or `Failed`.

        `deadline` is in seconds; when it passes, or when the caller stops reading, the agent's task is cancelled.
        `work_token` goes along for an agent of ours to work with.
        `started` is called with (task id, context id) as soon as they are known. Raises `AgentDown`,
        `DeadlineExceeded`, `Unauthenticated`, `Unavailable`, or `InvalidInput` when the agent refuses the request.
        """
        message = Message(
            message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=text)], context_id=context_id
        )
        if metadata:
            message.metadata.update(dict(metadata))
        task_id = ""
        ended = False
        size = 0
        reader = wire.Reader()
        try:
            call = SendMessageRequest(message=message)
            # The SDK's annotation says iterator; it is a generator, and closing it closes the stream.
            source: Any = self._client.send_message(call, context=_context(token, work_token))
            async with aclosing(bounded(source, deadline)) as frames:
                async for frame in frames:
                    if not task_id and (ids := _ids(frame)):
                        task_id = ids[0]
                        if started is not None:
                            started(*ids)
                    size += frame.ByteSize()
                    if size > _MAX_ANSWER_BYTES:
                        raise InvalidInput(f"The {self.name} agent's answer has no end and was cut off.")
                    for event in reader.read(frame):
                        ended = isinstance(event, Finished | Failed)
                        yield event
                        if ended:
                            return
            raise Unavailable(f"The {self.name} agent's answer broke off before its end.", hint="Ask again.")
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The {self.name} agent did not finish within {deadline:.0f} s; its task was cancelled."
            ) from error
        except _BROKEN as error:
            ended = not task_id  # What was begun is cancelled below, should the agent still be there.
            raise self._translated(error) from error
        finally:
            if not ended:
                await self._abandon(task_id, message, token)

    async def _abandon(self, task_id: str, message: Message, token: str) -> None:
        """Cancels what the message began. Left before the agent named its task, the same message asks which."""
        if task_id:
            await self.cancel(task_id, token)
            return

        async def ask() -> None:
            request = SendMessageRequest(message=message)
            request.configuration.return_immediately = True
            try:
                async with asyncio.timeout(_CANCEL_SECONDS):
                    async for frame in self._client.send_message(request, context=_context(token)):
                        if ids := _ids(frame):
                            await self.cancel(ids[0], token)
                            return
            except (TimeoutError, *_BROKEN):
                return  # It can't be reached: there is nothing to cancel, or no way to.

        await asyncio.shield(asyncio.create_task(ask()))

    async def cancel(self, task_id: str, token: str) -> bool:
        """Asks the agent to stop a task; says whether it did. Never takes longer than 3 s."""

        async def ask() -> bool:
            try:
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await self._client.cancel_task(CancelTaskRequest(id=task_id), context=_context(token))
            except (TimeoutError, *_BROKEN):
                return False
            return True

        return await asyncio.shield(asyncio.create_task(ask()))

    async def tasks(self, token: str, *, limit: int = 20) -> list[Task]:
        """The caller's newest tasks. Raises `AgentDown`."""
        request = ListTasksRequest(page_size=limit, include_artifacts=False)
        try:
            async with asyncio.timeout(_CARD_SECONDS * 2):
                return list((await self._client.list_tasks(request, context=_context(token))).tasks)
        except (TimeoutError, *_BROKEN) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> OpswarmError:
        """The SDK wraps what the network and the server did; what it wraps says which it was."""
        cause = error.__cause__ if isinstance(error, A2AClientError) else error
        if isinstance(cause, httpx.HTTPStatusError):
            status = cause.response.status_code
            if status in (401, 403):
                return Unauthenticated(f"The {self.name} agent does not accept this caller's token.")
            return Unavailable(f"The {self.name} agent answered HTTP {status}.", hint="Its log says why.")
        if isinstance(cause, TimeoutError | httpx.HTTPError) or isinstance(error, A2AClientTimeoutError):
            return self._down()
        if isinstance(error, A2AError):
            return InvalidInput(_told(self.name, error))
        return Unavailable(f"The {self.name} agent sent what is not an answer.", hint="Its log says why.")

    def _down(self) -> OpswarmError:
        return AgentDown(f"The {self.name} agent stopped answering.", hint="Check that it runs; ask again.")


def _context(token: str, work_token: str = "") -> ClientCallContext:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if work_token:
        headers[WORK_HEADER] = work_token
    if parent := traceparent():
        headers["traceparent"] = parent
    return ClientCallContext(timeout=SILENCE_SECONDS, service_parameters=headers)


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port


def _ids(frame: StreamResponse) -> tuple[str, str] | None:
    match frame.WhichOneof("payload"):
        case "task":
            return frame.task.id, frame.task.context_id
        case "status_update":
            return frame.status_update.task_id, frame.status_update.context_id
        case "artifact_update":
            return frame.artifact_update.task_id, frame.artifact_update.context_id
    return None


def _told(name: str, error: Exception) -> str:
    """What a foreign agent said, made safe to show."""
    return f"The {name} agent refused: {cap_bytes(clean(str(error)), 400)}"
