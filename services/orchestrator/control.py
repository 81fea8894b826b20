"""The kill switch: who asks whether actions are paused, and who may pause and resume them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from opswarm.errors import InvalidInput
from opswarm.guard import principal as principals
from opswarm.guard.control import ControlStore, plain_reason, refuse_change
from opswarm.guard.follower import Reading, StoreSource, follower
from opswarm.service import read_body
from opswarm.settings import Settings

ASKED = "GET /control"
"""The route that services call with their own tokens, too."""

_MOST_BODY = 16_384


class ControlRoutes:
    """The store behind three routes. Every answer is as fresh as a quarter of what followers ask in."""

    def __init__(self, settings: Settings, store: ControlStore) -> None:
        self._store = store
        self._follower = follower(settings, StoreSource(store))
        self._fresh_seconds = 0.0 if settings.control.kind == "file" else settings.control.refresh_seconds / 4

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with self._follower.following():
            yield

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/control", self._get, methods=["GET"]),
            Route("/control/pause", self._pause, methods=["POST"]),
            Route("/control/resume", self._resume, methods=["POST"]),
        ]

    async def _get(self, request: Request) -> Response:
        await self._follower.look(self._fresh_seconds)
        return _shown(self._follower.reading())

    async def _pause(self, request: Request) -> Response:
        return await self._change(request, paused=True)

    async def _resume(self, request: Request) -> Response:
        return await self._change(request, paused=False)

    async def _change(self, request: Request, *, paused: bool) -> Response:
        who = principals.current()
        refuse_change(who)
        reason = plain_reason(_reason(await read_body(request, _MOST_BODY)))
        state = await self._store.change(paused=paused, reason=reason, by=str(who))
        self._follower.note(state)
        return _shown(Reading(state))


def _shown(reading: Reading) -> Response:
    body = {**reading.state.model_dump(), "age": round(reading.age, 3)}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _reason(raw: bytes) -> object:
    """The reason in a body. None need be given: who pauses is in a hurry."""
    if not raw.strip():
        return ""
    try:
        body: Any = json.loads(raw)
    except ValueError:
        raise InvalidInput("The body must be JSON.", hint='Such as {"reason": "…"}.') from None
    if not isinstance(body, dict):
        raise InvalidInput("The body must be a JSON object.", hint='Such as {"reason": "…"}.')
    return body.get("reason", "")
