"""Whether the model providers of this installation answer. The public APIs on the internet are never asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

from opswarm.errors import Unavailable
from opswarm.settings import Models
from services.model_gateway.access import OLLAMA, api_base
from services.model_gateway.tiers import TIERS, chain

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where a provider is asked for a sign of life, and what to do when there is none."""

    name: str
    base: str
    path: str
    hint: str

    async def ask(self, http: httpx.AsyncClient) -> str:
        """What is wrong, or "". Any answer is a sign of life, but for a proxy's that says there is no Ollama."""
        try:
            async with asyncio.timeout(_SECONDS), http.stream("GET", f"{self.base.rstrip('/')}{self.path}") as answer:
                gone = self.name == "Ollama" and answer.status_code >= 500
                return f"{self.name} at {self.base} answers HTTP {answer.status_code}. {self.hint}" if gone else ""
        except httpx.InvalidURL:
            return f"{self.base} is not a URL. {self.hint}"
        except (TimeoutError, httpx.HTTPError):
            return f"{self.name} does not answer at {self.base}. {self.hint}"


async def answering(settings: Models, http: httpx.AsyncClient) -> None:
    """Raises `Unavailable`, naming each provider that is first in a tier and does not answer at its configured address.

    One further down the chain does not count: a gateway whose fallback is away must not be taken out of service.
    """
    providers = {chain(tier, settings)[0].partition("/")[0] for tier in TIERS}
    endpoints = {e for p in providers if (e := _endpoint(p, settings)) is not None}
    faults = await asyncio.gather(*(e.ask(http) for e in sorted(endpoints, key=lambda e: e.name)))
    if any(faults):
        raise Unavailable(" ".join(f for f in faults if f))


def _endpoint(provider: str, settings: Models) -> _Endpoint | None:
    base = api_base(provider, settings)
    if base is None:
        return None
    if provider in OLLAMA:
        hint = "Start it with `ollama serve`, or set models.ollama_api_base."
        return _Endpoint("Ollama", base, "/api/version", hint)
    path = "/v1/models" if provider == "anthropic" else "/models"
    own = provider in settings.endpoints
    setting = f"models.endpoints.{provider}.api_base" if own else f"models.{provider}_api_base"
    return _Endpoint(f"The {provider} API", base, path, f"Start it, or correct {setting}.")
