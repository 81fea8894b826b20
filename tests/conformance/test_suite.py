"""The public conformance suite, where `make conformance` has installed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import run

ROOT = Path(__file__).parents[2] / ".venv-conformance"
NODE = ROOT / "node" / "bin" / "node"
SUITE = ROOT / "suite" / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.skipif(not SUITE.exists(), reason="the MCP conformance suite is not installed: `make conformance` does it")
async def test_the_public_suite_passes() -> None:
    assert await run.main(str(NODE), str(SUITE)) == 0


def test_the_score_counts_what_is_required_only() -> None:
    out = (
        "✓ ping: 2 passed, 0 failed\n✗ tools-list: 1 passed, 1 failed\n✗ server-sse-polling: 0 passed, 1 failed\n"
        "Not scored for 2025-11-25: 1 scenario(s) run, 1 failing.\n  ✗ server-sse-polling (pending)\n"
    )
    assert run._score(out) == "1 of 2"
    assert run._score("nothing") == "0 of 0"
