from __future__ import annotations

import json

import pytest

from tests.mcp_servers.kubernetes.tools.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_all_schemas_together_leave_a_small_model_its_room(bench: Bench) -> None:
    tools = await bench.listed()
    sizes = [
        len(json.dumps({"name": t.name, "description": t.description, "inputSchema": t.input_schema})) for t in tools
    ]
    assert sum(sizes) < 10_000


async def test_every_tool_says_what_it_does_and_every_argument_what_it_takes(bench: Bench) -> None:
    for tool in await bench.listed():
        assert tool.description, tool.name
        assert tool.annotations.read_only_hint is True, tool.name
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), f"{tool.name}.{name}"


async def test_an_unknown_argument_is_refused_by_name_with_the_closest_one(bench: Bench) -> None:
    said = await bench.refuse("pods_list", namespaces="media")
    assert "no argument 'namespaces'" in said
    assert "Did you mean 'namespace'?" in said


async def test_every_tool_refuses_an_unknown_argument(bench: Bench) -> None:
    for tool in await bench.listed():
        said = await bench.refuse(tool.name, zzz=1)
        assert "no argument 'zzz'" in said, tool.name


async def test_an_argument_of_the_wrong_type_is_named(bench: Bench) -> None:
    assert "'limit'" in await bench.refuse("pods_list", limit="many")


@pytest.mark.parametrize("limit", [0, -1, 501])
async def test_a_limit_out_of_bounds_is_refused_with_the_bounds(bench: Bench, limit: int) -> None:
    for tool in ("resources_list", "pods_list", "nodes_list", "namespaces_list", "events_list", "pods_top", "find"):
        extra = {"resources_list": {"kind": "pods"}, "find": {"keyword": "x"}}.get(tool, {})
        assert f"limit must be from 1 to 500, not {limit}" in await bench.refuse(tool, limit=limit, **extra)
