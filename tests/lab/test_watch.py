"""Watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.lab.conftest import Served, Start

MEDIA = "/api/v1/namespaces/media/pods"


class Stream:
    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> Any:
        return json.loads(await asyncio.wait_for(anext(self._lines), 5))

    async def rest(self) -> list[Any]:
        return [json.loads(line) async for line in self._lines]


@asynccontextmanager
async def watching(served: Served, path: str, accept: str = "", **params: Any) -> AsyncIterator[Stream]:
    headers = {"Accept": accept} if accept else {}
    query = {"watch": "1", **params}
    async with served.http.stream("GET", path, params=query, headers=headers) as response:
        assert response.status_code == 200
        yield Stream(response.aiter_lines())


async def test_a_watch_without_a_version_begins_with_what_there_is(start: Start) -> None:
    served = await start()
    expected = await served.names(MEDIA)
    async with watching(served, MEDIA) as stream:
        seen = [await stream.next() for _ in expected]
    assert {event["type"] for event in seen} == {"ADDED"}
    assert [event["object"]["metadata"]["name"] for event in seen] == expected
    assert seen[0]["object"]["kind"] == "Pod"


async def test_a_watch_from_a_version_sees_each_later_change(start: Start) -> None:
    served = await start()
    pod = await served.pod("media", "prowlarr")
    since = (await served.get(MEDIA))["metadata"]["resourceVersion"]
    async with watching(served, MEDIA, resourceVersion=since) as stream:
        await served.http.delete(f"{MEDIA}/{pod['metadata']['name']}")
        first = await stream.next()
        assert first["type"] == "MODIFIED" and first["object"]["metadata"]["deletionTimestamp"]
        served.run(2)
        second, third = await stream.next(), await stream.next()
        assert {second["type"], third["type"]} == {"DELETED", "ADDED"}


async def test_an_object_that_leaves_the_selection_is_deleted_for_that_watch(start: Start) -> None:
    served = await start()
    path = "/api/v1/namespaces/media/configmaps"
    since = (await served.get(path))["metadata"]["resourceVersion"]
    patch = {"Content-Type": "application/merge-patch+json"}
    async with watching(served, path, labelSelector="watched=yes", resourceVersion=since) as stream:
        for value in ("yes", "no"):
            body = json.dumps({"metadata": {"labels": {"watched": value}}})
            await served.http.patch(f"{path}/media-common", content=body, headers=patch)
        assert [(await stream.next())["type"] for _ in range(2)] == ["ADDED", "DELETED"]


async def test_a_watch_from_too_old_a_version_is_told_so(start: Start) -> None:
    served = await start()
    async with watching(served, MEDIA, resourceVersion="1") as stream:
        event = await stream.next()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )
        assert await stream.rest() == []


async def test_a_watch_ends_at_its_timeout(start: Start) -> None:
    served = await start()
    since = (await served.get(MEDIA))["metadata"]["resourceVersion"]
    async with watching(served, MEDIA, resourceVersion=since, timeoutSeconds=1) as stream:
        assert await asyncio.wait_for(stream.rest(), 5) == []


async def test_initial_events_end_with_a_marked_bookmark(start: Start) -> None:
    served = await start()
    options = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with watching(served, "/api/v1/nodes", **options) as stream:
        seen = [await stream.next() for _ in range(4)]
    assert [event["type"] for event in seen] == ["ADDED", "ADDED", "ADDED", "BOOKMARK"]
    assert seen[3]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watched_table_has_its_columns_once(start: Start) -> None:
    served = await start()
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with watching(served, "/api/v1/nodes", accept) as stream:
        first, second = await stream.next(), await stream.next()
    assert first["object"]["columnDefinitions"] and not second["object"]["columnDefinitions"]
    assert second["object"]["rows"][0]["cells"][0] == "worker-1"


async def test_stopping_the_server_ends_open_watches_and_logs_at_once(start: Start) -> None:
    served = await start()
    pod = await served.pod("media", "sonarr")
    log = f"{MEDIA}/{pod['metadata']['name']}/log?follow=true"
    async with served.http.stream("GET", log) as following, watching(served, "/api/v1/nodes") as stream:
        assert following.status_code == 200
        await stream.next()
        began = asyncio.get_running_loop().time()
        await served.running.stop()
        assert asyncio.get_running_loop().time() - began < 2
        assert len(await stream.rest()) == 2
