"""The one module that knows LiteLLM. It is imported when the first real model is called."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from opswarm.errors import (
    ModelBusy,
    ModelContextTooLong,
    ModelFailed,
    ModelKeyRejected,
    ModelReplyInvalid,
    ModelUnknown,
    ModelUnreachable,
)
from opswarm.models.chat import CallPiece, ChatRequest, Piece, StopPiece, TextPiece, ToolCall, UsagePiece
from opswarm.settings import Models, secret
from services.model_gateway.tiers import ollama_base

log = logging.getLogger(__name__)

_import = asyncio.Lock()
_MAX_CALLS = 64


class Provider:
    """Calls models through LiteLLM with this installation's keys."""

    def __init__(self, settings: Models) -> None:
        self._settings = settings

    async def stream(self, request: ChatRequest, model: str) -> AsyncGenerator[Piece, None]:
        """The reply of `model`, a LiteLLM name. Raises a `ModelFailed` that a person can act on."""
        litellm = await _load()
        _declare(litellm, model)
        arguments = {**self._arguments(request, model), "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                chunks = await litellm.acompletion(**arguments)
            async with aclosing(_pieces(chunks, model, self._settings.timeout_seconds)) as pieces:
                async for piece in pieces:
                    yield piece
        except ModelFailed:
            raise
        except TimeoutError as error:
            raise ModelUnreachable(
                f"{model} was silent for {self._settings.timeout_seconds:.0f} s.",
                hint="Raise models.timeout_seconds, or use a smaller model.",
            ) from error
        except Exception as error:  # LiteLLM raises what its providers do; it is translated, never shown.
            log.warning("model %s failed: %s", model, type(error).__name__)
            raise translate(error, model) from error

    def _arguments(self, request: ChatRequest, model: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": model,
            "messages": [m.wire() for m in request.messages],
            "timeout": self._settings.timeout_seconds,
            "num_retries": 0,
            "max_retries": 0,
            **self._access(model),
        }
        if request.tools:
            arguments["tools"] = [t.wire() for t in request.tools]
        if request.schema is not None:
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": dict(request.schema), "strict": True},
            }
        if request.max_tokens is not None:
            arguments["max_tokens"] = request.max_tokens
        return arguments

    def _access(self, model: str) -> dict[str, Any]:
        """Key and base URL of the model's provider, given with the call so that they stay out of the environment."""
        settings = self._settings
        provider = model.partition("/")[0]
        found: dict[str, Any] = {}
        if provider == "anthropic":
            found["api_key"] = secret(settings.anthropic_api_key, settings.anthropic_api_key_file, "ANTHROPIC_API_KEY")
            found["api_base"] = settings.anthropic_api_base
            if not found["api_key"]:
                raise ModelKeyRejected("There is no Anthropic key.", hint="Set ANTHROPIC_API_KEY.")
        elif provider in ("ollama", "ollama_chat"):
            found["api_base"] = ollama_base(settings) or "http://127.0.0.1:11434"
            found["num_ctx"] = settings.ollama_num_ctx
        elif provider == "openai":
            found["api_key"] = secret(settings.openai_api_key, settings.openai_api_key_file, "OPENAI_API_KEY")
            found["api_base"] = settings.openai_api_base
            if not found["api_key"] and found["api_base"]:
                found["api_key"] = "none"
        return {k: v for k, v in found.items() if v is not None}


async def _load() -> Any:
    """LiteLLM, imported off the event loop, with its own cost map and no telemetry."""
    async with _import:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        litellm: Any = await asyncio.to_thread(importlib.import_module, "litellm")
        litellm.telemetry = False
        litellm.suppress_debug_info = True
        litellm.drop_params = True
        logging.getLogger("LiteLLM").setLevel(logging.ERROR)
        return litellm


def _declare(litellm: Any, model: str) -> None:
    """Enters an Ollama model in LiteLLM's map.

    For one that is not there LiteLLM asks Ollama's `/api/show` after each call, with a blocking request on the
    event loop (seen in 1.110), and everything else the gateway does would wait for it.
    """
    provider, _, name = model.partition("/")
    if provider in ("ollama", "ollama_chat") and f"ollama/{name}" not in litellm.model_cost:
        litellm.model_cost[f"ollama/{name}"] = {"litellm_provider": "ollama", "mode": "chat"}


async def _pieces(chunks: Any, model: str, silence: float) -> AsyncGenerator[Piece, None]:
    calls: dict[int, list[str]] = {}
    stopped = ""
    usage: Any = None
    source = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(silence):
                chunk = await anext(source)
        except StopAsyncIteration:
            break
        for choice in chunk.choices:
            if choice.delta.content:
                yield TextPiece(choice.delta.content)
            _collect(calls, choice.delta.tool_calls)
            stopped = choice.finish_reason or stopped
        usage = getattr(chunk, "usage", None) or usage
    for index, (identifier, name, arguments) in sorted(calls.items()):
        yield CallPiece(ToolCall(identifier or f"call_{index}", name, arguments or "{}"))
    if usage is not None:
        details = getattr(usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or getattr(usage, "cache_read_input_tokens", None) or 0
        yield UsagePiece(model, usage.prompt_tokens or 0, usage.completion_tokens or 0, cached)
    if not stopped:
        raise ModelReplyInvalid("The model's reply broke off in the middle.", hint="Ask again.")
    yield StopPiece("tool_calls" if calls else stopped, model)


def _collect(calls: dict[int, list[str]], fragments: Any) -> None:
    for fragment in fragments or ():
        index = fragment.index or 0
        if index not in calls and len(calls) >= _MAX_CALLS:
            raise ModelReplyInvalid("The model asked for too many tools at once.")
        parts = calls.setdefault(index, ["", "", ""])
        parts[0] = parts[0] or fragment.id or ""
        parts[1] = parts[1] or fragment.function.name or ""
        piece = fragment.function.arguments or ""
        parts[2] += piece if isinstance(piece, str) else json.dumps(piece)


def translate(error: Exception, model: str) -> ModelFailed:
    """A provider's exception as one of ours. Its text is not repeated: it may hold a key or the prompt."""
    import litellm.exceptions as known

    provider = model.partition("/")[0]
    local = provider in ("ollama", "ollama_chat")
    match error:
        case known.AuthenticationError() | known.PermissionDeniedError():
            return ModelKeyRejected(
                f"{provider} does not accept the key for {model}.", hint="Check the key in the gateway's settings."
            )
        case known.RateLimitError():
            return ModelBusy(
                f"{provider} limits the rate of {model}.", hint="Wait and ask again.", retry_after=_wait(error)
            )
        case known.ContextWindowExceededError():
            return ModelContextTooLong(f"The conversation is too long for {model}.", hint="Begin a new one.")
        case known.NotFoundError():
            hint = f"Run `ollama pull {model.partition('/')[2]}`." if local else "Check the model's name."
            return ModelUnknown(f"{provider} has no model {model}.", hint=hint)
        case known.Timeout():
            return ModelUnreachable(f"{provider} did not answer in time.", hint="Try again, or use a smaller model.")
        case known.ServiceUnavailableError() | known.InternalServerError() | known.APIConnectionError():
            return _unreachable(error, provider, model, local)
        case known.BadRequestError():
            if local and "does not support tools" in str(error):
                return ModelUnknown(f"{model} can't call tools.", hint="Choose one that can, such as qwen3.")
            return ModelFailed(f"{provider} refused the request to {model}.", hint="The gateway's log has its type.")
    return ModelFailed(f"The call of {model} failed.", hint="The gateway's log has the error's type.")


def _unreachable(error: Exception, provider: str, model: str, local: bool) -> ModelFailed:
    text = str(error).lower()
    if local and "not found" in text:
        return ModelUnknown(f"Ollama has no model {model}.", hint=f"Run `ollama pull {model.partition('/')[2]}`.")
    if local and "does not support tools" in text:
        return ModelUnknown(f"{model} can't call tools.", hint="Choose an Ollama model that can, such as qwen3.")
    if "overloaded" in text or getattr(error, "status_code", None) == 529:
        return ModelBusy(f"{provider} is overloaded.", hint="Wait and ask again.", retry_after=_wait(error))
    hint = "Is `ollama serve` running there?" if local else "Check the network and the provider's status page."
    return ModelUnreachable(f"{provider} can't be reached for {model}.", hint=hint)


def _wait(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
