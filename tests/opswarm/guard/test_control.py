"""The state of the kill switch as a file and as a ConfigMap."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opswarm.errors import ControlUnknown, InvalidInput, PermissionDenied, Unavailable
from opswarm.guard.control import MOST_BYTES, NEVER_PAUSED, FileControl, plain_reason, refuse_change
from opswarm.guard.control_map import ConfigMapControl
from opswarm.guard.principal import Kind, Principal, Role
from tests.support.hosting import serving


async def test_a_pause_is_there_for_whoever_starts_later(tmp_path: Path) -> None:
    path = tmp_path / "home" / "control.json"
    first = await FileControl(path).change(paused=True, reason="flood", by="person:ann")
    found = await FileControl(path).read()
    assert (found, found.paused, found.reason, found.by) == (first, True, "flood", "person:ann")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["control.json"]


async def test_each_change_has_a_later_epoch_even_over_a_file_that_was_lost(tmp_path: Path) -> None:
    store = FileControl(tmp_path / "control.json", clock=lambda: 1_800_000_000.0)
    epochs = [(await store.change(paused=p, reason="", by="x")).epoch for p in (True, True, False)]
    store.path.unlink()
    store = FileControl(store.path, clock=lambda: 1_800_000_060.0)
    epochs.append((await store.change(paused=False, reason="", by="x")).epoch)
    assert epochs == sorted(set(epochs))


async def test_no_file_means_that_nobody_paused(tmp_path: Path) -> None:
    assert await FileControl(tmp_path / "none" / "control.json").read() == NEVER_PAUSED


GOOD = {"epoch": 3, "paused": False, "reason": "", "by": "x", "at": 1.5}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        json.dumps({**GOOD, "paused": "false"}).encode(),
        json.dumps({**GOOD, "paused": 0}).encode(),
        json.dumps({**GOOD, "epoch": -1}).encode(),
        json.dumps({**GOOD, "epoch": 2.5}).encode(),
        json.dumps({**GOOD, "epoch": True}).encode(),
        json.dumps({**GOOD, "at": "now"}).encode(),
        json.dumps(GOOD).encode() + b" " * MOST_BYTES,
        json.dumps({**GOOD, "reason": "x" * 501}).encode(),
    ],
)
async def test_a_file_that_can_not_be_understood_is_unknown_until_somebody_says_what_counts(
    tmp_path: Path, content: bytes
) -> None:
    store = FileControl(tmp_path / "control.json")
    store.path.write_bytes(content)
    with pytest.raises(ControlUnknown):
        await store.read()
    await store.change(paused=True, reason="", by="x")
    assert (await store.read()).paused


def _folder(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("made", [_folder, _dangling, _pipe])
async def test_what_is_no_file_is_unknown(tmp_path: Path, made: Any) -> None:
    made(tmp_path / "control.json")
    with pytest.raises(ControlUnknown):
        await FileControl(tmp_path / "control.json").read()


async def test_a_file_below_what_is_no_folder_is_unknown_and_a_change_is_told_to_have_failed(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    store = FileControl(tmp_path / "home" / "control.json")
    with pytest.raises(ControlUnknown):
        await store.read()
    with pytest.raises(Unavailable):
        await store.change(paused=True, reason="", by="x")


def test_a_reason_is_one_line_that_hides_nothing() -> None:
    assert plain_reason("a\x1b[2J\nb\u202e\tc\r\n\x00 d") == "a b c d"
    for bad in ("x" * 501, "\u200b" * 501, 7, None, ["x"]):
        with pytest.raises(InvalidInput):
            plain_reason(bad)


async def test_every_change_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FileControl(tmp_path / "control.json")
    with caplog.at_level(logging.WARNING):
        await store.change(paused=True, reason="one\ntwo", by="person:a\nnn")
        await store.change(paused=False, reason="", by="person:ann")
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 2 and not any("\n" in line for line in told)
    assert "paused by person:a nn" in told[0] and "one two" in told[0] and "resumed" in told[1]


@pytest.mark.parametrize(
    ("principal", "rule"),
    [
        (None, "control.person"),
        (Principal(kind=Kind.AGENT, subject="agent:devops", roles=frozenset(Role)), "control.person"),
        (Principal(kind=Kind.SERVICE, subject="service:x", roles=frozenset(Role)), "control.person"),
        (
            Principal(kind=Kind.PERSON, subject="p", roles=frozenset(Role), actors=("service:openwebui",)),
            "control.person",
        ),
        (Principal(kind=Kind.PERSON, subject="p", roles=frozenset({Role.VIEWER})), "control.role"),
        (Principal(kind=Kind.PERSON, subject="p"), "control.role"),
    ],
)
def test_only_a_person_who_acts_directly_and_may_operate_changes_it(principal: Principal | None, rule: str) -> None:
    with pytest.raises(PermissionDenied) as refused:
        refuse_change(principal)
    assert refused.value.rule == rule


class Api:
    """The ConfigMaps of one namespace, with the API server's compare-and-swap."""

    def __init__(self) -> None:
        self.map: dict[str, Any] | None = None
        self.version = 10
        self.status = 0
        self.tokens: set[str] = set()
        self.meanwhile: list[str] = []

    def put(self, state: str, **other: str) -> None:
        self.version += 1
        metadata = {"name": "opswarm-control", "resourceVersion": str(self.version)}
        self.map = {"kind": "ConfigMap", "metadata": metadata, "data": {"state": state, **other}}

    async def one(self, request: Request) -> Response:
        self.tokens.add(request.headers["authorization"])
        if self.status:
            return JSONResponse({"kind": "Status"}, status_code=self.status)
        if self.map is None:
            return JSONResponse({"kind": "Status", "reason": "NotFound"}, status_code=404)
        if request.method == "PUT":
            body = await request.json()
            if self.meanwhile:
                self.put(self.meanwhile.pop())
            if body["metadata"]["resourceVersion"] != self.map["metadata"]["resourceVersion"]:
                return JSONResponse({"kind": "Status", "reason": "Conflict"}, status_code=409)
            self.put(**body["data"])
        return JSONResponse(self.map)

    async def all(self, request: Request) -> Response:
        if self.map is not None:
            return JSONResponse({"kind": "Status", "reason": "AlreadyExists"}, status_code=409)
        body = await request.json()
        self.put(body["data"]["state"])
        return JSONResponse(self.map, status_code=201)

    @asynccontextmanager
    async def store(self, folder: Path) -> AsyncIterator[ConfigMapControl]:
        (folder / "token").write_text("pod-token\n")
        base = "/api/v1/namespaces/ops/configmaps"
        routes = [
            Route(f"{base}/opswarm-control", self.one, methods=["GET", "PUT"]),
            Route(base, self.all, methods=["POST"]),
        ]
        async with serving(Starlette(routes=routes)) as url:
            store = ConfigMapControl("ops", "opswarm-control", api=url, token_file=folder / "token", ca_file=None)
            try:
                yield store
            finally:
                await store.aclose()


async def test_a_config_map_is_made_when_there_is_none_and_read_again(tmp_path: Path) -> None:
    api = Api()
    async with api.store(tmp_path) as store:
        assert await store.read() == NEVER_PAUSED
        state = await store.change(paused=True, reason="flood", by="person:ann")
        (tmp_path / "token").write_text("renewed")
        assert await store.read() == state
    assert api.tokens == {"Bearer pod-token", "Bearer renewed"}


async def test_a_change_is_written_over_what_is_there_by_then_and_leaves_the_rest(tmp_path: Path) -> None:
    api = Api()
    later = json.dumps({**GOOD, "epoch": 4_000_000_000_000})
    api.put(json.dumps(GOOD), note="kept")
    api.meanwhile = [later]
    async with api.store(tmp_path) as store:
        state = await store.change(paused=True, reason="", by="x")
        assert state.epoch == 4_000_000_000_001
        api.put(later, note="kept")
        await store.change(paused=True, reason="", by="x")
    assert api.map is not None and api.map["data"]["note"] == "kept"


async def test_a_change_that_always_comes_too_late_is_told(tmp_path: Path) -> None:
    api = Api()
    api.put(json.dumps(GOOD))
    api.meanwhile = [json.dumps(GOOD)] * 9
    async with api.store(tmp_path) as store:
        with pytest.raises(Unavailable, match="too often"):
            await store.change(paused=True, reason="", by="x")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_an_api_server_that_refuses_says_nothing_of_a_pause(tmp_path: Path, status: int) -> None:
    api = Api()
    api.status = status
    async with api.store(tmp_path) as store:
        with pytest.raises(Unavailable):
            await store.read()


async def test_a_config_map_that_can_not_be_understood_is_unknown_and_can_be_written_anew(tmp_path: Path) -> None:
    api = Api()
    api.put("{")
    async with api.store(tmp_path) as store:
        with pytest.raises(ControlUnknown):
            await store.read()
        assert (await store.change(paused=True, reason="", by="x")).paused
