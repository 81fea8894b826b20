"""The model gateway's ASGI factory."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opswarm import telemetry
from opswarm.errors import ModelBusy, OpswarmError
from opswarm.guard import principal as principals
from opswarm.guard.keys import verifier
from opswarm.guard.tokens import AUDIENCE_GATEWAY, AUDIENCE_PERSON
from opswarm.models.chat import ChatRequest, Piece, UsagePiece
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.models.playbook import Playbook
from opswarm.service import Service, error_response, read_body
from opswarm.settings import Settings
from services.model_gateway.completions import Writer, read_request
from services.model_gateway.provider import Provider
from services.model_gateway.tiers import TIERS, resolve

log = logging.getLogger(__name__)

NAME = "gateway"
_MAX_BODY = 8 * 1024 * 1024


class Gateway:
    """Answers chat completions from the model that the request names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._provider = Provider(settings.models)
        self._playbook = Playbook()

    async def completions(self, request: Request) -> Response:
        asked, stream, usage = read_request(await read_body(request, _MAX_BODY))
        model = resolve(asked.model, self._settings.models)
        writer = Writer(model)
        source = self._reply(asked, model)
        if not stream:
            async with aclosing(source) as pieces:
                return JSONResponse(await writer.whole(pieces))
        try:
            first = await anext(source)
        except OpswarmError as error:
            return _refusal(error)
        body = writer.stream(_after(first, source), usage=usage)
        return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def models(self, request: Request) -> Response:
        """Tiers and what stands behind them; any other LiteLLM name may be asked for too."""
        entries = [
            {"id": tier, "object": "model", "owned_by": "opswarm", "root": resolve(tier, self._settings.models)}
            for tier in TIERS
        ]
        entries.append({"id": PLAYBOOK, "object": "model", "owned_by": "opswarm", "root": PLAYBOOK})
        return JSONResponse({"object": "list", "data": entries})

    async def _reply(self, asked: ChatRequest, model: str) -> AsyncGenerator[Piece, None]:
        outcome = "ok"
        source = self._playbook.stream(asked) if model == PLAYBOOK else self._provider.stream(asked, model)
        try:
            async with aclosing(source) as pieces:
                async for piece in pieces:
                    if isinstance(piece, UsagePiece):
                        telemetry.MODEL_TOKENS.labels(model, "in").inc(piece.input_tokens)
                        telemetry.MODEL_TOKENS.labels(model, "out").inc(piece.output_tokens)
                    yield piece
        except OpswarmError as error:
            outcome = error.code
            raise
        finally:
            telemetry.MODEL_CALLS.labels(model, outcome).inc()
            log.info("model %s called by %s: %s", model, principals.current(), outcome)


async def _after(first: Piece, rest: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def _refusal(error: OpswarmError) -> Response:
    response = error_response(error)
    if isinstance(error, ModelBusy) and error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def create_app(settings: Settings) -> Service:
    """The model gateway as a service."""
    gateway = Gateway(settings)
    routes = [
        Route("/v1/chat/completions", gateway.completions, methods=["POST"]),
        Route("/v1/models", gateway.models, methods=["GET"]),
    ]
    return Service(NAME, routes, verifier(settings), (AUDIENCE_GATEWAY, AUDIENCE_PERSON))
