"""A key of no well-known shape is masked wherever the gateway speaks."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from opswarm.guard.redaction import MASK, keep_secret, redact
from opswarm.settings import Log, Models
from opswarm.telemetry import configure_logging
from services.model_gateway.app import create_app
from tests.services.model_gateway.gate import LITELLM_WARNS, gateway
from tests.support.hosting import serving, settings_at
from tests.support.scripted_models import Reply

pytestmark = LITELLM_WARNS


@pytest.fixture
def our_log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging(Log(level="INFO"))
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    lines = io.StringIO()
    handler.setStream(lines)
    yield lines
    root.handlers[:] = before
    root.setLevel(level)


async def test_a_key_that_is_echoed_is_masked_in_errors_and_logs(
    tmp_path: Path, our_log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "plainlookingkey123"
    reply = Reply(status=404, error=f"no model for {key}")
    async with gateway(tmp_path, reply, anthropic_api_key=key) as gate:
        whole = await gate.post(model=f"anthropic/{key}")
        streamed = await gate.post(model=f"anthropic/{key}", stream=True)
        for name in ("somebody.else", "LiteLLM"):
            logging.getLogger(name).error("the provider said: %s is bad", key)
        sent = gate.script.headers[0]["x-api-key"]
    assert sent == key
    assert whole.status_code == streamed.status_code == 404
    for shown in (whole.text, streamed.text, our_log.getvalue()):
        assert MASK in shown and key not in shown
    assert our_log.getvalue().count("is bad") == 2
    assert key not in "".join(capfd.readouterr())


@pytest.mark.parametrize("source", ["settings", "file", "environment"])
async def test_a_key_is_masked_from_the_start_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    key = f"plainkeyfrom{source}"
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    given = {"settings": {"openai_api_key": key}, "file": {"openai_api_key_file": file}}.get(source, {})
    if source == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", key)
    settings = settings_at(tmp_path).updated({"models": Models(**given)})
    async with serving(create_app(settings).app()) as url, httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/healthz")).status_code == 200
    assert redact(f"it was {key}!") == f"it was {MASK}!"


def test_a_longer_secret_is_masked_whole_and_a_stand_in_is_no_secret() -> None:
    keep_secret("longersecret")
    keep_secret("longersecretwithatail")
    keep_secret("ollama")
    keep_secret(None)
    assert redact("longersecretwithatail of ollama") == f"{MASK} of ollama"
