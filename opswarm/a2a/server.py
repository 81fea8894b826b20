"""Serving an agent over A2A: protocol 1.0 and 0.3 on one endpoint, and as a model of OpenAI clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from a2a.types import AgentCard, Task
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from opswarm.a2a import direct, rpc
from opswarm.a2a.engine import Engine, forgotten
from opswarm.a2a.handler import AGENT_STATE, Handler
from opswarm.a2a.openai import ChatDoor
from opswarm.a2a.responder import Responder, TurnInput
from opswarm.a2a.sdk import (
    DefaultServerCallContextBuilder,
    JsonRpcDispatcher,
    ServerCallContext,
    create_agent_card_routes,
)
from opswarm.errors import LimitExceeded
from opswarm.service import WORK_HEADER, read_body
from opswarm.store.tasks import Tasks

log = logging.getLogger(__name__)

__all__ = ["A2AServer", "Responder", "TurnInput"]

_DRAIN_SECONDS = 1.0


class A2AServer:
    """One agent's A2A side: its routes, and what must run while they are served."""

    def __init__(
        self,
        name: str,
        card: AgentCard,
        responder: Responder,
        store: Tasks,
        *,
        max_bytes: int,
        ended: Callable[[Task], Awaitable[None]] = forgotten,
    ) -> None:
        """`ended` as of `Engine`."""
        self._store = store
        self._max_bytes = max_bytes
        self._card = card
        self.engine = self._engine = Engine(name, responder, store, ended)
        self._dispatcher = JsonRpcDispatcher(
            Handler(self._engine), enable_v0_3_compat=True, context_builder=_CallContexts(), shutdown_grace_period=0
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
        return ChatDoor(self._engine, agents, self._max_bytes).routes()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await self._store.open()
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._engine.aclose()
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
        version = request.headers.get("a2a-version", "")
        agent = request.path_params.get("agent")
        if (found := direct.read(body, version, request.user.display_name, agent)) is not None:
            call, history_length = found
            return await direct.answer(self._engine, call, body["id"], history_length)
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
            context.state[AGENT_STATE] = agent
        for secret in ("authorization", WORK_HEADER):
            context.state["headers"].pop(secret, None)
        return context
