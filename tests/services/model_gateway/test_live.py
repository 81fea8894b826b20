"""Which model stands behind a tier, changed while the gateway runs; and endpoints of one's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from opswarm.reload import LiveSettings
from opswarm.settings import Endpoint, load
from tests.services.model_gateway.gate import LITELLM_WARNS, gateway, text
from tests.support.hosting import free_port, serving
from tests.support.scripted_models import Reply, Script, openai

pytestmark = LITELLM_WARNS


def test_a_changed_file_counts_and_a_bad_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "opswarm.yaml"
    file.write_text("models: {standard: a/b}\n")
    monkeypatch.setenv("OPSWARM_CONFIG", str(file))
    now = [0.0]
    live = LiveSettings(load(home=tmp_path), ("models",), clock=lambda: now[0])
    assert live().models.standard == ("a/b",)
    file.write_text("models: {standard: [c/d, auto]}\nturn: {max_steps: 3}\n")
    assert live().models.standard == ("a/b",), "it is looked at once a second"
    now[0] += 2
    assert live().models.standard == ("c/d", "auto")
    assert live().turn.max_steps == 12, "other sections wait for a restart"
    file.write_text("models: {standrad: oops}\n")
    now[0] += 2
    assert live().models.standard == ("c/d", "auto") and "standrad" in live.trouble
    replaced = tmp_path / "next.yaml"
    replaced.write_text("models: {standard: e/f}\n")
    os.replace(replaced, file)
    now[0] += 2
    assert live().models.standard == ("e/f",) and live.trouble == ""


def test_a_file_that_comes_later_counts_too(tmp_path: Path) -> None:
    now = [0.0]
    live = LiveSettings(load(home=tmp_path), ("models",), clock=lambda: now[0])
    (tmp_path / "opswarm.yaml").write_text("models: {standard: a/b}\n")
    now[0] += 2
    assert live().models.standard == ("a/b",)


async def test_a_running_gateway_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "opswarm.yaml"
    file.write_text("models: {fast: a/b}\n")
    monkeypatch.setenv("OPSWARM_CONFIG", str(file))
    monkeypatch.setattr("opswarm.reload._LOOK_SECONDS", 0.0)
    async with gateway(tmp_path) as gate:
        file.write_text("models: {fast: offline/playbook}\n")
        listed = {m["id"]: m["root"] for m in (await gate.http.get("/v1/models")).json()["data"]}
        assert listed["fast"] == "offline/playbook"
        file.write_text("models: [\n")
        ready = (await gate.http.get("/readyz")).json()
        assert "changed settings are not used" in ready["checks"]["models"]
        assert "offline playbook" in text(await gate.ask("fast"))


async def test_an_endpoint_of_ones_own_is_called_with_its_key(tmp_path: Path) -> None:
    port = free_port()
    mine = {"vllm": Endpoint(api_base=f"http://127.0.0.1:{port}/v1", api_key=SecretStr("sk-mine-123456"))}
    script = Script([Reply(text=("hi",))])
    async with serving(openai(script), port), gateway(tmp_path, endpoints=mine) as gate:
        assert text(await gate.ask("vllm/qwen/qwen3-8b")) == "hi"
    assert script.requests[0]["model"] == "qwen/qwen3-8b"
    assert script.headers[0]["authorization"] == "Bearer sk-mine-123456"
