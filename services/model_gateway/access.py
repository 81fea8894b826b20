"""What each provider is reached with: its key and its base URL."""

from __future__ import annotations

import os

from opswarm.guard.redaction import keep_secret
from opswarm.settings import Endpoint, Models, secret

OLLAMA = ("ollama", "ollama_chat")

_OLLAMA_DEFAULT = "http://127.0.0.1:11434"


def provider_of(model: str) -> str:
    """Who serves a model of this LiteLLM name. Ollama's two names are one."""
    provider = model.partition("/")[0]
    return "ollama" if provider in OLLAMA else provider


def anthropic_key(settings: Models) -> str | None:
    """The key, masked from now on in all that this process says. Raises `SettingsInvalid`, as the others do."""
    key = secret(settings.anthropic_api_key, settings.anthropic_api_key_file, "ANTHROPIC_API_KEY")
    keep_secret(key)
    return key


def openai_key(settings: Models) -> str | None:
    key = secret(settings.openai_api_key, settings.openai_api_key_file, "OPENAI_API_KEY")
    keep_secret(key)
    return key


def endpoint_key(endpoint: Endpoint) -> str | None:
    key = secret(endpoint.api_key, endpoint.api_key_file, "")
    keep_secret(key)
    return key


def ollama_base(settings: Models) -> str | None:
    """Ollama's base URL where one is configured."""
    return settings.ollama_api_base or os.environ.get("OLLAMA_API_BASE")


def api_base(provider: str, settings: Models) -> str | None:
    """The base URL to call `provider` at; None for its public one."""
    if provider in OLLAMA:
        return ollama_base(settings) or _OLLAMA_DEFAULT
    if provider in settings.endpoints:
        return settings.endpoints[provider].api_base
    return {"anthropic": settings.anthropic_api_base, "openai": settings.openai_api_base}.get(provider)
