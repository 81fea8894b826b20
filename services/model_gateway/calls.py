"""One request from start to end: the chain of models, retries, the provider's places, budgets and the ledger."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from opswarm import telemetry
from opswarm.agent.context import estimate_tokens
from opswarm.errors import BudgetExceeded, ModelBusy, ModelFailed, ModelUnreachable, OpswarmError
from opswarm.guard.principal import Kind, Principal
from opswarm.models.chat import CallPiece, ChatModel, ChatRequest, NoticePiece, Piece, TextPiece, UsagePiece
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Settings
from services.model_gateway import structured
from services.model_gateway.access import provider_of
from services.model_gateway.breaker import Breaker
from services.model_gateway.budgets import Meter, Running
from services.model_gateway.ledger import Ledger, Row
from services.model_gateway.places import Places
from services.model_gateway.prices import Tariff, tariff
from services.model_gateway.provider import Provider
from services.model_gateway.tiers import chain, names

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = 0.5
_MOST_PROVIDERS = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Who pays for a call: the agent that makes it ("" for none), the user it works for, the task it belongs to."""

    agent: str = ""
    user: str = ""
    task: str = ""

    @classmethod
    def of(cls, principal: Principal | None) -> Caller:
        if principal is None:
            return cls()
        acting = principal.acting
        agent = acting.removeprefix("agent:") if acting.startswith("agent:") else ""
        user = principal.subject if principal.kind is Kind.PERSON else ""
        return cls(agent[:128], user[:256], principal.task[:64])


@dataclass(frozen=True, slots=True)
class _Instead:
    """The model that was to answer first, and the code of its failure."""

    model: str = ""
    code: str = ""


class Calls:
    """Answers requests. `settings` gives the settings of the moment."""

    def __init__(self, settings: Callable[[], Settings], playbook: ChatModel, ledger: Ledger, meter: Meter) -> None:
        self._settings = settings
        self._provider = Provider(lambda: settings().models)
        self._playbook = playbook
        self._ledger = ledger
        self._meter = meter
        self._places: dict[str, Places] = {}
        self._breakers: dict[str, Breaker] = {}

    async def prepare(self) -> None:
        """Loads what calls need. Raises `ModelFailed` when it is not installed."""
        await self._provider.prepare()

    def models(self, request: ChatRequest) -> tuple[str, ...]:
        """The models that are tried for a request, in order. Raises `ModelUnknown`, as `tiers.chain` does."""
        return chain(request.model, self._settings().models)

    async def stream(
        self, request: ChatRequest, models: Sequence[str], caller: Caller
    ) -> AsyncGenerator[Piece, None]:
        """The reply, from the first of `models` that gives one.

        Raises the failure of the first model when none does, with what became of the others in its hint, and
        `BudgetExceeded` when a budget is used up.
        """
        shape = structured.wanted(request)
        failures: list[tuple[str, ModelFailed]] = []
        for index, model in enumerate(models):
            instead = _Instead(failures[0][0], failures[0][1].code) if failures else _Instead()
            spoke = False
            try:
                async with aclosing(self._shaped(request, model, caller, shape, instead)) as pieces:
                    async for piece in pieces:
                        spoke = spoke or isinstance(piece, TextPiece | CallPiece)
                        yield piece
                return
            except ModelFailed as error:
                if spoke:
                    raise
                failures.append((model, error))
                log.warning("model %s could not be used: %s", model, error.code)
                if index + 1 < len(models):
                    telemetry.MODEL_FALLBACKS.labels(self._label(model), error.code).inc()
                    text = f"{model} could not be used: {error.message} {models[index + 1]} answers instead."
                    yield NoticePiece("fallback", text, models[index + 1])
        raise _combined(failures)

    async def _shaped(
        self, request: ChatRequest, model: str, caller: Caller, shape: structured.Shape | None, instead: _Instead
    ) -> AsyncGenerator[Piece, None]:
        if shape is None or model == PLAYBOOK:
            asked = replace(request, schema=shape.schema) if shape else request
            source = self._retried(asked, model, caller, instead)
        else:
            modes = await self._provider.modes(model)
            source = structured.answered(request, shape, modes, lambda r: self._retried(r, model, caller, instead))
        async with aclosing(source) as pieces:
            async for piece in pieces:
                yield piece

    async def _retried(
        self, request: ChatRequest, model: str, caller: Caller, instead: _Instead
    ) -> AsyncGenerator[Piece, None]:
        """The reply of one model. A provider that is busy or away is asked again, when it says or after a while."""
        limits = self._settings().models
        for attempt in range(limits.retries + 1):
            spoke = False
            try:
                async with aclosing(self._placed(request, model, caller, instead)) as pieces:
                    async for piece in pieces:
                        spoke = spoke or not isinstance(piece, NoticePiece)
                        yield piece
                return
            except (ModelBusy, ModelUnreachable) as error:
                asked = error.retry_after if isinstance(error, ModelBusy) else None
                wait = _backoff(attempt) if asked is None else asked
                if spoke or attempt == limits.retries or wait > limits.max_retry_seconds or self._is_left(model):
                    raise
                yield NoticePiece("retry", f"{error.message} It is asked again in {wait:.0f} s.")
                await asyncio.sleep(wait)

    async def _placed(
        self, request: ChatRequest, model: str, caller: Caller, instead: _Instead
    ) -> AsyncGenerator[Piece, None]:
        """One attempt, in a place of the provider's, its circuit permitting."""
        if model == PLAYBOOK:
            async with aclosing(self._counted(request, model, caller, instead)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        limits = self._settings().models
        provider = provider_of(model)
        size = limits.concurrency.get(provider, limits.default_concurrency)
        ticket = self._places_of(provider).join(f"{caller.agent}|{caller.user}", size, limits.max_queued)
        try:
            async with aclosing(ticket.waiting(limits.queue_seconds)) as places:
                async for before in places:
                    yield NoticePiece("queued", _queued(provider, before))
            with self._breaker_of(provider).call(limits.breaker_seconds, limits.breaker_failures):
                async with aclosing(self._counted(request, model, caller, instead)) as pieces:
                    async for piece in pieces:
                        yield piece
        finally:
            ticket.leave()

    async def _counted(
        self, request: ChatRequest, model: str, caller: Caller, instead: _Instead
    ) -> AsyncGenerator[Piece, None]:
        """One call, metered while it streams, and entered in the ledger however it ends."""
        price: Tariff | None = tariff(PLAYBOOK, {})
        running: Running | None = None
        if model != PLAYBOOK:
            await self._provider.prepare()
            price = tariff(model, self._settings().models.prices)
            size = estimate_tokens(request.messages, request.tools)
            running = self._meter.begin(caller.agent, caller.task, size, price)
        begun, day, clock = time.time(), self._meter.day(), time.monotonic()
        first: float | None = None
        usage: UsagePiece | None = None
        outcome = "left"
        source = (
            self._playbook.stream(request)
            if running is None
            else self._provider.stream(request, model, running.wrote)
        )
        try:
            async with aclosing(source) as pieces:
                async for piece in pieces:
                    if isinstance(piece, UsagePiece) and not (running and running.denies(piece)):
                        usage = piece
                    elif first is None:
                        first = time.monotonic() - clock
                    if running is not None:
                        if usage is piece:
                            running.settle(usage)
                        for warning in running.news():
                            yield warning
                    yield piece
            outcome = "ok"
        except OpswarmError as error:
            outcome = error.code
            raise
        finally:
            # A provider counts what it was sent and wrote, also where nobody waited for its count.
            sent = running is not None and (running.began or outcome in ("left", BudgetExceeded.code))
            used = usage or (running.estimate(model) if running and sent else UsagePiece(model))
            if running is not None and usage is None:
                running.close(used)
            self._ledger.add(
                Row(
                    at=begun,
                    day=day,
                    agent=caller.agent,
                    person=caller.user,
                    task=caller.task,
                    tier=request.model,
                    model=model,
                    input_tokens=used.input_tokens,
                    output_tokens=used.output_tokens,
                    cached_tokens=used.cached_tokens,
                    cache_written_tokens=used.cache_written_tokens,
                    estimated=usage is None,
                    cost_usd=None if price is None else price.of(used),
                    seconds=time.monotonic() - clock,
                    first_token_seconds=first,
                    outcome=outcome,
                    instead_of=instead.model,
                    because=instead.code,
                )
            )
            self._observe(model, caller, used, outcome)

    def _observe(self, model: str, caller: Caller, used: UsagePiece, outcome: str) -> None:
        label = self._label(model)
        log.info("model %s called by %s for %s: %s", model, caller.agent or "a client", caller.user or "-", outcome)
        telemetry.MODEL_CALLS.labels(label, outcome).inc()
        telemetry.MODEL_TOKENS.labels(label, "in").inc(used.input_tokens)
        telemetry.MODEL_TOKENS.labels(label, "out").inc(used.output_tokens)

    def _label(self, model: str) -> str:
        """The model in metrics: only those of tiers are named, so that callers can't make up series."""
        return model if model in names(self._settings().models) else "other"

    def _places_of(self, provider: str) -> Places:
        _make_room(self._places, provider, lambda p: not len(p) and not p.taken)
        return self._places.setdefault(provider, Places(provider))

    def _breaker_of(self, provider: str) -> Breaker:
        _make_room(self._breakers, provider, lambda b: not b.is_open)
        return self._breakers.setdefault(provider, Breaker(provider))

    def _is_left(self, model: str) -> bool:
        breaker = self._breakers.get(provider_of(model))
        return breaker is not None and breaker.is_open


def _make_room(kept: dict[str, Places] | dict[str, Breaker], provider: str, idle: Callable[..., bool]) -> None:
    """Callers name models, and so providers: what is idle is forgotten before there are too many."""
    if provider not in kept and len(kept) >= _MOST_PROVIDERS:
        for name in [n for n, value in kept.items() if idle(value)]:
            del kept[name]


def _backoff(attempt: int) -> float:
    return float(_BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5))


def _queued(provider: str, before: int) -> str:
    others = "1 other call is" if before == 1 else f"{before} other calls are"
    return f"Waiting for {provider}: {others} before this one." if before else f"Waiting for {provider}: next."


def _combined(failures: list[tuple[str, ModelFailed]]) -> ModelFailed:
    (_, first), *others = failures
    if others:
        also = " ".join(f"{model}: {error.message}" for model, error in others)
        first.hint = f"{first.hint} Also tried: {also}".strip()
    return first
