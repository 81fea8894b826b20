"""The SDK floor: a2a-sdk, httpx and one pooled mcp client used as their documentation shows, one event a token."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

os.environ["OTEL_INSTRUMENTATION_A2A_SDK_ENABLED"] = "false"

import httpx
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers import place, serve

AT = place()
HTTP = httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200, max_keepalive_connections=200))


class Floor(AgentExecutor):
    def __init__(self) -> None:
        self.client: Client | None = None
        self.tools: list[dict[str, Any]] = []

    async def open(self, client: Client) -> None:
        self.client = client
        listed = await client.list_tools()
        self.tools = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": t.input_schema},
            }
            for t in listed.tools
        ]

    async def model(self, messages: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        body = {"model": "m", "messages": messages, "tools": self.tools, "stream": True}
        async with HTTP.stream("POST", f"{AT.model}/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                    yield choices[0]["delta"]

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message and context.task_id and context.context_id and self.client
        await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        messages: list[dict[str, Any]] = [{"role": "user", "content": context.get_user_input()}]
        calls = [c async for d in self.model(messages) for c in d.get("tool_calls", ())]
        messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        for call in calls:
            result = await self.client.call_tool(call["function"]["name"], json.loads(call["function"]["arguments"]))
            text = "\n".join(c.text for c in result.content if isinstance(c, TextContent))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        first = True
        async for delta in self.model(messages):
            if text := delta.get("content"):
                await updater.add_artifact([new_text_part(text)], artifact_id="answer", append=not first)
                first = False
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


FLOOR = Floor()
CARD = AgentCard(
    name="floor",
    description="floor",
    version="1",
    supported_interfaces=[AgentInterface(url=AT.url, protocol_binding="JSONRPC", protocol_version="1.0")],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
    skills=[AgentSkill(id="look", name="look", description="looks", tags=["look"])],
)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with Client(streamable_http_client(f"{AT.tool}/mcp")) as client:
        await FLOOR.open(client)
        yield


async def healthy(request: Request) -> JSONResponse:
    return JSONResponse({})


HANDLER = DefaultRequestHandler(FLOOR, InMemoryTaskStore(), CARD)
ROUTES = [
    Route("/healthz", healthy),
    *create_agent_card_routes(CARD),
    *create_jsonrpc_routes(HANDLER, rpc_url="/", enable_v0_3_compat=True),
]
serve(Starlette(routes=ROUTES, lifespan=lifespan), AT)
