"""A desktop app's one connection: agents as tools and resources, and the tool servers' tools for who asks for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.subscriptions import ResourceUpdated
from pydantic import Field
from starlette.routing import Mount

from opswarm.guard import principal as principals
from opswarm.guard.keys import mint_front, mint_person, verifier
from opswarm.guard.principal import Role
from opswarm.mcp import progress
from opswarm.mcp.factory import ToolServer
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.service import Service
from services.orchestrator import tools
from tests.services.orchestrator.front import Front, front
from tests.support.hosting import free_port, serving, until

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@asynccontextmanager
async def desktop(
    swarm: Front, mode: str = "auto", query: str = "", token: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token or swarm.token}", **(headers or {})}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(f"{swarm.url}/mcp{query}", http_client=http)
        async with Client(transport, mode=mode) as client:  # type: ignore[arg-type]
            yield client


def text(result: Any) -> str:
    return "\n".join(c.text for c in result.content)


@ERAS
async def test_agents_are_listed_asked_and_asked_again(tmp_path: Path, mode: str) -> None:
    async with front(tmp_path, "devops", "cook") as swarm, desktop(swarm, mode) as app:
        assert [t.name for t in (await app.list_tools()).tools] == ["list_agents", "invoke_agent"]
        listed = await app.call_tool("list_agents", {})
        assert "devops (alive)" in text(listed)
        assert [a["name"] for a in listed.structured_content["agents"]] == ["devops", "cook"]
        first = await app.call_tool("invoke_agent", {"agent": "cook", "task": "make soup"})
        assert "cook heard: make soup" in text(first)
        context = first.structured_content["context_id"]
        assert f"context_id: {context}" in text(first) and first.structured_content["state"] == "completed"
        await app.call_tool("invoke_agent", {"agent": "cook", "task": "and salt?", "context_id": context})
        assert [m.content for m in swarm.echoes["cook"].seen[1].history] == ["make soup", "cook heard: make soup"]


@ERAS
async def test_what_happens_is_told_as_progress(tmp_path: Path, mode: str) -> None:
    heard: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with front(tmp_path, "devops") as swarm, desktop(swarm, mode) as app:
        await app.call_tool("invoke_agent", {"task": "look"}, progress_callback=on_progress)
    assert any("→ devops" in m for m in heard) and any("look" in m for m in heard)


async def test_a_long_answer_is_waited_for_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_SIGN_SECONDS", 0.1)
    heard: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with front(tmp_path, "devops", tool_wait_seconds=0.5) as swarm, desktop(swarm) as app:
        slow = await app.call_tool("invoke_agent", {"task": "please wait"}, progress_callback=on_progress)
        assert "Still being worked on" in text(slow) and "devops heard:" in text(slow)
        assert slow.structured_content["state"] == "working" and "still working" in heard
        task = slow.structured_content["task_id"]
        asyncio.get_running_loop().call_later(0.2, swarm.echoes["devops"].release.set)
        again = await app.call_tool("invoke_agent", {"task_id": task})
        ended = await app.call_tool("invoke_agent", {"task_id": task})
        for whole in (again, ended):
            assert whole.structured_content["state"] == "completed"
            assert "devops heard: please wait" in text(whole), "all that was said, however late one asks"
        assert not swarm.echoes["devops"].cancelled.is_set()


@ERAS
async def test_a_call_that_is_cancelled_stops_the_work(tmp_path: Path, mode: str) -> None:
    async with front(tmp_path, "devops") as swarm, desktop(swarm, mode) as app:
        asking = asyncio.create_task(app.call_tool("invoke_agent", {"task": "please wait"}))
        await until(lambda: bool(swarm.echoes["devops"].seen))
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(swarm.echoes["devops"].cancelled.wait(), 10)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"agent": "nobody", "task": "x"}, "There is no agent 'nobody'"),
        ({"task": "  "}, "Say what is to be done"),
        ({"task_id": "t", "task": "x"}, "goes alone"),
        ({"task_id": "nothing"}, "not found"),
        ({"tsk": "x"}, "Did you mean 'task'"),
        ({"task": "break it"}, "broke on this request"),
    ],
)
async def test_what_goes_wrong_is_told(tmp_path: Path, arguments: dict[str, Any], told: str) -> None:
    async with front(tmp_path, "devops") as swarm, desktop(swarm) as app:
        result = await app.call_tool("invoke_agent", arguments)
        assert result.is_error and told in text(result), text(result)
        assert "SELECT" not in text(result)


async def test_nobody_follows_someone_elses_task(tmp_path: Path) -> None:
    async with front(tmp_path, "devops", tool_wait_seconds=0.3) as swarm:
        bob = mint_person(swarm.settings, subject="bob", roles=(Role.VIEWER,))
        async with desktop(swarm) as app, desktop(swarm, token=bob) as other:
            slow = await app.call_tool("invoke_agent", {"task": "please wait"})
            stolen = await other.call_tool("invoke_agent", {"task_id": slow.structured_content["task_id"]})
            assert stolen.is_error and "not found" in text(stolen)


@ERAS
async def test_a_front_asks_for_its_user(tmp_path: Path, mode: str) -> None:
    async with front(tmp_path, "devops", tool_wait_seconds=0.3) as swarm:
        chat = mint_front(swarm.settings, "chat", roles=(Role.VIEWER,))
        ann = {"X-Opswarm-User": "ann"}
        async with desktop(swarm, mode, token=chat, headers=ann) as app:
            slow = await app.call_tool("invoke_agent", {"task": "please wait"})
            assert swarm.echoes["devops"].seen[0].principal.subject == "chat:ann"
        async with desktop(swarm, mode, token=chat, headers={"X-Opswarm-User": "bob"}) as other:
            stolen = await other.call_tool("invoke_agent", {"task_id": slow.structured_content["task_id"]})
            assert stolen.is_error and "not found" in text(stolen)


async def test_an_agent_is_a_resource_that_tells_when_it_changes(tmp_path: Path) -> None:
    async with front(tmp_path, "devops") as swarm, desktop(swarm) as app:
        listed = (await app.list_resources()).resources
        assert [str(r.uri) for r in listed] == ["agent://devops"]
        read = await app.read_resource("agent://devops")
        assert json.loads(read.contents[0].text)["state"] == "alive"  # type: ignore[union-attr]
        async with asyncio.timeout(20), app.listen(resource_subscriptions=["agent://devops"]) as news:
            await swarm.stop("devops")
            event = await anext(aiter(news))
            assert isinstance(event, ResourceUpdated) and str(event.uri) == "agent://devops"
        read = await app.read_resource("agent://devops")
        assert json.loads(read.contents[0].text)["state"] == "dead"  # type: ignore[union-attr]


async def test_without_a_token_there_is_nothing(tmp_path: Path) -> None:
    async with front(tmp_path, "devops") as swarm:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            async with httpx.AsyncClient(headers=headers) as http:
                assert (await http.post(f"{swarm.url}/mcp", json={})).status_code == 401


async def who(
    name: Annotated[str, Field(description="A name.")] = "",
    seconds: Annotated[float, Field(description="After how long.")] = 0.0,
) -> ToolOutput:
    """Says who is asking."""
    await asyncio.sleep(seconds)
    principal = principals.current()
    return ToolOutput(f"{name}: {principal}", {"direct": principal is not None and principal.is_direct_person})


@asynccontextmanager
async def passing(home: Path) -> AsyncIterator[Front]:
    port = free_port()
    async with AsyncExitStack() as stack:
        given = {"kubernetes": f"http://127.0.0.1:{port}"}
        swarm = await stack.enter_async_context(front(home, "devops", addresses=given))
        server = ToolServer("kubernetes", (ToolSpec(who),), instructions="", verifier=verifier(swarm.settings))
        service = Service("kubernetes", [Mount("/", app=server.http())], None, None, lifespan=server.lifespan)
        await stack.enter_async_context(serving(service.app(), port))
        yield swarm


@ERAS
async def test_tools_are_passed_through_to_who_asks_for_them(tmp_path: Path, mode: str) -> None:
    async with passing(tmp_path) as swarm:
        async with desktop(swarm, mode) as plain:
            assert "who" not in [t.name for t in (await plain.list_tools()).tools]
            refused = await plain.call_tool("who", {})
            assert refused.is_error
        async with desktop(swarm, mode, "?toolsets=kubernetes") as app:
            found = {t.name: t for t in (await app.list_tools()).tools}
            assert set(found) == {"list_agents", "invoke_agent", "who"}
            assert found["who"].input_schema["properties"]["name"]["description"] == "A name."
            result = await app.call_tool("who", {"name": "x"})
            assert text(result) == "x: agent:orchestrator for person:local"
            assert result.structured_content == {"direct": False}, "nothing that came through a front is a person's own"
            wrong = await app.call_tool("who", {"nme": "x"})
            assert wrong.is_error and "Did you mean 'name'" in text(wrong)


@ERAS
async def test_a_long_call_that_is_passed_through_tells_that_it_is_at_work(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.1)
    heard: list[str | None] = []

    async def listen(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with passing(tmp_path) as swarm, desktop(swarm, mode, "?toolsets=kubernetes") as app:
        result = await app.call_tool("who", {"name": "x", "seconds": 1}, progress_callback=listen)
    assert "x: agent:orchestrator" in text(result)
    assert len(heard) >= 3 and str(heard[0]).startswith("who: ")


async def test_a_tool_server_that_is_down_is_told_and_the_agents_are_still_there(tmp_path: Path) -> None:
    gone = {"kubernetes": f"http://127.0.0.1:{free_port()}"}
    async with (
        front(tmp_path, "devops", addresses=gone) as swarm,
        desktop(swarm, query="?toolsets=kubernetes") as app,
    ):
        listed = {t.name: t for t in (await app.list_tools()).tools}
        assert set(listed) == {"list_agents", "invoke_agent", "toolset_status"}
        assert "kubernetes tool server can't be reached" in (listed["toolset_status"].description or "")
        result = await app.call_tool("who", {})
        assert result.is_error and "kubernetes tool server can't be reached" in text(result)
        asked = await app.call_tool("invoke_agent", {"task": "hello"})
        assert "devops heard: hello" in text(asked)
