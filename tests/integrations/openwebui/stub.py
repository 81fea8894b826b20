"""An orchestrator that says exactly what a test wants, over real HTTP, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.hosting import serving

IDS = {"taskId": "t-1", "contextId": "c"}
EVENTS = "https://opswarm.dev/a2a/events/v1"


def task(state: str = "TASK_STATE_SUBMITTED") -> dict[str, Any]:
    return {"task": {"id": "t-1", "contextId": "c", "status": {"state": state}}}


def text(said: str, *, artifact: str = "answer") -> dict[str, Any]:
    return {"artifactUpdate": {**IDS, "artifact": {"artifactId": artifact, "parts": [{"text": said}]}}}


def state(name: str, said: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"state": f"TASK_STATE_{name}"}
    if said:
        status["message"] = {"role": "ROLE_AGENT", "parts": [{"text": said}]}
    return {"statusUpdate": {**IDS, "status": status}}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    update = state("WORKING")["statusUpdate"]
    return {"statusUpdate": {**update, "metadata": {EVENTS: {"kind": kind, **fields}}}}


def sse(*results: dict[str, Any], end: str = "\n") -> bytes:
    """Results as server-sent events, as the orchestrator writes them."""
    bodies = (json.dumps({"jsonrpc": "2.0", "id": 1, "result": r}, ensure_ascii=False) for r in results)
    return "".join(f"data: {b}{end}{end}" for b in bodies).encode()


class Stub:
    """`answer` makes the response to a streaming call; the other methods are answered plainly."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.release = asyncio.Event()
        self.answer: Callable[[], Response] = lambda: self.streamed(sse(task(), text("hi"), state("COMPLETED")))
        self.models: Callable[[], Response] = lambda: JSONResponse({"data": [{"id": "orchestrator"}]})
        self.url = ""

    def methods(self) -> list[str]:
        return [a["method"] for a in self.asked]

    def streamed(self, *pieces: bytes, hold: bool = False) -> Response:
        """The pieces, one by one; with `hold`, nothing more comes and the stream stays open."""

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
            if hold:
                await self.release.wait()

        return StreamingResponse(body(), media_type="text/event-stream")

    async def _rpc(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if body["method"] == "SendStreamingMessage":
            return self.answer()
        result = task() if body["method"] == "SendMessage" else task("TASK_STATE_CANCELED")["task"]
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result})

    async def _models(self, request: Request) -> Response:
        return self.models()

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/", self._rpc, methods=["POST"]), Route("/v1/models", self._models)])


@asynccontextmanager
async def stubbed() -> AsyncIterator[Stub]:
    stub = Stub()
    async with serving(stub.app()) as url:
        stub.url = url
        try:
            yield stub
        finally:
            stub.release.set()
