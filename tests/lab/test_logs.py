"""Pod logs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lab.times import parse_instant
from tests.lab.conftest import Served, Start

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def log(served: Served, pod: Any, **params: Any) -> Any:
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    return await served.http.get(path, params=params)


async def test_tail_since_and_limits_narrow_the_log(shared: Start) -> None:
    served = await shared()
    pod = await served.pod("media", "sonarr")
    whole = (await log(served, pod)).text.splitlines()
    assert len(whole) > 100
    assert (await log(served, pod, tailLines=3)).text.splitlines() == whole[-3:]
    assert (await log(served, pod, tailLines=0)).text == ""
    assert len((await log(served, pod, limitBytes=50)).content) == 50
    recent = (await log(served, pod, sinceSeconds=300, timestamps="true")).text.splitlines()
    assert 0 < len(recent) < 10
    stamps = [parse_instant(line.split(" ", 1)[0]) for line in recent]
    assert stamps == sorted(stamps) and (served.clock() - stamps[0]).total_seconds() <= 300
    since = recent[1].split(" ", 1)[0]
    assert len((await log(served, pod, sinceTime=since)).text.splitlines()) == len(recent) - 1


async def test_a_container_must_be_named_where_there_are_several(shared: Start) -> None:
    served = await shared()
    pod = await served.pod("media", "qbittorrent")
    name = pod["metadata"]["name"]
    refused = (await log(served, pod)).json()
    assert refused["message"] == (
        f"a container name must be specified for pod {name}, choose one of: [app port-forward]"
    )
    assert (await log(served, pod, container="port-forward")).text.startswith("forwarded port unchanged")
    unknown = await log(served, pod, container="nope")
    assert (unknown.status_code, unknown.json()["message"]) == (
        400,
        f"container nope is not valid for pod {name}",
    )


async def test_the_previous_log_is_that_of_the_container_before(shared: Start) -> None:
    served = await shared("app-crash")
    pod = await served.pod("media", "prowlarr")
    assert 'password authentication failed for user "prowlarr"' in (await log(served, pod, previous="true")).text
    assert "password authentication failed" in (await log(served, pod)).text
    never = await served.pod("media", "sonarr")
    refused = (await log(served, never, previous="true")).json()
    assert refused["message"] == (f'previous terminated container "app" in pod "{never["metadata"]["name"]}" not found')


@pytest.mark.parametrize(
    ("scenario", "app", "namespace", "why"),
    [
        ("image-typo", "radarr", "media", "trying and failing to pull image"),
        ("missing-config", "grafana", "monitoring", "CreateContainerConfigError"),
    ],
)
async def test_a_container_that_waits_has_no_log(
    shared: Start, scenario: str, app: str, namespace: str, why: str
) -> None:
    served = await shared(scenario)
    found = await served.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/name={app}")
    pod = next(p for p in found["items"] if "waiting" in p["status"]["containerStatuses"][0]["state"])
    refused = await log(served, pod)
    assert refused.status_code == 400
    assert refused.json()["message"] == (
        f'container "app" in pod "{pod["metadata"]["name"]}" is waiting to start: {why}'
    )


@pytest.mark.parametrize("params", [{"sinceSeconds": 0}, {"tailLines": -1}, {"sinceTime": "yesterday"}])
async def test_bad_log_options_are_refused(shared: Start, params: dict[str, Any]) -> None:
    served = await shared()
    assert (await log(served, await served.pod("media", "sonarr"), **params)).status_code == 400


async def test_a_followed_log_goes_on_as_time_does(shared: Start) -> None:
    served = await shared()
    pod = await served.pod("media", "sonarr")
    path = f"/api/v1/namespaces/media/pods/{pod['metadata']['name']}/log"
    async with served.http.stream("GET", path, params={"follow": "true", "tailLines": 1}) as response:
        lines = response.aiter_lines()
        await asyncio.wait_for(anext(lines), 5)
        served.clock.move(seconds=200)
        fresh = [await asyncio.wait_for(anext(lines), 5) for _ in range(2)]
    assert all("[Info]" in line for line in fresh)
