"""What a model call costs: from the settings, else from LiteLLM's map. What is not known is None, never 0."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opswarm.models.chat import UsagePiece
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Price

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Tariff:
    """USD for one token read, written, read from the provider's cache and written to it."""

    read: float
    written: float
    cached: float
    cache_written: float

    def of(self, usage: UsagePiece) -> float:
        """USD for a call."""
        fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_written_tokens)
        return (
            fresh * self.read
            + usage.cached_tokens * self.cached
            + usage.cache_written_tokens * self.cache_written
            + usage.output_tokens * self.written
        )


def tariff(model: str, prices: Mapping[str, Price]) -> Tariff | None:
    """The tariff of a LiteLLM model name, or None when nobody knows it. LiteLLM's map counts once it is imported."""
    if model == PLAYBOOK:
        return Tariff(0.0, 0.0, 0.0, 0.0)
    if (own := prices.get(model)) is not None:
        each = own.input / _MILLION
        return Tariff(each, own.output / _MILLION, each, each)
    litellm: Any = sys.modules.get("litellm")
    known: Mapping[str, Mapping[str, Any]] = getattr(litellm, "model_cost", {})
    provider, _, name = model.partition("/")
    entry = known.get(model) or known.get(f"ollama/{name}" if provider == "ollama_chat" else name) or {}
    read, written = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
    if not isinstance(read, int | float) or not isinstance(written, int | float):
        return None
    if entry.get("litellm_provider") not in (None, provider, provider.removesuffix("_chat")):
        return None  # The same bare name at another provider has another price.
    cached = entry.get("cache_read_input_token_cost")
    cache_written = entry.get("cache_creation_input_token_cost")
    return Tariff(read, written, read if cached is None else cached, read if cache_written is None else cache_written)

