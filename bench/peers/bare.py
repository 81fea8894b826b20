"""Bare: Starlette SSE and raw pooled HTTP, no SDK: what the same turn costs when nothing but the wire is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from bench.peers import place, serve
from bench.tools import SCHEMA

AT = place()
HTTP = httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200, max_keepalive_connections=200))
TOOLS = [{"type": "function", "function": {"name": SCHEMA["name"], "parameters": SCHEMA["inputSchema"]}}]


async def model(messages: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    body = {"model": "m", "messages": messages, "tools": TOOLS, "stream": True}
    async with HTTP.stream("POST", f"{AT.model}/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                yield choices[0]["delta"]


async def turn(question: str) -> AsyncIterator[str]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    calls = [c async for d in model(messages) for c in d.get("tool_calls", ())]
    messages.append({"role": "assistant", "content": "", "tool_calls": calls})
    for call in calls:
        params = {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        result = (await HTTP.post(f"{AT.tool}/mcp", json=body)).json()["result"]
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result["content"][0]["text"]})
    async for delta in model(messages):
        if text := delta.get("content"):
            yield text


async def rpc(request: Request) -> StreamingResponse:
    question = (await request.json())["params"]["message"]["parts"][0]["text"]

    async def frames() -> AsyncIterator[str]:
        async for text in turn(question):
            yield f"data: {json.dumps({'result': {'artifactUpdate': {'artifact': {'parts': [{'text': text}]}}}})}\n\n"
        yield 'data: {"result":{"statusUpdate":{"status":{"state":"TASK_STATE_COMPLETED"}}}}\n\n'

    return StreamingResponse(frames(), media_type="text/event-stream")


async def healthy(request: Request) -> JSONResponse:
    return JSONResponse({})


serve(Starlette(routes=[Route("/", rpc, methods=["POST"]), Route("/healthz", healthy)]), AT)
