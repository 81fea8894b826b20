"""Toolsets are switched off and on while a server runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from opswarm.guard.keys import make_person_token
from opswarm.mcp.client import ToolServerClient, bearer
from opswarm.mcp.factory import ToolServer, local_person
from opswarm.mcp.serving import ToolProvider, http_service
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.mcp.toolsets import SWITCH
from opswarm.settings import Settings
from tests.support.hosting import serving, settings_at
from tests.support.mcp_clients import connected

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


async def look() -> ToolOutput:
    """Look."""
    return ToolOutput("looked")


async def count() -> ToolOutput:
    """Count."""
    return ToolOutput("counted")


async def weigh() -> ToolOutput:
    """Weigh."""
    return ToolOutput("weighed")


SPECS = (ToolSpec(look), ToolSpec(count, toolset="numbers"), ToolSpec(weigh, toolset="scales"))


@asynccontextmanager
async def opener(settings: Settings) -> AsyncIterator[ToolProvider]:
    yield ToolProvider("shop", SPECS, "A shop.")


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def said(client: Client, tool: str, **arguments: Any) -> str:
    result: Any = await client.call_tool(tool, arguments)
    return ("error: " if result.is_error else "") + str(result.content[0].text)


@ERAS
@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, ["look", "count", "weigh"]),
        ("?toolsets=all", {}, ["look", "count", "weigh"]),
        ("?toolsets=core", {}, ["look"]),
        ("?toolsets=core,%20scales", {}, ["look", "weigh"]),
        ("", {"X-Opswarm-Toolsets": "numbers"}, ["count"]),
    ],
)
async def test_a_request_has_the_toolsets_that_it_names(
    tmp_path: Path, mode: str, query: str, headers: dict[str, str], expected: list[str]
) -> None:
    async with connected(opener, tmp_path, mode, query, **headers) as client:
        assert await names(client) == expected
        for tool, told in (("look", "looked"), ("count", "counted"), ("weigh", "weighed")):
            answer = await said(client, tool)
            if tool in expected:
                assert answer == told
            else:
                assert answer.startswith("error: ") and "which is switched off. Name it in the address" in answer


@ERAS
async def test_a_toolset_that_there_is_not_is_an_error_and_no_empty_list(tmp_path: Path, mode: str) -> None:
    async with connected(opener, tmp_path, mode, "?toolsets=core,nubmers") as client:
        with pytest.raises(MCPError, match=r"no toolset 'nubmers'. There are: core, numbers, scales"):
            await client.list_tools()
        with pytest.raises(MCPError, match="nubmers"):
            await client.call_tool("look")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_one_client_switches_while_it_is_connected_and_hears_of_it(mode: Any) -> None:
    server = ToolServer("shop", SPECS, instructions="", stdio_caller=local_person(), switches=True)
    heard: list[str] = []

    async def listen(message: Any) -> None:
        heard.append(type(message).__name__)

    async with Client(server.sdk, mode=mode, message_handler=listen) as client:
        assert await names(client) == ["look", "count", "weigh", SWITCH]
        told = await said(client, SWITCH, toolset="numbers", on=False)
        assert told == "numbers is off: count. On are core, scales."
        assert await names(client) == ["look", "weigh", SWITCH]
        assert "switched off. toolset_switch switches it on." in await said(client, "count")
        assert (await said(client, SWITCH, toolset="nubmers")).startswith("error: There is no toolset 'nubmers'.")
        assert await said(client, SWITCH, toolset="numbers") == "numbers is on: count. On are core, numbers, scales."
        assert await said(client, "count") == "counted"
        if mode == "auto":
            assert heard == []
        else:
            async with asyncio.timeout(10):
                while len(heard) < 2:
                    await asyncio.sleep(0.01)
            assert set(heard) == {"ToolListChangedNotification"}


async def test_an_agent_carries_only_the_toolsets_that_its_settings_name(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    token = make_person_token(settings)
    bearer.set(lambda: token)
    async with http_service(opener, settings) as service, serving(service.app()) as url:
        lean, whole = ToolServerClient("shop", url, ("core", "scales")), ToolServerClient("shop", url)
        assert [schema.name for schema in await lean.schemas()] == ["look", "weigh"]
        assert [schema.name for schema in await whole.schemas()] == ["look", "count", "weigh"]
        assert (await lean.call("weigh", {}, read_only=True)).text == "weighed"
        assert not (await lean.call("count", {}, read_only=True)).ok
        for client in (lean, whole):
            await client.aclose()


def test_a_server_with_one_toolset_has_no_switch() -> None:
    server = ToolServer("shop", SPECS[:1], instructions="", stdio_caller=local_person(), switches=True)
    assert [tool.name for tool in server.sdk._tool_manager.list_tools()] == ["look"]
