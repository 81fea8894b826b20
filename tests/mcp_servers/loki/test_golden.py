"""What a model reads of the logs of two namespaces, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.loki.stage import staged
from tests.support.golden import same

GOLDEN = Path(__file__).parent / "golden"

ASKED: dict[str, tuple[str, dict[str, Any], int]] = {
    "workload_logs": ("workload_logs", {"namespace": "media", "workload": "jellyfin", "limit": 5}, 140),
    "errors": ("workload_logs", {"namespace": "media", "level": "warn"}, 300),
    "error_patterns": ("error_patterns", {"namespace": "media"}, 170),
    "volume": ("logs_volume", {"match": '{namespace="media"}', "by": "app"}, 60),
    "metric": ("logs_query", {"query": 'sum by (app) (count_over_time({namespace="media"}[5m]))'}, 140),
    "nothing": ("logs_query", {"query": '{namespace="media", app="jelyfin"} |= "x"'}, 60),
}
"""By file: the tool, its arguments, and the most tokens that its answer may take."""


@pytest.mark.parametrize("name", sorted(ASKED))
async def test_a_model_reads(name: str) -> None:
    tool, arguments, most = ASKED[name]
    async with staged() as stage:
        same(GOLDEN / f"{name}.txt", await stage.text(tool, **arguments), most)
