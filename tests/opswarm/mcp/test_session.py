"""Both eras of MCP: against the SDK's server, and against servers that do what the protocol lets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import DeadlineExceeded, InvalidInput, OpswarmError, ToolServerDown, Unauthenticated
from opswarm.fetch import Fetcher
from opswarm.mcp import client as pooled
from opswarm.mcp.client import ToolServerClient
from opswarm.mcp.session import HANDSHAKE, MODERN, Session, name_headers
from tests.opswarm.mcp.test_client import hello, turn_token
from tests.support.hosting import serving, until

TOOL = {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
SAID = {"content": [{"type": "text", "text": "seen"}], "isError": False}


class Old:
    """A server that keeps sessions, as those up to 2025-11-25 do."""

    def __init__(self, version: str = HANDSHAKE[0], **answers: Any) -> None:
        self.version = version
        self.answers = answers
        self.session = 0
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def methods(self) -> list[str]:
        return [m for m, _, _ in self.requests]

    async def mcp(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw else {}
        method = body.get("method") or ("answer" if body else request.method)
        self.requests.append((method, dict(request.headers), body))
        if request.method != "POST":
            found = self.answers.get(request.method)
            return found(request) if found else Response(status_code=405)
        if "id" not in body or "method" not in body:
            return Response(status_code=202)
        if method == "initialize":
            self.session += 1
            result = {"protocolVersion": self.version, "capabilities": {}, "serverInfo": {"name": "o", "version": "1"}}
            return self.reply(body, result, {"Mcp-Session-Id": f"s{self.session}"})
        if method == "server/discover":
            return Response(status_code=400)
        if request.headers.get("mcp-session-id") != f"s{self.session}":
            return Response(status_code=404)
        found = self.answers.get(method.replace("/", "_"), {"tools": [TOOL]} if method == "tools/list" else SAID)
        found = found(body) if callable(found) else found
        return found if isinstance(found, Response) else self.reply(body, found)

    def reply(self, body: dict[str, Any], result: Any, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result}, headers=headers)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ToolServerClient]:
        routes = [Route("/mcp", self.mcp, methods=["GET", "POST", "DELETE"])]
        async with serving(Starlette(routes=routes)) as url:
            client = ToolServerClient("old", url)
            try:
                yield client
            finally:
                await client.aclose()


def events(*frames: dict[str, Any] | str) -> Response:
    async def body() -> AsyncIterator[str]:
        for frame in frames:
            yield frame if isinstance(frame, str) else f"event: message\r\ndata: {json.dumps(frame)}\r\n\r\n"

    return StreamingResponse(body(), media_type="text/event-stream")


def result_of(body: dict[str, Any], result: dict[str, Any] = SAID) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": body["id"], "result": result}


async def test_our_own_server_is_spoken_to_in_the_newest_version_without_a_handshake(tmp_path: Any) -> None:
    async with hello(tmp_path) as url:
        turn_token(tmp_path)
        client = ToolServerClient("hello", url)
        assert [t.name for t in await client.schemas()] == ["who", "greet", "leak"]
        assert client._session._version == MODERN and not client._session._session_id
        await client.aclose()


@pytest.mark.parametrize("offered", HANDSHAKE)
async def test_the_sdks_server_is_spoken_to_in_every_older_version(tmp_path: Any, offered: str) -> None:
    async with hello(tmp_path) as url, Fetcher() as fetch:
        turn_token(tmp_path)
        session = Session(f"{url}/mcp", fetch, pooled._identity, silence=10)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("opswarm.mcp.session.HANDSHAKE", (offered, *HANDSHAKE))
            await session._shake_hands()
        assert session._version == offered and session._session_id
        listed = await session.request("tools/list", {})
        called = await session.request("tools/call", {"name": "greet", "arguments": {"name": "x"}})
        await session.close()
    assert [t["name"] for t in listed["tools"]] == ["who", "greet", "leak"]
    assert called["content"][0]["text"] == "hello x "


async def test_an_older_server_is_greeted_and_every_request_names_session_and_version() -> None:
    server = Old()
    async with server.client() as client:
        assert [t.read_only for t in await client.schemas()] == [True]
        assert (await client.call("look", {"a": 1}, read_only=True)).text == "seen"
    order = ["server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call", "DELETE"]
    assert server.methods() == order
    for method, headers, body in server.requests[2:]:
        assert headers["mcp-session-id"] == "s1" and headers["mcp-protocol-version"] == HANDSHAKE[0], method
        assert "_meta" not in body.get("params", {})
    assert "mcp-protocol-version" not in server.requests[1][1]


async def test_a_session_that_the_server_forgot_is_begun_again() -> None:
    server = Old()
    async with server.client() as client:
        await client.call("look", {}, read_only=False)
        server.session += 1
        assert (await client.call("look", {}, read_only=False)).ok
    assert server.methods().count("initialize") == 2


async def test_a_version_that_nobody_knows_is_no_connection() -> None:
    async with Old(version="1999-01-01").client() as client:
        with pytest.raises(ToolServerDown):
            await client.schemas()


async def test_a_server_of_another_modern_era_only_is_no_connection() -> None:
    async def mcp(request: Request) -> Response:
        body = await request.json()
        error = {"code": -32022, "message": "no", "data": {"supported": ["2031-01-01"], "requested": MODERN}}
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "error": error}, status_code=400)

    async with serving(Starlette(routes=[Route("/mcp", mcp, methods=["POST"])])) as url:
        client = ToolServerClient("new", url)
        with pytest.raises(ToolServerDown):
            await client.schemas()
        await client.aclose()


async def test_a_reply_is_found_in_a_stream_among_what_else_is_said() -> None:
    def call(body: dict[str, Any]) -> Response:
        note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
        ping = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
        sample = {"jsonrpc": "2.0", "id": "x", "method": "sampling/createMessage", "params": {}}
        return events(": hello\n\n", "id: 1\ndata:\n\n", note, ping, sample, result_of(body), "data: never read\n\n")

    server = Old(tools_call=call)
    async with server.client() as client:
        assert (await client.call("look", {}, read_only=False)).text == "seen"
        await until(lambda: server.methods().count("answer") == 2)
    answers = {b["id"]: b for m, _, b in server.requests if m == "answer"}
    assert answers[7]["result"] == {} and answers["x"]["error"]["code"] == -32601


async def test_a_stream_that_ends_early_is_taken_up_where_it_was() -> None:
    asked: list[dict[str, Any]] = []

    def call(body: dict[str, Any]) -> Response:
        asked.append(body)
        return events("retry: 10\nid: e-5\ndata:\n\n")

    def resume(request: Request) -> Response:
        assert request.headers["last-event-id"] == "e-5"
        return events(result_of(asked[0]))

    server = Old(tools_call=call, GET=resume)
    async with server.client() as client:
        assert (await client.call("look", {}, read_only=False)).text == "seen"
    assert len(asked) == 1


async def test_who_leaves_a_call_says_so_to_an_older_server() -> None:
    begun = asyncio.Event()

    def call(body: dict[str, Any]) -> Response:
        async def forever() -> AsyncIterator[str]:
            begun.set()
            yield ": one moment\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(forever(), media_type="text/event-stream")

    server = Old(tools_call=call)
    async with server.client() as client:
        calling = asyncio.create_task(client.call("look", {}, read_only=False))
        await asyncio.wait_for(begun.wait(), 5)
        calling.cancel()
        await asyncio.wait({calling})
        await until(lambda: "notifications/cancelled" in server.methods())
    number = next(b["id"] for m, _, b in server.requests if m == "tools/call")
    told = next(b for m, _, b in server.requests if m == "notifications/cancelled")
    assert told["params"]["requestId"] == number


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response(b"<html>", media_type="text/html"), ToolServerDown),
        (Response(b"{", media_type="application/json"), ToolServerDown),
        (Response(b"[1]", media_type="application/json"), ToolServerDown),
        (JSONResponse({"jsonrpc": "2.0", "id": 99, "result": {}}), ToolServerDown),
        (Response(status_code=202), ToolServerDown),
        (Response(status_code=500), ToolServerDown),
        (Response(status_code=401), Unauthenticated),
        (Response(status_code=403), Unauthenticated),
        ({"content": 5}, InvalidInput),
        ({"content": [{"text": "no type"}]}, InvalidInput),
        ({"resultType": "input_required", "requestState": "x"}, InvalidInput),
    ],
)
async def test_an_answer_that_is_none_is_an_error_with_the_servers_name(answer: Any, kind: type[OpswarmError]) -> None:
    async with Old(tools_call=lambda body: answer).client() as client:
        with pytest.raises(kind, match=r"old tool server|look asks"):
            await client.call("look", {}, read_only=False)


async def test_tools_are_listed_over_all_pages() -> None:
    def listed(body: dict[str, Any]) -> dict[str, Any]:
        page = int(body["params"].get("cursor", 0))
        tools = [{**TOOL, "name": f"t{page}"}]
        return {"tools": tools, **({"nextCursor": str(page + 1)} if page < 2 else {})}

    async with Old(tools_list=listed).client() as client:
        assert [t.name for t in await client.schemas()] == ["t0", "t1", "t2"]


async def test_a_call_that_takes_too_long_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(body: dict[str, Any]) -> Response:
        async def forever() -> AsyncIterator[str]:
            yield ": one moment\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(forever(), media_type="text/event-stream")

    monkeypatch.setattr(pooled, "_ACTION_SECONDS", 0.3)
    async with Old(tools_call=call).client() as client:
        with pytest.raises(DeadlineExceeded):
            await client.call("look", {}, read_only=False)


def test_a_call_can_be_routed_by_its_headers() -> None:
    schema = {
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
            "evil": {"type": "string", "x-mcp-header": "a\r\nb"},
            "absent": {"type": "string", "x-mcp-header": "Absent"},
        }
    }
    arguments = {"region": "caf\u00e9", "deep": {"on": True}, "evil": "x"}
    assert name_headers("look", schema, arguments) == {
        "Mcp-Name": "look",
        "Mcp-Param-Region": "=?base64?Y2Fmw6k=?=",
        "Mcp-Param-On": "true",
    }

