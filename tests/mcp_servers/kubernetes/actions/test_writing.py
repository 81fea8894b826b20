"""How a write is sent: once, and with its failure told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.kubeconfig import kubeconfig
from mcp_servers.cluster.answers import Refused
from mcp_servers.cluster.connection import APPLY, JSON_PATCH, Cluster, open_cluster
from mcp_servers.cluster.settings import ClusterSettings
from mcp_servers.cluster.waiting import Time, watched
from opswarm.actions.action import Verification
from opswarm.errors import DeadlineExceeded, NotFound, OpswarmError, PermissionDenied, Unavailable
from tests.support.hosting import serving

PATH = "/api/v1/namespaces/default/configmaps/x"


class Answers:
    """An API server that gives one answer, and keeps what it was sent."""

    def __init__(self, answer: Callable[[], Response]) -> None:
        self.answer = answer
        self.seen: list[tuple[str, str, str, bytes]] = []
        self.hold: asyncio.Event | None = None
        methods = ["GET", "POST", "PATCH", "DELETE"]
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=methods)])

    async def _take(self, request: Request) -> Response:
        media = request.headers.get("content-type", "")
        self.seen.append((request.method, str(request.url.query), media, await request.body()))
        if self.hold is not None:
            await self.hold.wait()
        return self.answer()


@asynccontextmanager
async def answering(
    folder: Path, answer: Callable[[], Response], **settings: Any
) -> AsyncIterator[tuple[Cluster, Answers]]:
    answers = Answers(answer)
    async with serving(answers.app) as url:
        config = yaml.safe_load(kubeconfig(url, b"", "a-token"))
        del config["clusters"][0]["cluster"]["certificate-authority-data"]
        file = folder / "kubeconfig.yaml"
        file.write_text(yaml.safe_dump(config))
        async with open_cluster(ClusterSettings(file, **settings)) as cluster:
            yield cluster, answers


def status(code: int, reason: str, message: str = "no", causes: Any = ()) -> Callable[[], Response]:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"causes": list(causes)}}
    return lambda: JSONResponse(body, code)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (403, PermissionDenied), (404, NotFound), (409, Refused), (422, Refused), (400, Refused),
        (429, Unavailable), (500, Unavailable), (503, Unavailable), (504, Unavailable),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["post", "patch", "delete"])
async def test_a_write_that_fails_is_sent_once(
    tmp_path: Path, code: int, error: type[OpswarmError], method: str
) -> None:
    async with answering(tmp_path, status(code, "Whatever")) as (cluster, answers):
        with pytest.raises(error):
            await getattr(cluster, method)(PATH, {})
        assert len(answers.seen) == 1


async def test_a_write_without_an_answer_ends_in_time_and_is_not_sent_again(tmp_path: Path) -> None:
    async with answering(tmp_path, status(200, ""), total=0.3) as (cluster, answers):
        answers.hold = asyncio.Event()
        with pytest.raises(DeadlineExceeded):
            await cluster.patch(PATH, {})
        answers.hold.set()
        assert len(answers.seen) == 1


async def test_a_refusal_keeps_its_reason_and_causes_clean(tmp_path: Path) -> None:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "a\u202eb"\nusing v1', "field": ".data.a"}
    async with answering(tmp_path, status(409, "Conflict", "two\nlines", [cause, "junk"])) as (cluster, _):
        with pytest.raises(Refused) as caught:
            await cluster.patch(PATH, {})
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert [c.message for c in caught.value.causes] == ['conflict with "ab" using v1']
    assert str(caught.value) == "The API server refused the request: two lines"


async def test_a_uid_that_may_not_change_means_another_object(tmp_path: Path) -> None:
    cause = {"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}
    async with answering(tmp_path, status(422, "Invalid", "no", [cause])) as (cluster, _):
        with pytest.raises(Refused) as caught:
            await cluster.patch(PATH, {})
    assert caught.value.is_other_object


async def test_each_kind_of_patch_is_sent_as_what_it_is(tmp_path: Path) -> None:
    async with answering(tmp_path, lambda: JSONResponse({"ok": True})) as (cluster, answers):
        assert await cluster.patch(PATH, {"a": 1}, {"fieldManager": "opswarm"}) == {"ok": True}
        await cluster.patch(PATH, [{"op": "test", "path": "/a", "value": 1}], kind=JSON_PATCH)
        await cluster.patch(PATH, {"a": 1}, {"fieldManager": "opswarm", "dryRun": "All"}, kind=APPLY)
        await cluster.delete(PATH, {"preconditions": {"uid": "u"}})
    assert answers.seen == [
        ("PATCH", "fieldManager=opswarm", "application/merge-patch+json", b'{"a": 1}'),
        ("PATCH", "", "application/json-patch+json", b'[{"op": "test", "path": "/a", "value": 1}]'),
        ("PATCH", "fieldManager=opswarm&dryRun=All", "application/apply-patch+yaml", b'{"a": 1}'),
        ("DELETE", "", "application/json", b'{"preconditions": {"uid": "u"}}'),
    ]


async def test_waiting_pauses_longer_and_longer_and_ends_in_time() -> None:
    now, pauses = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    async def never() -> Verification:
        return Verification(None, f"at {now:g}")

    seen = await watched(never, 60, Time(lambda: now, sleep))
    assert seen.ok is None and now <= 60
    assert pauses[:3] == [0.5, 0.75, 1.125] and pauses == sorted(pauses) and max(pauses) == 5


async def test_waiting_outlasts_an_api_server_that_is_away_for_a_moment() -> None:
    now, looks = 0.0, 0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def look() -> Verification:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise Unavailable("away")
        return Verification(True, "there")

    assert (await watched(look, 60, Time(lambda: now, sleep))).text == "there"
    looks = -1_000
    with pytest.raises(Unavailable):
        await watched(look, 60, Time(lambda: now, sleep))
