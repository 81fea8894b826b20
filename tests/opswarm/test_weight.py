"""What a process loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGENT = "import opswarm.cli.main, opswarm.cli.alone, opswarm.agent.service, services.devops_agent.app"
TOOLS = "import opswarm.cli.main, opswarm.cli.alone, opswarm.mcp.serving, mcp_servers.kubernetes.app"


@pytest.mark.parametrize(
    ("imports", "spared"),
    [
        (AGENT, ("sqlalchemy", "mcp", "mcp_types", "httpx2", "litellm", "kubernetes", "aiohttp.web")),
        (TOOLS, ("sqlalchemy", "a2a", "litellm")),
    ],
)
def test_a_process_loads_nothing_large_that_it_does_not_use(imports: str, spared: tuple[str, ...]) -> None:
    code = f"import sys\n{imports}\nprint(*(n for n in {spared!r} if n in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_sqlalchemy_is_there_for_whoever_asks_after_the_sdk_was_loaded() -> None:
    code = "import opswarm.a2a.sdk, sys; assert 'sqlalchemy' not in sys.modules; import sqlalchemy.ext.asyncio"
    subprocess.run([sys.executable, "-c", code], check=True)
