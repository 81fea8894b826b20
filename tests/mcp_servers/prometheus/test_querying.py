"""PromQL against a real Prometheus: every kind of result, odd values, too much, and what does not parse."""

from __future__ import annotations

from typing import Any

import pytest

from opswarm.errors import DeadlineExceeded, InvalidInput, OpswarmError
from tests.mcp_servers.prometheus.history import NOW
from tests.mcp_servers.prometheus.stage import Stage, staged


async def test_values_that_are_no_numbers_are_told_and_fit_json(history: Stage) -> None:
    answer = await history.ask("metrics_query", query="odd_value")
    assert '+Inf   {what="inf"}' in answer.text and 'NaN    {what="nan"}' in answer.text
    assert 'what="quote \\" back \\\\ ü"' in answer.text
    assert answer.data is not None
    values = {s["labels"]["what"]: s["value"] for s in answer.data["series"]}
    assert values["nan"] == "NaN" and values["inf"] == "+Inf" and values["tiny"] == "1e-09"


async def test_a_scalar_a_string_and_nothing_are_results_too(history: Stage) -> None:
    assert await history.text("metrics_query", query="1 / 0") == "+Inf at 2026-09-21 14:13:20Z"
    assert await history.text("metrics_query", query='"hi"') == '"hi"'
    none = await history.ask("metrics_query", query="up == 5")
    assert none.data is not None and none.data["series"] == [] and "No series" in none.text


async def test_nothing_says_whether_the_metric_or_the_labels_are_wrong(history: Stage) -> None:
    assert "nothing is stored then under nothing_here" in await history.text("metrics_query", query="nothing_here")
    said = await history.text("metrics_query", query='node_load5{instance="x"}')
    assert "there are series of node_load5; the labels" in said
    ranged = await history.text("metrics_range", query="nothing_here")
    assert "nothing is stored then under nothing_here" in ranged


@pytest.mark.parametrize("time", ["1h ago", "2026-09-21T13:13:20Z", str(NOW - 3_600), "2026-09-21T15:13:20+02:00"])
async def test_a_time_may_be_spelt_in_many_ways(history: Stage, time: str) -> None:
    data = await history.data("metrics_query", query="time()", time=time)
    assert data["series"][0]["points"][0][0] == NOW - 3_600


async def test_a_parse_error_shows_where(history: Stage) -> None:
    for tool in ("metrics_query", "metrics_range"):
        error = await history.refused(tool, query="sum(rate(x[5m]) by (y)")
        head, shown, caret = error.message.split("\n")
        assert head.startswith("The query can't be parsed, line 1 character 1") and shown == "  sum(rate(x[5m]) by (y)"
        assert caret.strip() == "^"


async def test_the_step_is_raised_to_a_hundred_points_and_that_is_said(history: Stage) -> None:
    answer = await history.ask("metrics_range", query="node_load5", start="3h ago", step="1s")
    assert answer.data is not None
    assert max(len(s["points"]) for s in answer.data["series"]) <= 100
    assert "(step raised from 1s to 2m: at most 100 points a series)" in answer.text
    assert "raised" not in await history.text("metrics_range", query="node_load5", start="3h ago", step="5m")


async def test_a_range_that_is_reversed_is_refused(history: Stage) -> None:
    error = await history.refused("metrics_range", query="up", start="now", end="2h ago")
    assert "is not before end" in error.message and error.hint == "Swap them, or widen it."


async def test_too_many_series_come_as_a_summary_whose_rewrites_work(history: Stage) -> None:
    for tool in ("metrics_query", "metrics_range"):
        data = await history.data(tool, query="http_requests_total # all of them")
        assert data["oversized"] and data["series"] == 80 and data["labels"]["path"]["distinct"] == 40
        for rewrite in data["rewrites"]:
            again = await history.data(tool, query=rewrite)
            assert "oversized" not in again and 0 < len(again["series"]) <= 10, rewrite


async def test_too_many_ranges_are_rewritten_into_what_an_instant_query_can_answer(history: Stage) -> None:
    data = await history.data("metrics_query", query="http_requests_total[5m]")
    again = await history.data("metrics_query", query=data["rewrites"][0])
    assert len(again["series"]) == 10


async def test_few_series_that_are_too_long_are_summed_up_too(history: Stage) -> None:
    data = await history.data("metrics_query", query='label_join(wide, "both", "", "text", "n")', limit=500)
    assert data["oversized"] and data["series"] == 45


async def test_an_answer_larger_than_is_read_is_counted(history: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_servers.observing import connection

    monkeypatch.setattr(connection, "MOST_BYTES", 4_000)
    answer = await history.ask("metrics_query", query="http_requests_total")
    assert answer.data == {"oversized": True, "series": 80, "rewrites": ["topk(10, http_requests_total)"]}
    ranges = await history.ask("metrics_query", query="http_requests_total[1h]")
    assert ranges.data is not None and ranges.data["series"] is None


async def test_a_query_that_takes_too_long_ends(filled: str) -> None:
    async with staged(filled, total=0.05) as stage:
        slow = "sum(sum_over_time(http_requests_total[3h:1s])) + sum(max_over_time(http_requests_total[3h:1s]))"
        error = await stage.refused("metrics_query", query=slow)
    assert isinstance(error, DeadlineExceeded)


@pytest.mark.parametrize("limit", [0, 501, -1])
async def test_a_limit_out_of_bounds_is_refused(history: Stage, limit: int) -> None:
    for tool, more in (("metrics_query", {"query": "up"}), ("metrics_find", {}), ("volume_fill", {})):
        assert isinstance(await history.refused(tool, limit=limit, **more), InvalidInput)


ATTACKS = ['media"} or up{job="x', "media'", "media} or vector(1)", "../x", "a" * 300, "media\n", "{}", "MEDIA", "*|.*"]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_question_without_promql_lets_promql_in(history: Stage, attack: str) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("workload_usage", {"namespace": "media", "workload": attack}),
        ("workload_usage", {"namespace": attack, "workload": "jellyfin"}),
        ("pod_restarts", {"namespace": attack}),
        ("volume_fill", {"namespace": attack}),
        ("metrics_changed", {"namespace": attack, "around": "1h ago"}),
        ("node_saturation", {"node": attack}),
        ("pod_restarts", {"since": attack}),
    ]
    for tool, arguments in calls:
        error = await history.refused(tool, **arguments)
        assert isinstance(error, OpswarmError) and "parse" not in error.message, (tool, error)


async def test_a_label_with_any_name_is_a_part_of_the_path_and_no_more(history: Stage) -> None:
    for label in ("../query?query=up", "a/b", "größe", 'x"}', "%2e%2e", "a?b", "#"):
        error = await history.refused("metrics_labels", label=label)
        assert "no values of" in error.message or "invalid label name" in error.message, (label, error)


async def test_pages_of_a_list_meet_and_end(history: Stage) -> None:
    whole = (await history.data("metrics_find", limit=500))["items"]
    pages, cursor = [], ""
    for _ in range(20):
        page = await history.data("metrics_find", limit=7, cursor=cursor)
        pages += page["items"]
        if not (cursor := page["cursor"]):
            break
    assert pages == whole and len(whole) > 20
    assert "cursor" in (await history.refused("metrics_find", cursor="zzz")).message


async def test_a_keyword_without_a_match_says_how_many_were_looked_at(history: Stage) -> None:
    assert "No metric has 'zebra' in its name or help" in await history.text("metrics_find", keyword="zebra")
    error = await history.refused("metrics_labels", label="cod")
    assert "There is no such label. Near it: code." in str(error)
    assert "No series" in (await history.refused("metrics_series", match="zebra")).message
