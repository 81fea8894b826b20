"""The OpenAI door: an agent as a model of `/v1/chat/completions`, so that any chat client can talk to it.

A turn that comes in here is a task like any other. What happens on the way is `reasoning_content`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from opswarm.a2a import wire
from opswarm.a2a.asking import Asked
from opswarm.a2a.engine import Call, Engine
from opswarm.a2a.messages import question
from opswarm.agent.events import ApprovalNeeded, Failed, Finished, TextDelta, Usage, line
from opswarm.errors import InvalidInput, NotFound, OpswarmError, by_code
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.models.chat import ChatRequest, Piece, ReasoningPiece, StopPiece, TextPiece, UsagePiece
from opswarm.models.completions import Writer, after, whole
from opswarm.models.request import read_request
from opswarm.pacing import KEEP_ALIVE_SECONDS, paced
from opswarm.service import error_response, read_body, unless_gone

CHAT_HEADER = "x-openwebui-chat-id"
TASK_HEADER = "x-openwebui-task"

_CHATS = uuid.UUID("6f0c2a52-5a0b-5d0e-9a55-1f6f0f6f7a11")
_HISTORY_BYTES = 8_000
_BACKGROUND = "### Task:"
"""How Open WebUI begins its own requests for titles, tags and follow-ups, where no header says so."""


class ChatDoor:
    """Serves chat completions and the list of models for one agent."""

    def __init__(self, engine: Engine, agents: Callable[[], Collection[str]], max_bytes: int) -> None:
        self._engine = engine
        self._agents = agents
        self._max_bytes = max_bytes

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/chat/completions", self._completions, methods=["POST"]),
        ]

    async def _models(self, request: Request) -> Response:
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "opswarm"} for name in self._agents()]
        return JSONResponse({"object": "list", "data": entries})

    async def _completions(self, request: Request) -> Response:
        asked = read_request(await read_body(request, self._max_bytes))
        own, *others = self._agents()
        named = own if asked.request.model == "standard" else asked.request.model
        if named not in (own, *others):
            known = ", ".join((own, *others))
            raise NotFound(f"There is no agent '{cap_bytes(clean(named), 60)}'.", hint=f"The agents are: {known}.")
        writer = Writer(named)
        source = _background(asked.request, request.headers.get(TASK_HEADER, ""))
        if source is None:
            agent, owner = named if named != own else "", request.user.display_name
            source = self._pieces(_call(asked.request, owner, agent, _chat(request, named)))
        if not asked.stream:
            return JSONResponse(await unless_gone(request, whole(writer, source)))
        pieces = paced(source, KEEP_ALIVE_SECONDS)
        try:
            first = await unless_gone(request, anext(pieces))
        except OpswarmError as error:
            await pieces.aclose()
            return error_response(error)
        body = writer.stream(after(first, pieces), usage=asked.usage)
        return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _pieces(self, call: Call) -> AsyncGenerator[Piece, None]:
        read = written = cached = 0
        asked = await Asked.begin(self._engine, call)
        try:
            async with aclosing(asked.events()) as events:
                async for event in events:
                    match event:
                        case TextDelta(text=text):
                            yield TextPiece(text)
                        case ApprovalNeeded():
                            yield TextPiece(f"\n\n{clean(event.text())}")
                        case Usage():
                            read += event.input_tokens
                            written += event.output_tokens
                            cached += event.cached_tokens
                        case Failed(code=code, message=message):
                            raise by_code(code)(message)
                        case Finished(notice=notice):
                            if notice:
                                yield ReasoningPiece(f"{notice}\n")
                        case _:
                            if shown := clean(line(event)):
                                yield ReasoningPiece(f"{shown}\n")
        finally:
            asked.leave()
            asked.cancel()
        yield UsagePiece("", read, written, cached)
        yield StopPiece("stop")


def _chat(request: Request, agent: str) -> str:
    """The context of a chat that the client keeps under an id of its own; "" for a client that keeps none."""
    chat = request.headers.get(CHAT_HEADER, "")
    return f"chat-{uuid.uuid5(_CHATS, f'{request.user.display_name}|{agent}|{chat}')}" if chat else ""


def _call(asked: ChatRequest, owner: str, agent: str, context_id: str) -> Call:
    """The request as an A2A message. Without a context the conversation is what the client sent, and nothing else."""
    newest = asked.messages[-1]
    if newest.role != "user":
        raise InvalidInput("The last message must be the user's.")
    metadata: dict[str, Any] = {wire.AGENT_KEY: agent} if agent else {}
    if not context_id:
        earlier = [m for m in asked.messages[:-1] if m.role in ("user", "assistant") and m.content]
        kept = [
            {"role": m.role, "content": cap_bytes(m.content, _HISTORY_BYTES)} for m in earlier[-wire.MOST_HISTORY :]
        ]
        metadata[wire.HISTORY_KEY] = kept
    return Call(question(newest.content, context_id), owner, metadata)


def _background(asked: ChatRequest, task: str) -> AsyncGenerator[Piece, None] | None:
    """The answer to a chat program's request for itself (a title, tags, …), made without an agent; None for others."""
    text = asked.messages[-1].content
    if not task and not text.lstrip().startswith(_BACKGROUND):
        return None
    question = next((m.content for m in asked.messages if m.role == "user" and m.content != text), text)
    _, found, rest = question.partition("USER: ")
    words = (rest.splitlines()[0] if found else "").split()
    title = " ".join(words[:6])[:60] or "Cluster chat"
    answer = {"title": title, "tags": ["Kubernetes"], "follow_ups": [], "queries": []}
    wanted = {k: v for k, v in answer.items() if f'"{k}"' in text} or {"title": title}
    return _said(json.dumps(wanted, ensure_ascii=False))


async def _said(text: str) -> AsyncGenerator[Piece, None]:
    yield TextPiece(text)
    yield UsagePiece("")
    yield StopPiece("stop")
