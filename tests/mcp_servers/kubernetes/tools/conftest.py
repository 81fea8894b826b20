"""One lab with a few incidents, shared by all tests that only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lab.access import RbacUser, Rule
from tests.mcp_servers.kubernetes.tools.bench import Bench, benched, tools_at
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn
from tests.support.hosting import serving

READER = RbacUser(
    "system:serviceaccount:opswarm:reader",
    (
        Rule(("get", "list"), ("pods", "pods/log", "services"), namespaces=("media",)),
        Rule(("get", "list"), ("deployments",), ("apps",), ("media",)),
    ),
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("bench")
    scenarios = ("oom", "init-failing", "image-typo", "app-crash")
    async with benched(folder, scenarios, {"reader": READER, "nobody": RbacUser("nobody")}) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    async with (
        serving(stand_in.app) as url,
        tools_at(url, tmp_path_factory.mktemp("stand-in")) as stand_in.tools,
    ):
        yield stand_in


@pytest.fixture
def stand_in(_served: StandIn) -> StandIn:
    """A stand-in API server with nothing in it yet, and the tools that read it."""
    _served.objects, _served.log, _served.table = {}, "", None
    return _served
