"""Which model a request gets: tiers to LiteLLM model names."""

from __future__ import annotations

from opswarm.errors import ModelUnknown
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Models
from services.model_gateway.access import anthropic_key, ollama_base

TIERS = ("fast", "standard", "deep")

_ANTHROPIC = {
    "fast": "anthropic/claude-haiku-5-5",
    "standard": "anthropic/claude-sonnet-5-5",
    "deep": "anthropic/claude-opus-5-5",
}
"""Used where a tier is `auto` and an Anthropic key is there."""

_OLLAMA = "ollama_chat/qwen3:8b"
"""Used where a tier is `auto` and only Ollama is configured: small, and trained for tool calls."""


def resolve(model: str, settings: Models) -> str:
    """The LiteLLM model name for a tier, or the name itself.

    A tier that is `auto` is Claude where a key is configured, else Ollama where an address is, else the offline
    playbook. Raises `ModelUnknown` for what is neither a tier nor a `provider/model`.
    """
    chosen = _configured(settings).get(model)
    if chosen is not None:
        if chosen != "auto":
            return chosen
        if anthropic_key(settings):
            return _ANTHROPIC[model]
        return _OLLAMA if ollama_base(settings) else PLAYBOOK
    if "/" not in model or len(model) > 200:
        raise ModelUnknown(
            "That is neither a tier nor a model name.",
            hint=f"Use {', '.join(TIERS)}, or a LiteLLM name such as anthropic/claude-sonnet-5-5.",
        )
    return model


def names(settings: Models) -> frozenset[str]:
    """Every model name that a tier can come to stand for, and the playbook's."""
    found = {PLAYBOOK}
    for tier, chosen in _configured(settings).items():
        found |= {_ANTHROPIC[tier], _OLLAMA} if chosen == "auto" else {chosen}
    return frozenset(found)


def _configured(settings: Models) -> dict[str, str]:
    return {"fast": settings.fast, "standard": settings.standard, "deep": settings.deep}
