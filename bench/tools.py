"""A tool server with one tool, as plain ASGI: it speaks just enough MCP for a client's session, and costs little."""

from __future__ import annotations

import json
from typing import Any

from bench.scripted import TOOL, body_of

RESULT = "Deployment media/sonarr: 0 of 1 ready; container sonarr OOMKilled (limit 256Mi), 7 restarts.\n" * 6
SCHEMA = {
    "name": TOOL,
    "description": "Look at one workload.",
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "annotations": {"readOnlyHint": True},
}
_RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "bench", "version": "1"},
    },
    "tools/list": {"tools": [SCHEMA]},
    "tools/call": {"content": [{"type": "text", "text": RESULT}], "isError": False},
    "ping": {},
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    raw = await body_of(receive)
    if scope["path"] == "/healthz":
        await _answer(send, 200, {"status": "ok"})
    elif scope["method"] != "POST":
        await _answer(send, 405, {})
    else:
        await _rpc(send, json.loads(raw))


async def _rpc(send: Any, request: dict[str, Any]) -> None:
    if "id" not in request:
        await _answer(send, 202, None)
    elif (result := _RESULTS.get(request["method"])) is None:
        error = {"code": -32601, "message": "Method not found"}
        await _answer(send, 200, {"jsonrpc": "2.0", "id": request["id"], "error": error})
    else:
        await _answer(send, 200, {"jsonrpc": "2.0", "id": request["id"], "result": result})


async def _answer(send: Any, status: int, body: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if body is None else json.dumps(body).encode()})
