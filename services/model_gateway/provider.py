"""The one module that knows LiteLLM. It is imported when the first real model is called."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

from opswarm.errors import (
    ModelBusy,
    ModelContextTooLong,
    ModelFailed,
    ModelKeyRejected,
    ModelReplyInvalid,
    ModelUnknown,
    ModelUnreachable,
    OpswarmError,
)
from opswarm.models.chat import ChatRequest, Message, Piece, ToolCall
from opswarm.models.chunks import Reply, read_chunk
from opswarm.settings import Models
from services.model_gateway.access import OLLAMA, anthropic_key, api_base, endpoint_key, openai_key, provider_of
from services.model_gateway.structured import Mode

log = logging.getLogger(__name__)

_import = asyncio.Lock()
_loaded: list[Any] = []

_MOST_WAIT = 86_400.0
_CLOSE_SECONDS = 1.0
_SLACK_SECONDS = 15.0
"""How much longer than this module LiteLLM waits: it calls a model that is silent midway a broken network."""


class Provider:
    """Calls models through LiteLLM with this installation's keys."""

    def __init__(self, settings: Callable[[], Models]) -> None:
        self._read = settings

    @property
    def _settings(self) -> Models:
        return self._read()

    async def prepare(self) -> None:
        """Imports LiteLLM, which takes seconds the first time."""
        await _load()

    async def modes(self, model: str) -> tuple[Mode, ...]:
        """How `model` can be held to a JSON schema, the best first."""
        litellm = await _load()
        provider = provider_of(model)
        known = self._known_as(model)
        if provider in ("openai", "ollama", *self._settings.endpoints) or litellm.supports_response_schema(known):
            return Mode.NATIVE, Mode.TOOL
        return (Mode.TOOL, Mode.WORDS)

    async def stream(
        self, request: ChatRequest, model: str, wrote: Callable[[int], None]
    ) -> AsyncGenerator[Piece, None]:
        """The reply of `model`, a LiteLLM name. Raises a `ModelFailed` that a person can act on.

        `wrote` is told how many characters came with each chunk, also of what becomes a piece only at the end or
        never; what it raises ends the reply.
        """
        litellm = await _load()
        arguments = {**self._arguments(request, model), "stream": True, "stream_options": {"include_usage": True}}
        silence = self._settings.timeout_seconds
        first_by = asyncio.get_running_loop().time() + silence
        try:
            async with asyncio.timeout_at(first_by):
                chunks = await litellm.acompletion(**arguments)
            async with aclosing(_pieces(chunks, model, silence, first_by, wrote)) as pieces:
                async for piece in pieces:
                    yield piece
        except OpswarmError:
            raise
        except TimeoutError as error:
            raise ModelUnreachable(
                f"{model} was silent for {silence:.0f} s.",
                hint="Raise models.timeout_seconds, or use a smaller model.",
            ) from error
        except Exception as error:  # LiteLLM raises what its providers do; it is translated, never shown.
            log.warning("model %s failed: %s", model, type(error).__name__)
            raise translate(error, model) from error

    def _arguments(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body = replace(request, model=self._known_as(model), messages=tuple(map(_sendable, request.messages))).wire()
        if provider_of(model) == "anthropic":
            _cache(body)
        return {
            **body,
            "timeout": self._settings.timeout_seconds + _SLACK_SECONDS,
            "num_retries": 0,
            "max_retries": 0,
            **self._access(model),
        }

    def _access(self, model: str) -> dict[str, Any]:
        """Key and base URL of the model's provider, given with the call so that they stay out of the environment."""
        provider = model.partition("/")[0]
        found: dict[str, Any] = {"api_base": api_base(provider, self._settings)}
        if (endpoint := self._settings.endpoints.get(provider)) is not None:
            found["api_key"] = endpoint_key(endpoint) or "none"
        elif provider == "anthropic":
            found["api_key"] = anthropic_key(self._settings)
            if not found["api_key"]:
                raise ModelKeyRejected("There is no Anthropic key.", hint="Set ANTHROPIC_API_KEY.")
        elif provider in OLLAMA:
            found["num_ctx"] = self._settings.ollama_num_ctx
        elif provider == "openai":
            found["api_key"] = openai_key(self._settings) or ("none" if found["api_base"] else None)
        return {k: v for k, v in found.items() if v is not None}


    def _known_as(self, model: str) -> str:
        """The name by which LiteLLM knows the model: at an endpoint of one's own it is one of OpenAI's kind."""
        provider, _, name = model.partition("/")
        return f"openai/{name}" if provider in self._settings.endpoints else model


def _cache(body: dict[str, Any]) -> None:
    """Marks where Anthropic may cache the prompt: behind the tools and the system message, and behind the newest
    message, so that the next step of a turn reads all that came before it from the cache."""
    mark = {"type": "ephemeral"}
    messages = body["messages"]
    first = next((m for m in messages if m["role"] == "system"), None)
    for message in {id(m): m for m in (first, messages[-1]) if m is not None}.values():
        if isinstance(message["content"], str) and message["content"]:
            message["content"] = [{"type": "text", "text": message["content"], "cache_control": mark}]


def _sendable(message: Message) -> Message:
    """The message with no tool arguments but objects: LiteLLM fails on others for Anthropic and Ollama."""

    def mended(call: ToolCall) -> ToolCall:
        try:
            call.parsed()
        except ModelReplyInvalid:
            return replace(call, arguments="{}")
        return call

    return replace(message, tool_calls=tuple(map(mended, message.tool_calls)))


async def _load() -> Any:
    """LiteLLM, imported off the event loop, with its own cost map and no telemetry."""
    if _loaded:
        return _loaded[0]
    async with _import:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        try:
            litellm: Any = await asyncio.to_thread(_imported)
        except ModuleNotFoundError as error:
            raise ModelFailed(
                "LiteLLM is not installed, so only the offline playbook can answer.",
                hint="Install it: pip install 'opswarm[gateway]'.",
            ) from error
        _keep_off_the_wire()
        litellm.telemetry = False
        litellm.suppress_debug_info = True
        litellm.drop_params = True
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).handlers.clear()  # They write past our log, where keys are masked.
        logging.getLogger("LiteLLM").setLevel(logging.ERROR)
        _loaded[:] = [litellm]
        return litellm


def _imported() -> Any:
    """LiteLLM, and what came with it kept from garbage collection: looking at it held up all streams for 0.25 s."""
    litellm = importlib.import_module("litellm")
    gc.collect()
    gc.freeze()
    return litellm


def _keep_off_the_wire() -> None:
    """Keeps LiteLLM from asking Ollama's `/api/show` for models that are not in its map.

    It does that after each call, with a blocking request on the event loop and ten minutes of patience (seen in
    1.110), by the name that the reply gives; everything else the gateway does would wait for it.
    """
    ollama: Any = importlib.import_module("litellm.llms.ollama.common_utils").OllamaModelInfo
    ollama.get_model_info = _nothing_more


def _nothing_more(self: Any, model: str, api_base: str | None = None, api_key: str | None = None) -> None:
    """Of an Ollama model its map is believed, where it is in it."""


async def _pieces(
    chunks: Any, model: str, silence: float, first_by: float, wrote: Callable[[int], None]
) -> AsyncGenerator[Piece, None]:
    reply = Reply(model)
    source = aiter(chunks)
    deadline = first_by
    try:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    chunk = await anext(source)
            except StopAsyncIteration:
                break
            read = read_chunk(chunk)
            wrote(read.written)
            for piece in reply.add(read):
                yield piece
            if reply.whole:
                break  # Asked for more, LiteLLM would put the reply together and log it, for nobody.
            deadline = asyncio.get_running_loop().time() + silence
    finally:
        await _hung_up(chunks)
    for piece in reply.end():
        yield piece


async def _hung_up(chunks: Any) -> None:
    """Ends the provider's stream at once: left to itself it goes on, and costs, until it is collected."""
    if (close := getattr(chunks, "aclose", None)) is not None:
        await asyncio.wait({asyncio.create_task(close())}, timeout=_CLOSE_SECONDS)


def translate(error: Exception, model: str) -> ModelFailed:
    """A provider's exception as one of ours. Its text is not repeated: it may hold a key or the prompt."""
    import litellm.exceptions as known

    provider = model.partition("/")[0]
    local = provider in OLLAMA
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
    if _is_defect(error):
        return _unreadable(provider, model)
    return ModelFailed(f"The call of {model} failed.", hint="The gateway's log has the error's type.")


def _unreachable(error: Exception, provider: str, model: str, local: bool) -> ModelFailed:
    text = str(error).lower()
    if local and "not found" in text:
        return ModelUnknown(f"Ollama has no model {model}.", hint=f"Run `ollama pull {model.partition('/')[2]}`.")
    if local and "does not support tools" in text:
        return ModelUnknown(f"{model} can't call tools.", hint="Choose an Ollama model that can, such as qwen3.")
    if "overloaded" in text or getattr(error, "status_code", None) == 529:
        return ModelBusy(f"{provider} is overloaded.", hint="Wait and ask again.", retry_after=_wait(error))
    if _is_defect(error):
        return _unreadable(provider, model)
    hint = "Is `ollama serve` running there?" if local else "Check the network and the provider's status page."
    return ModelUnreachable(f"{provider} can't be reached for {model}.", hint=hint)


def _unreadable(provider: str, model: str) -> ModelFailed:
    return ModelReplyInvalid(f"{provider} sent a reply of {model} that can't be read.", hint="Ask again.")


def _is_defect(error: BaseException) -> bool:
    """Whether LiteLLM stumbled over what it was sent. It says so as if there had been no connection."""
    inner: BaseException | None = error
    seen: list[BaseException] = []
    while isinstance(inner, BaseException) and inner not in seen:
        seen.append(inner)
        inner = getattr(inner, "original_exception", None) or inner.__cause__ or inner.__context__
    return isinstance(seen[-1], TypeError | AttributeError | LookupError | ValueError)


def _wait(error: Exception) -> float | None:
    """Seconds after which the provider wants to be asked again, as it said: a number or an HTTP date (RFC 9110)."""
    for source in (error, getattr(error, "response", None)):
        headers: Mapping[str, str] = getattr(source, "litellm_response_headers", None) or getattr(source, "headers", {})
        if value := (headers or {}).get("retry-after"):
            return _seconds(str(value))
    return None


def _seconds(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        try:
            found = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(found, 0.0), _MOST_WAIT) if math.isfinite(found) else None
