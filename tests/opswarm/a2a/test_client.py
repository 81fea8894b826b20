"""The client against agents that are not ours: what their streams may look like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opswarm.a2a.cards import agent_card
from opswarm.a2a.client import RemoteAgent
from opswarm.agent.events import Event, Failed, Finished, TextDelta
from opswarm.errors import AgentDown, OpswarmError, Unavailable
from opswarm.fetch import Fetcher
from tests.support.hosting import serving

IDS = {"taskId": "t", "contextId": "c"}


def status(state: str, text: str = "") -> dict[str, Any]:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    return {
        "statusUpdate": {**IDS, "status": {"state": f"TASK_STATE_{state}", **({"message": message} if text else {})}}
    }


def artifact(text: str, name: str = "a") -> dict[str, Any]:
    return {"artifactUpdate": {**IDS, "artifact": {"artifactId": name, "parts": [{"text": text}]}}}


def task(state: str, *texts: str) -> dict[str, Any]:
    artifacts = [{"artifactId": f"a{i}", "parts": [{"text": t}]} for i, t in enumerate(texts)]
    return {"task": {"id": "t", "contextId": "c", "status": {"state": f"TASK_STATE_{state}"}, "artifacts": artifacts}}


class Stranger:
    """Streams the frames it was given; strings go out as they are."""

    def __init__(self, *frames: dict[str, Any] | str, breaks: bool = False) -> None:
        self.frames = frames
        self.breaks = breaks
        self.cancelled = asyncio.Event()
        self.url = ""

    async def card(self, request: Request) -> Response:
        return JSONResponse(MessageToDict(agent_card("s", "S", "a stranger.", self.url, ())))

    async def rpc(self, request: Request) -> Response:
        body = json.loads(await request.body())
        if body["method"] == "CancelTask":
            self.cancelled.set()
            return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": task("CANCELED")["task"]})

        async def stream() -> AsyncIterator[str]:
            for frame in self.frames:
                shown = (
                    frame
                    if isinstance(frame, str)
                    else json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": frame})
                )
                yield f"data: {shown}\n\n"
            if self.breaks:
                raise OSError("gone")

        return StreamingResponse(stream(), media_type="text/event-stream")


@asynccontextmanager
async def connected(stranger: Stranger, *, short: bool) -> AsyncIterator[RemoteAgent]:
    routes = [
        Route("/.well-known/agent-card.json", stranger.card),
        Route("/", stranger.rpc, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    async with serving(app) as url, httpx.AsyncClient(timeout=10) as http, Fetcher() as fetch:
        stranger.url = url
        yield await RemoteAgent.connect("s", url, http, fetch if short else None)


@pytest.fixture(params=[True, False], ids=["short", "sdk"])
def short(request: pytest.FixtureRequest) -> bool:
    """Whether the client goes its own way, or the SDK's: what comes of it is the same."""
    return bool(request.param)


async def ask(stranger: Stranger, short: bool) -> list[Event]:
    async with connected(stranger, short=short) as agent:
        return [e async for e in agent.ask("hello", token="none", deadline=10)]


@pytest.mark.parametrize(
    ("frames", "events"),
    [
        ([task("WORKING"), artifact("a"), status("COMPLETED")], [TextDelta(text="a"), Finished()]),
        (
            [{"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hi"}]}}],
            [TextDelta(text="hi"), Finished()],
        ),
        ([task("COMPLETED", "one", "two")], [TextDelta(text="one"), TextDelta(text="\n\ntwo"), Finished()]),
        ([artifact("one"), task("COMPLETED", "one")], [TextDelta(text="one"), Finished()]),
        (
            [artifact("a", "x"), artifact("b", "y"), status("COMPLETED")],
            [TextDelta(text="a"), TextDelta(text="\n\nb"), Finished()],
        ),
        (
            [task("WORKING"), status("INPUT_REQUIRED", "Which one?")],
            [TextDelta(text="Which one?"), Finished(notice="The agent waits for an answer.")],
        ),
        ([status("AUTH_REQUIRED", "Log in.")], [Failed(code="auth_required", message="Log in.")]),
        ([status("REJECTED")], [Failed(code="rejected", message="The agent rejected the request.")]),
    ],
)
async def test_every_way_an_answer_may_come(
    frames: Sequence[dict[str, Any]], events: Sequence[Event], short: bool
) -> None:
    assert await ask(Stranger(*frames), short) == list(events)


@pytest.mark.parametrize("breaks", [False, True])
async def test_an_answer_that_breaks_off_is_not_an_end(breaks: bool, short: bool) -> None:
    stranger = Stranger(task("WORKING"), artifact("half an ans"), breaks=breaks)
    with pytest.raises(AgentDown if breaks else Unavailable, match=r"stopped answering|broke off"):
        await ask(stranger, short)
    assert stranger.cancelled.is_set()


@pytest.mark.parametrize(
    "frame", ["{", "[]", "7", '{"result": {"task": 5}}', '{"result": {"statusUpdate": {"status": []}}}']
)
async def test_nonsense_is_a_refusal_with_a_name(frame: str, short: bool) -> None:
    with pytest.raises(OpswarmError, match="The s agent"):
        await ask(Stranger(task("WORKING"), frame), short)
