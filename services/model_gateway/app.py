"""The model gateway's ASGI factory."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opswarm import telemetry
from opswarm.errors import ModelBusy, OpswarmError, SettingsInvalid
from opswarm.guard import principal as principals
from opswarm.guard.keys import verifier
from opswarm.guard.tokens import AUDIENCE_GATEWAY, AUDIENCE_PERSON
from opswarm.models.chat import ChatRequest, Piece, UsagePiece
from opswarm.models.completions import Writer, after, whole
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.models.playbook import Playbook
from opswarm.models.request import read_request
from opswarm.service import Service, error_response, read_body, unless_gone
from opswarm.settings import Settings
from services.model_gateway.access import anthropic_key, openai_key
from services.model_gateway.pacing import paced
from services.model_gateway.provider import Provider
from services.model_gateway.readiness import answering
from services.model_gateway.tiers import TIERS, names, resolve

log = logging.getLogger(__name__)

NAME = "gateway"
_MAX_BODY = 8 * 1024 * 1024


class Gateway:
    """Answers chat completions from the model that the request names."""

    def __init__(self, settings: Settings, keep_alive_seconds: float) -> None:
        self._settings = settings
        self._keep_alive = keep_alive_seconds
        self._provider = Provider(settings.models)
        self._playbook = Playbook()
        self._labels = names(settings.models)

    async def completions(self, request: Request) -> Response:
        asked = read_request(await read_body(request, _MAX_BODY))
        model = resolve(asked.request.model, self._settings.models)
        writer = Writer(model)
        source = self._reply(asked.request, model)
        if not asked.stream:
            return JSONResponse(await unless_gone(request, whole(writer, source)))
        pieces = paced(source, self._keep_alive)
        try:
            first = await unless_gone(request, anext(pieces))
        except OpswarmError as error:
            return _refusal(error)
        body = writer.stream(after(first, pieces), usage=asked.usage)
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
        outcome = "unfinished"
        label = model if model in self._labels else "other"
        source = self._playbook.stream(_playable(asked)) if model == PLAYBOOK else self._provider.stream(asked, model)
        try:
            async with aclosing(source) as pieces:
                async for piece in pieces:
                    if isinstance(piece, UsagePiece):
                        telemetry.MODEL_TOKENS.labels(label, "in").inc(piece.input_tokens)
                        telemetry.MODEL_TOKENS.labels(label, "out").inc(piece.output_tokens)
                    yield piece
            outcome = "ok"
        except OpswarmError as error:
            outcome = error.code
            raise
        finally:
            telemetry.MODEL_CALLS.labels(label, outcome).inc()
            log.info("model %s called by %s: %s", model, principals.current(), outcome)


def _playable(asked: ChatRequest) -> ChatRequest:
    """The request for the playbook, which answers in JSON only where there is a schema."""
    return replace(asked, schema={"type": "object"}) if asked.options.json_object else asked


def _refusal(error: OpswarmError) -> Response:
    response = error_response(error)
    if isinstance(error, ModelBusy) and error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def create_app(settings: Settings, *, keep_alive_seconds: float = 15.0) -> Service:
    """The model gateway as a service. While a model is silent, streams get a comment every `keep_alive_seconds`."""
    for key in (anthropic_key, openai_key):
        with suppress(SettingsInvalid):  # A key file that can't be read is told to whoever asks for its model.
            key(settings.models)
    gateway = Gateway(settings, keep_alive_seconds)
    http = httpx.AsyncClient(timeout=httpx.Timeout(10.0))

    async def models_answer() -> None:
        await answering(settings.models, http)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with http:
            yield

    routes = [
        Route("/v1/chat/completions", gateway.completions, methods=["POST"]),
        Route("/v1/models", gateway.models, methods=["GET"]),
    ]
    return Service(
        NAME,
        routes,
        verifier(settings),
        (AUDIENCE_GATEWAY, AUDIENCE_PERSON),
        lifespan=lifespan,
        checks={"models": models_answer},
    )
