"""Calling an agent over A2A."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError, A2AClientTimeoutError, AgentCardResolutionError
from a2a.types import (
    AgentCard,
    AgentInterface,
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
from google.protobuf.json_format import MessageToDict, ParseError

from opswarm.a2a import wire
from opswarm.agent.events import Event, Failed, Finished
from opswarm.errors import AgentDown, DeadlineExceeded, InvalidInput, OpswarmError, Unauthenticated, Unavailable
from opswarm.fetch import Fetcher, FetchFailed
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.service import WORK_HEADER
from opswarm.sse import Events
from opswarm.streams import bounded
from opswarm.telemetry import traceparent

SILENCE_SECONDS = 60.0
"""A stream that says nothing, not even its ping (every 15 s), for this long is dead."""

_CARD_SECONDS = 5.0
_CANCEL_SECONDS = 3.0
_MAX_ANSWER_BYTES = 4_000_000
_BROKEN = (A2AError, httpx.HTTPError, FetchFailed, ParseError, ValueError, RecursionError)
"""What is raised when the other side refuses, is gone, or sends what is no answer."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame of an answer: task and context id where it names them, and its size in bytes."""

    ids: tuple[str, str] | None
    events: list[Event]
    size: int


class RemoteAgent:
    """An agent somewhere else, known by its card. `http` and `fetch` are shared and stay the caller's to close.

    With `fetch`, requests to agents of protocol 1.0 are streamed over it, which costs a fraction of the SDK's way.
    """

    def __init__(self, name: str, card: AgentCard, http: httpx.AsyncClient, fetch: Fetcher | None = None) -> None:
        self.name = name
        self.card = card
        self._fetch = fetch
        self._endpoint = next((i.url for i in card.supported_interfaces if _is_modern(i)), "")
        self._client: Client = ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(card)

    @classmethod
    async def connect(
        cls, name: str, url: str, http: httpx.AsyncClient, fetch: Fetcher | None = None, *, token: str = ""
    ) -> RemoteAgent:
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
            return cls(name, card, http, fetch)
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
        task_id: str = "",
        message_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        deadline: float,
        started: Any = None,
    ) -> AsyncGenerator[Event, None]:
        """The agent's events for one request, ending with `Finished` or `Failed`.

        `deadline` is in seconds; when it passes, or when the caller stops reading, the agent's task is cancelled; but
        one that waited and is answered with this (`task_id`) goes on by itself. A `message_id` of one's own makes the
        request one that can be sent again.
        `work_token` goes along for an agent of ours to work with.
        `started` is called with (task id, context id) as soon as they are known. Raises `AgentDown`,
        `DeadlineExceeded`, `Unauthenticated`, `Unavailable`, or `InvalidInput` when the agent refuses the request.
        """
        message = Message(
            message_id=message_id or uuid.uuid4().hex,
            role=Role.ROLE_USER,
            parts=[Part(text=text)],
            context_id=context_id,
            task_id=task_id,
        )
        resumes = bool(task_id)
        if metadata:
            message.metadata.update(dict(metadata))
        known = False
        ended = False
        size = 0
        try:
            context = _context(token, work_token)
            asked = self._streamed if self._fetch is not None and self._endpoint else self._through_sdk
            async with aclosing(bounded(asked(message, context), deadline)) as frames:
                async for frame in frames:
                    if frame.ids and (begun := not known):
                        task_id, known = frame.ids[0], begun
                        if started is not None:
                            started(*frame.ids)
                    size += frame.size
                    if size > _MAX_ANSWER_BYTES:
                        raise InvalidInput(f"The {self.name} agent's answer has no end and was cut off.")
                    for event in frame.events:
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
            if not ended and not resumes:
                await self._abandon(task_id, message, token)

    async def _through_sdk(self, message: Message, context: ClientCallContext) -> AsyncGenerator[_Frame, None]:
        reader = wire.Reader(resumed=bool(message.task_id))
        # The SDK's annotation says iterator; it is a generator, and closing it closes the stream.
        source: Any = self._client.send_message(SendMessageRequest(message=message), context=context)
        async with aclosing(source) as frames:
            async for frame in frames:
                yield _Frame(_ids(frame), reader.read(frame), frame.ByteSize())

    async def _streamed(self, message: Message, context: ClientCallContext) -> AsyncGenerator[_Frame, None]:
        assert self._fetch is not None
        reader, events = wire.Reader(resumed=bool(message.task_id)), Events(_MAX_ANSWER_BYTES)
        params = {"message": MessageToDict(message)}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}).encode()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "A2A-Version": "1.0"}
        headers |= context.service_parameters or {}
        async with self._fetch.post(self._endpoint, body, headers, silence=SILENCE_SECONDS) as answer:
            if answer.status != 200:
                raise self._status(answer.status)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                self._result(await answer.read(_MAX_ANSWER_BYTES))
                raise ValueError("not a stream")
            async for chunk in answer.chunks():
                for data in events.add(chunk):
                    result = self._result(data)
                    yield _Frame(_ids_in(result), reader.read_json(result), len(data))

    def _result(self, data: bytes) -> dict[str, Any]:
        """The result in a JSON-RPC reply. Raises `InvalidInput` for an error, `ValueError` for what is no reply."""
        reply = json.loads(data)
        error = reply.get("error") if isinstance(reply, dict) else None
        if isinstance(error, dict):
            raise InvalidInput(_told(self.name, str(error.get("message", ""))))
        if not isinstance(reply, dict) or not isinstance(result := reply.get("result"), dict):
            raise ValueError("no JSON-RPC reply")
        return result

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
            return self._status(cause.response.status_code)
        if isinstance(cause, TimeoutError | httpx.HTTPError | FetchFailed) or isinstance(error, A2AClientTimeoutError):
            return self._down()
        if isinstance(error, A2AError):
            return InvalidInput(_told(self.name, str(error)))
        return Unavailable(f"The {self.name} agent sent what is not an answer.", hint="Its log says why.")

    def _status(self, status: int) -> OpswarmError:
        if status in (401, 403):
            return Unauthenticated(f"The {self.name} agent does not accept this caller's token.")
        return Unavailable(f"The {self.name} agent answered HTTP {status}.", hint="Its log says why.")

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


def _ids_in(result: dict[str, Any]) -> tuple[str, str] | None:
    match result:
        case {"task": {"id": str(task), "contextId": str(context)}}:
            return task, context
        case {"statusUpdate": {"taskId": str(task), "contextId": str(context)}}:
            return task, context
        case {"artifactUpdate": {"taskId": str(task), "contextId": str(context)}}:
            return task, context
    return None


def _is_modern(interface: AgentInterface) -> bool:
    return interface.protocol_binding == "JSONRPC" and interface.protocol_version.startswith("1.")


def _told(name: str, error: str) -> str:
    """What a foreign agent said, made safe to show."""
    return f"The {name} agent refused: {cap_bytes(clean(error), 400)}"
