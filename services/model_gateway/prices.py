"""What a model call costs: from the settings, else from LiteLLM's map. What is not known is None, never 0."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from opswarm.models.chat import UsagePiece
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Price

_MILLION = 1e6
_LONG = 200_000
_ABOVE = "_above_200k_tokens"
"""As LiteLLM's map names the prices of long prompts."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """USD for one token read, written, read from the provider's cache and written to it.

    `long` holds for a call that reads more than 200,000 tokens, where that costs more.
    """

    read: float
    written: float
    cached: float
    cache_written: float
    long: Tariff | None = None

    def of(self, usage: UsagePiece) -> float:
        """USD for a call."""
        if self.long is not None and usage.input_tokens > _LONG:
            return self.long.of(usage)
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
    entry = _entry(model)
    base = _tariff(entry, "")
    if base is None:
        return None
    return replace(base, long=_tariff({**entry, **_over(entry)}, _ABOVE))


def _entry(model: str) -> Mapping[str, Any]:
    """What LiteLLM's map holds for the model; nothing where it does not know it."""
    litellm: Any = sys.modules.get("litellm")
    known: Mapping[str, Mapping[str, Any]] = getattr(litellm, "model_cost", {})
    if (found := known.get(model)) is not None:
        return found
    provider = model.partition("/")[0]
    if litellm is None or provider == "ollama":
        return {}
    try:
        key = str(litellm.get_model_info(model=model)["key"])
    except Exception:  # LiteLLM raises a bare Exception for what is not in its map.
        return {}
    return known.get(key, {})


def _over(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's prices for long prompts, those that it does not raise being the same as for short ones."""
    names = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost",
             "cache_creation_input_token_cost")  # fmt: skip
    return {f"{n}{_ABOVE}": entry.get(f"{n}{_ABOVE}", entry.get(n)) for n in names}


def _tariff(entry: Mapping[str, Any], suffix: str) -> Tariff | None:
    read, written = entry.get(f"input_cost_per_token{suffix}"), entry.get(f"output_cost_per_token{suffix}")
    if not isinstance(read, int | float) or not isinstance(written, int | float):
        return None
    cached = entry.get(f"cache_read_input_token_cost{suffix}")
    cache_written = entry.get(f"cache_creation_input_token_cost{suffix}")
    return Tariff(read, written, read if cached is None else cached, read if cache_written is None else cache_written)
