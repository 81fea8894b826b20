"""The questions that need no PromQL, over a real Prometheus with three hours of a small cluster."""

from __future__ import annotations

import pytest

from opswarm.errors import NotFound
from tests.mcp_servers.prometheus.history import GI, NOW
from tests.mcp_servers.prometheus.stage import Stage


async def test_usage_is_told_against_requests_and_limits(history: Stage) -> None:
    data = await history.data("workload_usage", namespace="media", workload="jellyfin")
    (one,) = data["containers"]
    assert (one["pod"], one["container"]) == ("jellyfin-6d4b9c-abcde", "jellyfin")
    assert one["cpu"] == pytest.approx(0.9) and one["cpu_request"] == 0.5 and one["cpu_limit"] is None
    assert one["memory_peak"] == 980 * 2**20 and one["memory_limit"] == GI
    assert one["throttled"] == pytest.approx(0.4)


async def test_a_pod_with_a_name_like_the_workloads_is_not_counted_to_it(history: Stage) -> None:
    text = await history.text("workload_usage", namespace="media", workload="jellyfin")
    assert "jellyfin-tools-1" not in text
    assert "Pod media/jellyfin-tools-1" in await history.text(
        "workload_usage", namespace="media", workload="jellyfin-tools-1"
    )


async def test_a_workload_that_is_not_there_is_answered_with_those_that_are(history: Stage) -> None:
    error = await history.refused("workload_usage", namespace="media", workload="jelyfin")
    assert isinstance(error, NotFound) and error.hint.startswith("There are: jellyfin")
    error = await history.refused("workload_usage", namespace="medai", workload="jellyfin")
    assert error.hint == "Namespaces with pods: media."


async def test_a_workload_that_is_known_and_not_measured_says_so(history: Stage) -> None:
    error = await history.refused("workload_usage", namespace="media", workload="sonarr")
    assert "No containers of StatefulSet media/sonarr are measured now." in error.message


async def test_restarts_come_with_how_the_last_one_ended(history: Stage) -> None:
    data = await history.data("pod_restarts")
    (one,) = data["restarts"]
    assert (one["recent"], one["ever"], one["reason"], one["exit_code"]) == (3, 3, "OOMKilled", "137")
    assert one["ended_at"] == NOW - 3_000
    quiet = await history.text("pod_restarts", since="10m")
    assert quiet == "No restarts in 10m: 2 containers were looked at."
    assert "namespace nowhere" in (await history.refused("pod_restarts", namespace="nowhere")).message


async def test_a_node_is_found_by_name_or_instance_and_its_worst_is_told(history: Stage) -> None:
    for node in ("pi-2", "10.0.0.12", "10.0.0.12:9100", "PI-2"):
        data = await history.data("node_saturation", node=node)
        (one,) = data["nodes"]
        assert one["node"] == "pi-2" and one["fullest"] == "/" and one["filesystem"] == pytest.approx(0.95)
        assert one["pressure_io"] is None
    calm = await history.text("node_saturation", node="pi-1")
    assert "Nothing is near its limit." in calm
    assert "pi-1, pi-2" in (await history.refused("node_saturation", node="pi-9")).hint


async def test_the_day_on_which_a_volume_is_full_follows_from_its_growth(history: Stage) -> None:
    claims = {c["claim"]: c for c in (await history.data("volume_fill", namespace="media"))["claims"]}
    assert claims["config"]["growth_per_day"] == pytest.approx(0.5 * GI, rel=1e-3)
    assert claims["config"]["full_at"] == pytest.approx(NOW + 2 * 86_400, abs=120)
    assert claims["cache"]["full_at"] is None and claims["media"]["full_at"] is None
    text = await history.text("volume_fill")
    assert text.split("\n")[2].startswith("media      config") and "media/idle" in text
    assert "No volume in the namespace games" in (await history.refused("volume_fill", namespace="games")).message


async def test_what_jumped_around_a_time_is_told_the_most_first(history: Stage) -> None:
    data = await history.data("metrics_changed", around="2026-09-21T12:42:00Z", namespace="media")
    signals = [j["signal"] for j in data["jumps"]]
    assert signals == ["HTTP by code", "restarts", "rollouts", "CPU", "memory"]
    quiet = await history.text("metrics_changed", around="2026-09-21T12:00:00Z", window="15m")
    assert quiet.startswith("0 jumps, 15m before and after 2026-09-21 12:00:00Z")


async def test_a_time_that_has_no_after_yet_and_one_before_all_are_refused(history: Stage) -> None:
    assert "5m ago or earlier" in (await history.refused("metrics_changed", around="now")).message
    assert "None of the 23 signals" in (await history.refused("metrics_changed", around="3d ago")).message
    for window in ("1s", "2d"):
        assert "from 5m to 1d" in (await history.refused("metrics_changed", around="1h ago", window=window)).message
