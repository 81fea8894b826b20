"""The model gateway's ASGI factory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date, timedelta

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from opswarm.errors import InvalidInput, ModelBusy, OpswarmError, SettingsInvalid, Unavailable
from opswarm.guard import principal as principals
from opswarm.guard.keys import verifier
from opswarm.guard.principal import Role
from opswarm.guard.tokens import AUDIENCE_GATEWAY, AUDIENCE_PERSON
from opswarm.models.chat import joined
from opswarm.models.completions import Writer, after, whole
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.models.playbook import Playbook
from opswarm.models.request import read_request
from opswarm.pacing import KEEP_ALIVE_SECONDS, paced
from opswarm.reload import LiveSettings
from opswarm.service import Service, error_response, read_body, unless_gone
from opswarm.settings import Settings
from services.model_gateway.access import anthropic_key, endpoint_key, openai_key
from services.model_gateway.budgets import Meter
from services.model_gateway.calls import Caller, Calls
from services.model_gateway.ledger import BY, Ledger
from services.model_gateway.readiness import answering
from services.model_gateway.tiers import TIERS, chain

log = logging.getLogger(__name__)

NAME = "gateway"
_MAX_BODY = 8 * 1024 * 1024
_MOST_DAYS = 3_650


class Gateway:
    """Answers chat completions from the model that the request names, and says what they cost."""

    def __init__(self, settings: LiveSettings, ledger: Ledger, meter: Meter, keep_alive_seconds: float) -> None:
        self._settings = settings
        self._keep_alive = keep_alive_seconds
        self._ledger = ledger
        self._meter = meter
        self._calls = Calls(settings, Playbook(), ledger, meter)

    async def completions(self, request: Request) -> Response:
        asked = read_request(await read_body(request, _MAX_BODY))
        models = self._calls.models(asked.request)
        writer = Writer(models[0])
        source = self._calls.stream(asked.request, models, Caller.of(principals.current()))
        if not asked.stream:
            try:
                return JSONResponse(await unless_gone(request, whole(writer, source)))
            except OpswarmError as error:
                return _refusal(error)
        pieces = paced(source, self._keep_alive, joined)
        try:
            first = await unless_gone(request, anext(pieces))
        except OpswarmError as error:
            return _refusal(error)
        body = writer.stream(after(first, pieces), usage=asked.usage)
        return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def warm(self) -> None:
        """Loads LiteLLM before the first question does: that takes seconds."""
        try:
            await self._calls.prepare()
        except OpswarmError as error:
            log.warning("%s", error)

    async def models(self, request: Request) -> Response:
        """Tiers and what stands behind them; any other LiteLLM name may be asked for too."""
        found = self._settings().models
        entries = []
        for tier in TIERS:
            names = chain(tier, found)
            entries.append({"id": tier, "object": "model", "owned_by": "opswarm", "root": names[0], "chain": names})
        entries.append({"id": PLAYBOOK, "object": "model", "owned_by": "opswarm", "root": PLAYBOOK})
        return JSONResponse({"object": "list", "data": entries})

    async def costs(self, request: Request) -> Response:
        """`GET /v1/costs?by=…&days=…`: what calls came to.

        All of them are for an operator's own eyes; an agent, and a person who may only look, see those of its user.
        """
        by = request.query_params.get("by", "model")
        if by not in BY:
            raise InvalidInput("by: that is not something to add up by.", hint=f"Use {', '.join(BY)}.")
        days = request.query_params.get("days", "7")
        if not days.isdecimal() or not 1 <= int(days) <= _MOST_DAYS:
            raise InvalidInput(f"days: must be a whole number from 1 to {_MOST_DAYS}.")
        today = date.fromisoformat(self._meter.day())
        since = (today - timedelta(days=int(days) - 1)).isoformat()
        principal = principals.current()
        own = principal is None or not principal.is_direct_person or not principal.roles & {Role.OPERATOR, Role.ADMIN}
        user = (principal.subject if principal else "") if own else None
        sums = await self._ledger.sums(by, since, user=user)
        rows = [
            {
                "key": s.key,
                "calls": s.calls,
                "failed": s.failed,
                "input_tokens": s.input_tokens,
                "output_tokens": s.output_tokens,
                "cached_tokens": s.cached_tokens,
                "cost_usd": None if s.unpriced == s.calls else round(s.cost_usd, 6),
                "unpriced_calls": s.unpriced,
            }
            for s in sums
        ]
        budgets = [
            {"scope": scope.kind, "name": scope.name, "used": round(share, 4), "tokens": spent.tokens, "usd": spent.usd}
            for scope, share, spent in self._meter.shares()
        ]
        return JSONResponse(
            {"by": by, "since": since, "until": today.isoformat(), "rows": rows, "budgets": [] if own else budgets}
        )


def _real(settings: Settings) -> bool:
    """Whether any tier has a model that is called through LiteLLM."""
    try:
        return any(model != PLAYBOOK for tier in TIERS for model in chain(tier, settings.models))
    except OpswarmError:
        return False  # Readiness says what is wrong with the settings.


def _refusal(error: OpswarmError) -> Response:
    response = error_response(error)
    if isinstance(error, ModelBusy) and error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def create_app(settings: Settings, *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> Service:
    """The model gateway as a service. While a model is silent, streams get a comment every `keep_alive_seconds`."""
    with suppress(SettingsInvalid):  # A key file that can't be read is told to whoever asks for its model.
        anthropic_key(settings.models)
    with suppress(SettingsInvalid):
        openai_key(settings.models)
    for endpoint in settings.models.endpoints.values():
        with suppress(SettingsInvalid):
            endpoint_key(endpoint)
    live = LiveSettings(settings, ("models", "budgets"))
    ledger = Ledger(settings.database(NAME), keep_days=settings.keep_days)
    meter = Meter(lambda: live().budgets)
    gateway = Gateway(live, ledger, meter, keep_alive_seconds)
    http = httpx.AsyncClient(timeout=httpx.Timeout(10.0))

    async def models_answer() -> None:
        models = live().models
        if live.trouble:
            raise Unavailable(live.trouble)
        await answering(models, http)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        warming: asyncio.Task[None] | None = None
        async with http:
            await ledger.open()
            try:
                meter.load(await ledger.spent(meter.day()))
                if _real(live()):
                    warming = asyncio.create_task(gateway.warm())
                yield
            finally:
                if warming is not None:
                    warming.cancel()
                await ledger.close()

    routes = [
        Route("/v1/chat/completions", gateway.completions, methods=["POST"]),
        Route("/v1/models", gateway.models, methods=["GET"]),
        Route("/v1/costs", gateway.costs, methods=["GET"]),
    ]
    return Service(
        NAME,
        routes,
        verifier(settings),
        (AUDIENCE_GATEWAY, AUDIENCE_PERSON),
        lifespan=lifespan,
        checks={"models": models_answer, "ledger": ledger.ping},
    )
