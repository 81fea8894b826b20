"""Which models a request gets: tiers to LiteLLM model names, in the order in which they are tried."""

from __future__ import annotations

import re

from opswarm.errors import ModelUnknown
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Models
from services.model_gateway.access import anthropic_key, ollama_base, openai_key, provider_of

TIERS = ("fast", "standard", "deep")

AUTO = "auto"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/(?!\.+(?:/|$))[A-Za-z0-9@_.:+-]+)+")
"""A LiteLLM name that can't be an address."""

_ANTHROPIC = {
    "fast": "anthropic/claude-haiku-5-5",
    "standard": "anthropic/claude-sonnet-5-5",
    "deep": "anthropic/claude-opus-5-5",
}
"""Used where a tier is `auto` and an Anthropic key is there."""

_OLLAMA = "ollama_chat/qwen3:8b"
"""Used where a tier is `auto` and Ollama is configured: small, and trained for tool calls."""


def chain(model: str, settings: Models) -> tuple[str, ...]:
    """The LiteLLM model names to try for a tier, in order; for any other name, that name alone.

    `auto` is Claude where a key is configured, then Ollama where an address is, then the offline playbook. Raises
    `ModelUnknown` for what is neither a tier nor a `provider/model`, and for a caller's model of a provider that this
    installation does not use: LiteLLM knows some that would call any address, or take what keys lie around.
    """
    chosen = _configured(settings).get(model)
    if chosen is None:
        name = _named(model)
        if not _NAME.fullmatch(name) or provider_of(name) not in _providers(settings):
            hint = "Put its name into models.providers, or the model into a tier."
            raise ModelUnknown("That provider is not in use here.", hint=hint)
        return (name,)
    found: list[str] = []
    for name in chosen:
        found += _auto(model, settings) if name == AUTO else [_named(name)]
    return tuple(dict.fromkeys(found))


def _providers(settings: Models) -> set[str]:
    """Whose models callers may name."""
    own = [m for chosen in _configured(settings).values() for m in chosen]
    own += [m for agent in settings.agents.values() for m in (agent.model, *agent.steps.values())]
    found = {provider_of(m) for m in own if "/" in m} | set(settings.endpoints) | set(settings.providers)
    found.add(provider_of(PLAYBOOK))
    if anthropic_key(settings):
        found.add("anthropic")
    if openai_key(settings) or settings.openai_api_base:
        found.add("openai")
    if ollama_base(settings):
        found.add("ollama")
    return found


def names(settings: Models) -> frozenset[str]:
    """Every model name that a tier can come to stand for, and the playbook's."""
    found = {PLAYBOOK}
    for tier, chosen in _configured(settings).items():
        for name in chosen:
            found |= {_ANTHROPIC[tier], _OLLAMA} if name == AUTO else {name}
    return frozenset(found)


def _auto(tier: str, settings: Models) -> list[str]:
    found = [_ANTHROPIC[tier]] if anthropic_key(settings) else []
    if ollama_base(settings):
        found.append(_OLLAMA)
    return [*found, PLAYBOOK]


def _named(model: str) -> str:
    if "/" not in model or len(model) > 200:
        raise ModelUnknown(
            "That is neither a tier nor a model name.",
            hint=f"Use {', '.join(TIERS)}, or a LiteLLM name such as anthropic/claude-sonnet-5-5.",
        )
    return model


def _configured(settings: Models) -> dict[str, tuple[str, ...]]:
    return {"fast": settings.fast, "standard": settings.standard, "deep": settings.deep}
