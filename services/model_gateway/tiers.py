"""Which model a request gets: tiers to LiteLLM model names."""

from __future__ import annotations

import os

from opswarm.errors import ModelUnknown
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.settings import Models, secret

TIERS = ("fast", "standard", "deep")

_ANTHROPIC = {
    "fast": "anthropic/claude-haiku-5-5",
    "standard": "anthropic/claude-sonnet-5-5",
    "deep": "anthropic/claude-opus-5-5",
}
"""Used where a tier is `auto` and an Anthropic key is there."""

_OLLAMA = "ollama_chat/qwen3:8b"
"""Used where a tier is `auto` and only Ollama is configured: small, and trained for tool calls."""


def ollama_base(settings: Models) -> str | None:
    return settings.ollama_api_base or os.environ.get("OLLAMA_API_BASE")


def resolve(model: str, settings: Models) -> str:
    """The LiteLLM model name for a tier, or the name itself.

    A tier that is `auto` is Claude where a key is configured, else Ollama where an address is, else the offline
    playbook. Raises `ModelUnknown` for what is neither a tier nor a `provider/model`.
    """
    if model in TIERS:
        chosen = {"fast": settings.fast, "standard": settings.standard, "deep": settings.deep}[model]
        if chosen != "auto":
            return chosen
        if secret(settings.anthropic_api_key, settings.anthropic_api_key_file, "ANTHROPIC_API_KEY"):
            return _ANTHROPIC[model]
        return _OLLAMA if ollama_base(settings) else PLAYBOOK
    if "/" not in model or len(model) > 200:
        raise ModelUnknown(
            "That is neither a tier nor a model name.",
            hint=f"Use {', '.join(TIERS)}, or a LiteLLM name such as anthropic/claude-sonnet-5-5.",
        )
    return model
