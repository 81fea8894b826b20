"""What a model reads of a small cluster's three hours, word for word, and what that costs.

A file of `golden/` has the text of one answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.prometheus.stage import Stage
from tests.support.golden import same

GOLDEN = Path(__file__).parent / "golden"

ASKED: dict[str, tuple[str, dict[str, Any], int]] = {
    "workload_usage": ("workload_usage", {"namespace": "media", "workload": "jellyfin"}, 130),
    "pod_restarts": ("pod_restarts", {}, 50),
    "node_saturation": ("node_saturation", {}, 130),
    "volume_fill": ("volume_fill", {}, 100),
    "metrics_changed": ("metrics_changed", {"around": "2026-09-21T12:42:00Z", "namespace": "media"}, 230),
    "metrics_find": ("metrics_find", {"keyword": "cpu"}, 80),
    "metrics_labels": ("metrics_labels", {"label": "code", "match": "http_requests_total"}, 10),
    "metrics_series": ("metrics_series", {"match": "http_requests_total", "limit": 3}, 100),
    "query": ("metrics_query", {"query": 'sort(rate(node_cpu_seconds_total{mode="idle"}[5m]))'}, 50),
    "query_histories": ("metrics_query", {"query": 'node_load5{instance="10.0.0.11:9100"}[2m]'}, 50),
    "query_nothing": ("metrics_query", {"query": 'nothing_here{a="b"} > 3'}, 40),
    "query_too_many": ("metrics_query", {"query": "http_requests_total"}, 100),
    "range": ("metrics_range", {"query": 'http_requests_total{path="/p1"}', "start": "-2h", "step": "15s"}, 400),
    "range_too_many": ("metrics_range", {"query": "http_requests_total"}, 110),
    "targets": ("targets_list", {}, 10),
}  # fmt: skip
"""By file: the tool, its arguments, and the most tokens that its answer may take."""


@pytest.mark.parametrize("name", sorted(ASKED))
async def test_a_model_reads(history: Stage, name: str) -> None:
    tool, arguments, most = ASKED[name]
    same(GOLDEN / f"{name}.txt", await history.text(tool, **arguments), most)


def test_no_golden_text_is_left_over() -> None:
    assert {f.stem for f in GOLDEN.glob("*.txt")} == set(ASKED)
