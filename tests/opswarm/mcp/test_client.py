"""The pooled client and the tool-server factory, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from opswarm.errors import NotFound, OpswarmError, ToolServerDown, Unauthenticated
from opswarm.guard import principal as principals
from opswarm.guard.exchange import Exchange
from opswarm.guard.keys import signing_key, verifier
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import AUDIENCE_EXCHANGE
from opswarm.mcp.client import PooledToolbox, ToolServerClient, bearer
from opswarm.mcp.factory import ToolServer
from opswarm.mcp.serving import ToolProvider, http_service
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import Settings
from tests.support.hosting import free_port, serving, settings_at

PERSON = Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset({Role.VIEWER}))


async def who() -> ToolOutput:
    """Say who calls."""
    caller = principals.current()
    return ToolOutput(str(caller), {"task": caller.task if caller else ""})


async def greet(name: Annotated[str, Field(description="Whom.")] = "you", times: int = 1) -> ToolOutput:
    """Greet somebody."""
    if name == "nobody":
        raise NotFound("Nobody is not here.", hint="Greet somebody else.")
    if name == "defect":
        raise RuntimeError("secret detail")
    if name == "slow":
        await asyncio.sleep(30)
    return ToolOutput(f"hello {name} " * times)


@asynccontextmanager
async def opener(settings: Settings) -> AsyncIterator[ToolProvider]:
    specs: Sequence[ToolSpec] = (ToolSpec(who), ToolSpec(greet, timeout=0.5), ToolSpec(leak))
    yield ToolProvider("hello", specs, "Says hello.")


async def leak() -> ToolOutput:
    """Return a key."""
    key = "sk-ant-" + "z" * 30
    return ToolOutput(f"the key is {key}", {"lines": [{"said": key}]})


@asynccontextmanager
async def hello(home: Path, port: int = 0) -> AsyncIterator[str]:
    settings = settings_at(home)
    async with http_service(opener, settings) as service, serving(service.app(), port) as url:
        yield url


def turn_token(home: Path, agent: str = "devops") -> None:
    settings = settings_at(home)
    token = Exchange(signing_key(settings), verifier(settings), tuple).for_work(PERSON, agent, "task-9")
    bearer.set(lambda: token)


async def test_a_tool_knows_the_user_and_the_agent_of_each_call(tmp_path: Path) -> None:
    async with hello(tmp_path) as url:
        client = ToolServerClient("hello", url)

        async def ask(agent: str) -> str:
            turn_token(tmp_path, agent)
            return (await client.call("who", {}, read_only=True)).text

        answers = await asyncio.gather(*(asyncio.create_task(ask(a)) for a in ("devops", "pr", "alert")))
        await client.aclose()
    assert answers == ["agent:devops for person:ann", "agent:pr for person:ann", "agent:alert for person:ann"]


async def test_a_call_without_a_fitting_token_is_refused(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    agent = Principal(kind=Kind.AGENT, subject="agent:devops")
    service_token = signing_key(settings).mint(agent, [AUDIENCE_EXCHANGE], seconds=60)
    async with hello(tmp_path) as url:
        for token in ("", "nonsense", service_token):
            bearer.set(lambda token=token: token)  # type: ignore[misc]
            client = ToolServerClient("hello", url)
            with pytest.raises(Unauthenticated):
                await client.schemas()
            await client.aclose()


async def test_a_foreign_host_or_origin_is_refused(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    token = Exchange(signing_key(settings), verifier(settings), tuple).for_work(PERSON, "devops", "t")
    async with hello(tmp_path) as url, httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        hello_there = {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"},
        }  # fmt: skip
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello_there}
        evil = await http.post(f"{url}/mcp", json=body, headers={"Host": "evil.example"})
        cross = await http.post(f"{url}/mcp", json=body, headers={"Origin": "https://evil.example"})
        near = await http.post(f"{url}/mcp", json=body, headers={"Origin": "http://localhost.evil.example:80"})
        own = await http.post(
            f"{url}/mcp",
            json=body,
            headers={"Origin": "http://localhost:5173", "Accept": "application/json, text/event-stream"},
        )
    assert (evil.status_code, cross.status_code, near.status_code) == (421, 403, 403)
    assert own.status_code == 200


async def test_white_space_around_a_header_is_no_part_of_it(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    token = Exchange(signing_key(settings), verifier(settings), tuple).for_work(PERSON, "devops", "t")
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "who", "arguments": {}, "_meta": meta}
    said = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    async with hello(tmp_path) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        lines = (
            "POST /mcp HTTP/1.1", f"Host: {url.removeprefix('http://')}", f"Authorization: Bearer {token}",
            "Content-Type: application/json", "Accept: application/json, text/event-stream",
            "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: \t who \t ",
            f"Content-Length: {len(said)}", "Connection: close",
        )  # fmt: skip
        writer.write("\r\n".join([*lines, "", ""]).encode() + said)
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 200") and "person:ann" in answer, answer


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"nmae": "x"}, "no argument 'nmae'. Did you mean 'name'? It takes: name, times."),
        ({"times": "many"}, "'times'"),
        ({"name": "nobody"}, "Nobody is not here. Greet somebody else."),
        ({"name": "defect"}, "greet broke inside"),
        ({"name": "slow"}, "did not finish within"),
    ],
)
async def test_a_failed_call_is_one_sentence(tmp_path: Path, arguments: dict[str, object], told: str) -> None:
    async with hello(tmp_path) as url:
        turn_token(tmp_path)
        client = ToolServerClient("hello", url)
        result = await client.call("greet", arguments, read_only=True)
        await client.aclose()
    assert not result.ok
    assert told in result.text
    assert "secret detail" not in result.text


async def test_results_are_capped_and_keys_masked(tmp_path: Path) -> None:
    async with hello(tmp_path) as url:
        turn_token(tmp_path)
        client = ToolServerClient("hello", url)
        long = await client.call("greet", {"times": 20_000}, read_only=True)
        key = await client.call("leak", {}, read_only=True)
        await client.aclose()
    assert "characters shown" in long.text and len(long.text) < 40_000
    assert "[redacted]" in key.text and "zzzz" not in key.text
    assert key.data == {"lines": [{"said": "[redacted]"}]}


async def test_a_server_that_is_down_is_named_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    client = ToolServerClient("hello", f"http://127.0.0.1:{port}")
    turn_token(tmp_path)
    with pytest.raises(ToolServerDown, match="hello tool server can't be reached"):
        await client.schemas()
    async with hello(tmp_path, port):
        assert (await client.call("greet", {}, read_only=True)).text.strip() == "hello you"
    with pytest.raises(ToolServerDown):
        await client.call("greet", {}, read_only=True)
    async with hello(tmp_path, port):
        assert (await client.call("greet", {}, read_only=True)).ok
    await client.aclose()


async def test_a_server_that_dies_in_the_middle_fails_that_call_only(tmp_path: Path) -> None:
    calls = 0

    async def mcp(request: Request) -> Response:
        nonlocal calls
        calls += 1
        body = await request.json()
        if body["method"] != "tools/call":
            return Response(status_code=404)

        async def broken() -> AsyncIterator[bytes]:
            yield b": one moment\n\n"
            raise ConnectionResetError

        return StreamingResponse(broken(), media_type="text/event-stream")

    async with serving(Starlette(routes=[Route("/mcp", mcp, methods=["POST", "GET", "DELETE"])])) as url:
        client = ToolServerClient("broken", url)
        for _ in range(2):
            with pytest.raises(OpswarmError):
                async with asyncio.timeout(20):
                    await client.call("anything", {}, read_only=False)
        await client.aclose()
    assert calls


class Shaky:
    """A tool server with one action, that dies at the first `deaths` calls of it, before or after it was done."""

    def __init__(self, deaths: int = 1) -> None:
        self.deaths = deaths
        self.keys: list[str] = []

    async def mcp(self, request: Request) -> Response:
        body = await request.json()
        result: dict[str, object] = {"supportedVersions": ["2026-07-28"]}
        if body["method"] == "tools/call":
            self.keys.append(body["params"]["_meta"].get("opswarm/idempotency-key", ""))
            if len(self.keys) <= self.deaths:

                async def broken() -> AsyncIterator[bytes]:
                    yield b": one moment\n\n"
                    raise ConnectionResetError

                return StreamingResponse(broken(), media_type="text/event-stream")
            result = {"content": [{"type": "text", "text": "done"}]}
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})

    @asynccontextmanager
    async def served(self) -> AsyncIterator[ToolServerClient]:
        async with serving(Starlette(routes=[Route("/mcp", self.mcp, methods=["POST"])])) as url:
            client = ToolServerClient("shaky", url)
            try:
                yield client
            finally:
                await client.aclose()


async def test_an_action_whose_answer_was_lost_is_asked_about_once_more_under_its_key() -> None:
    shaky = Shaky()
    async with shaky.served() as client:
        result = await client.call("switch", {}, read_only=False, key="k1")
    assert result.text == "done" and shaky.keys == ["k1", "k1"]


async def test_an_action_whose_answer_stays_lost_is_not_said_to_have_failed() -> None:
    shaky = Shaky(deaths=9)
    async with shaky.served() as client:
        with pytest.raises(ToolServerDown, match=r"not known whether this was done\..*the same again"):
            await client.call("switch", {}, read_only=False, key="k1")
        assert shaky.keys == ["k1", "k1"]
        with pytest.raises(ToolServerDown, match=r"not known whether this was done\. Look before"):
            await client.call("switch", {}, read_only=False)
    assert shaky.keys == ["k1", "k1", ""]  # Without a key it might be done twice.


async def test_an_action_waits_for_its_server_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opswarm.mcp.client._BACK_EVERY_SECONDS", 0.05)
    port = free_port()
    client = ToolServerClient("hello", f"http://127.0.0.1:{port}")
    turn_token(tmp_path)
    calling = asyncio.create_task(client.call("greet", {}, read_only=False, key="k1"))
    await asyncio.sleep(0.3)
    assert not calling.done()
    async with hello(tmp_path, port):
        assert (await asyncio.wait_for(calling, 10)).text.strip() == "hello you"
    await client.aclose()


async def test_an_action_that_was_never_sent_is_not_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opswarm.mcp.client._BACK_SECONDS", 0.1)
    client = ToolServerClient("hello", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ToolServerDown) as told:
        await client.call("greet", {}, read_only=False, key="k1")
    await client.aclose()
    assert "not known" not in str(told.value)


async def test_the_toolbox_names_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    async with hello(tmp_path) as url:
        turn_token(tmp_path)
        servers = [ToolServerClient("hello", url), ToolServerClient("gone", f"http://127.0.0.1:{free_port()}")]
        box = await PooledToolbox.open(servers)
        for server in servers:
            await server.aclose()
    assert {s.name for s in box.schemas} == {"who", "greet", "leak"}
    assert [e.code for e in box.missing] == ["tool_server_down"]


def test_a_tool_server_over_http_without_a_verifier_is_impossible() -> None:
    with pytest.raises(OpswarmError, match="needs a token verifier"):
        ToolServer("open", (ToolSpec(who),), instructions="").http()


async def test_a_server_that_is_stopped_says_so(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    turn_token(tmp_path)
    held = bearer.get()
    assert held is not None
    async with http_service(opener, settings) as service:
        route = next(r for r in service.routes if isinstance(r, Mount))
        transport = httpx.ASGITransport(app=route.app)  # Its lifespan does not run.
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.post("/mcp", json={}, headers={"Authorization": f"Bearer {held()}"})
    assert answer.status_code == 503 and "being stopped" in answer.json()["error"]["message"]
