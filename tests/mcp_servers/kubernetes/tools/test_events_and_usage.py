from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.mcp_servers.kubernetes.tools.bench import Bench, tools_at
from tests.mcp_servers.kubernetes.tools.stand_in import always, discovery, kind
from tests.support.hosting import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


def event(reason: str, minutes_ago: float, **more: Any) -> dict[str, Any]:
    when = (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat()
    about = {"kind": "Pod", "namespace": "media", "name": "web"}
    times = more.pop("times", {"lastTimestamp": when})
    return {"metadata": {"name": reason}, "reason": reason, "type": "Normal", "involvedObject": about, **times, **more}


def answering(events: list[dict[str, Any]], metrics: dict[str, Any], pods: list[dict[str, Any]]) -> Any:
    """An API server with these events, and one pod's metrics."""
    core = [kind("events", "event", "Event"), kind("pods", "pod", "Pod")]
    bodies: dict[str, Any] = {
        "/api": discovery(("", "v1", core)),
        "/apis": discovery(("metrics.k8s.io", "v1beta1", [kind("pods", "", "PodMetrics")])),
        "/api/v1/events": {"metadata": {}, "items": events},
        "/api/v1/pods": {"metadata": {}, "items": pods},
        "/apis/metrics.k8s.io/v1beta1/pods": {"metadata": {}, "items": [metrics]},
    }

    async def answer(request: Request) -> Response:
        return JSONResponse(bodies[request.url.path])

    return always(answer)


async def test_events_come_newest_first_whatever_field_holds_their_time(bench: Bench) -> None:
    now = datetime.now(UTC)
    recent = (now - timedelta(minutes=1)).isoformat()
    events = [
        event("Old", 90),
        event("Series", 0, times={"eventTime": "2020-01-01T00:00:00.000000Z", "series": {"lastObservedTime": recent}}),
        event("Middle", 30),
        event("New", 0, times={"lastTimestamp": None, "eventTime": now.isoformat()}),
        event("Timeless", 0, times={}),
    ]
    async with serving(answering(events, {}, [])) as url, tools_at(url, bench.folder) as tools:
        said = await tools.say("events_list")
        assert [row[2] for row in said.data["events"]] == ["New", "Series", "Middle", "Old", "Timeless"]
        recently = await tools.say("events_list", since="1h")
        assert [row[2] for row in recently.data["events"]] == ["New", "Series", "Middle"]
        first = await tools.say("events_list", limit=2)
        assert "(2 of 5 events shown" in first.text


async def test_events_are_filtered_by_type_reason_kind_and_name(bench: Bench) -> None:
    raw = (await bench.get("/api/v1/events"))["items"]
    for arguments, kept in (
        ({"type": "Warning"}, [e for e in raw if e["type"] == "Warning"]),
        ({"reason": "backoff"}, [e for e in raw if e["reason"] == "BackOff"]),
        ({"name": "SONARR"}, [e for e in raw if "sonarr" in e["involvedObject"]["name"]]),
        ({"namespace": "media"}, [e for e in raw if e["metadata"]["namespace"] == "media"]),
    ):
        said = await bench.say("events_list", limit=500, **arguments)
        assert kept, arguments
        assert len(said.data["events"]) == len(kept), arguments


async def test_events_of_a_kind_are_found_by_any_of_its_names(bench: Bench) -> None:
    counts = {len((await bench.say("events_list", kind=k, limit=500)).data["events"]) for k in ("Pod", "pods", "po")}
    assert len(counts) == 1
    assert counts != {0}
    assert "No events match" in (await bench.say("events_list", kind="Unheard")).text


async def test_the_namespace_of_an_object_is_shown_when_all_are_listed(bench: Bench) -> None:
    for namespace in ("", "all", "*"):
        said = await bench.say("events_list", name="sonarr", namespace=namespace)
        assert "Pod media/sonarr-" in said.text
    assert "Pod sonarr-" in (await bench.say("events_list", name="sonarr", namespace="media")).text


async def test_the_message_of_an_event_stays_on_one_line(bench: Bench) -> None:
    events = [event("Odd", 1, message="first\nsecond\x1b[31m " + "x" * 1000)]
    async with serving(answering(events, {}, [])) as url, tools_at(url, bench.folder) as tools:
        said = await tools.say("events_list")
    assert len(said.lines) == 2
    assert "\x1b" not in said.text
    assert "first second" in said.lines[1]


@pytest.mark.parametrize("sort", ["memory", "cpu"])
async def test_what_uses_most_comes_first(bench: Bench, sort: str) -> None:
    said = await bench.say("pods_top", sort=sort, limit=500)
    used = [p[sort] for p in said.data["pods"]]
    assert used == sorted(used, reverse=True)
    assert used[0] > 0


async def test_usage_can_be_narrowed_by_name_and_namespace(bench: Bench) -> None:
    said = await bench.say("pods_top", namespace="database", name="POSTGRES")
    assert {p["pod"] for p in said.data["pods"]} == {"postgres-0", "postgres-1"}
    assert (await bench.say("pods_top", name="zzzz")).text == "No pod metrics match."


async def usage_of(bench: Bench, spec: dict[str, Any], measured: dict[str, str]) -> Any:
    """What pods_top knows of one pod with this spec."""
    meta = {"name": "web", "namespace": "media"}
    metrics = {
        "metadata": meta,
        "containers": [{"name": n, "usage": {"cpu": c, "memory": "1Mi"}} for n, c in measured.items()],
    }
    app = answering([], metrics, [{"metadata": meta, "spec": spec}])
    async with serving(app) as url, tools_at(url, bench.folder) as tools:
        return (await tools.say("pods_top")).data["pods"][0]


def limited(name: str, memory: str = "") -> dict[str, Any]:
    return {"name": name, "resources": {"limits": {"memory": memory}} if memory else {}}


async def test_a_pod_has_no_limit_when_one_of_its_containers_has_none(bench: Bench) -> None:
    spec = {"containers": [limited("a", "1Gi"), limited("b")]}
    found = await usage_of(bench, spec, {"a": "100m", "b": "200m"})
    assert found["cpu"] == pytest.approx(0.3)
    assert found["memory_limit"] == 0


async def test_a_sidecar_counts_and_an_ended_init_container_does_not(bench: Bench) -> None:
    sidecar = {**limited("proxy", "1Gi"), "restartPolicy": "Always"}
    spec = {"initContainers": [limited("setup", "8Gi"), sidecar], "containers": [limited("app", "1Gi")]}
    found = await usage_of(bench, spec, {"app": "1m", "proxy": "1m"})
    assert found["memory_limit"] == 2 * 2**30
