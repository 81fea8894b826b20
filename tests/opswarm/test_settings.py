from __future__ import annotations

from pathlib import Path

import pytest

from opswarm.errors import SettingsInvalid
from opswarm.settings import load
from opswarm.settings_page import fields, page

ROOT = Path(__file__).parents[2]


def test_every_setting_says_what_it_is() -> None:
    assert [f"{s}.{n}" for s, n, field in fields() if not field.description] == []


def test_the_settings_page_is_complete() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opswarm.yaml").write_text("models: {standard: a/b, fast: c/d}\nlab: {scenarios: [oom]}\n")
    monkeypatch.setenv("OPSWARM_MODELS__STANDARD", "e/f")
    monkeypatch.setenv("OPSWARM_MODELS__DEEP", "g/h, auto")
    read = load()
    assert (read.models.standard, read.models.fast, read.lab.scenarios) == (("e/f",), ("c/d",), ("oom",))
    assert read.models.deep == ("g/h", "auto")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("modles: {standard: x}", "modles"),
        ("turn: {max_steps: many}", "turn.max_steps"),
        ("turn: {max_steps: 0}", "turn.max_steps"),
        ("a: [", "opswarm.yaml"),
        ("just text", "opswarm.yaml"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_the_field(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "opswarm.yaml").write_text(content)
    with pytest.raises(SettingsInvalid, match=told):
        load()


@pytest.mark.parametrize("text", ["oom,image-typo", " oom , image-typo ", '["oom", "image-typo"]'])
def test_scenarios_in_a_variable_are_listed_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OPSWARM_LAB__SCENARIOS", text)
    assert load().lab.scenarios == ("oom", "image-typo")


@pytest.mark.parametrize("text", ["", "none", "[]"])
def test_no_scenario_is_a_healthy_lab(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OPSWARM_LAB__SCENARIOS", text)
    assert load().lab.scenarios == ()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("OPSWARM_ADDRESSES", "OPSWARM_ADDRESSES"),
        ("OPSWARM_ORCHESTRATOR__AGENTS", "OPSWARM_ORCHESTRATOR__AGENTS"),
        ("OPSWARM_LAB", "OPSWARM_LAB"),
        ("OPSWARM_LAB__SCENARIOS", "lab.scenarios"),
    ],
)
def test_a_variable_that_is_not_json_is_named_and_not_the_file(
    monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.setenv(name, "[hunter22")
    with pytest.raises(SettingsInvalid) as caught:
        load()
    assert told in str(caught.value)
    assert "opswarm.yaml" not in str(caught.value) and "hunter22" not in str(caught.value)


def test_a_bad_file_is_named_as_the_person_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    monkeypatch.setenv("OPSWARM_CONFIG", "mine.yaml")
    with pytest.raises(SettingsInvalid, match=r"in mine\.yaml"):
        load()


def test_a_bad_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWARM_TURN__MAX_STEPS", "hunter22")
    with pytest.raises(SettingsInvalid) as caught:
        load()
    assert "hunter22" not in str(caught.value)


def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWARM_CONFIG", "/no/such/file")
    with pytest.raises(SettingsInvalid, match="/no/such/file"):
        load()


def test_a_key_masks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSWARM_MODELS__ANTHROPIC_API_KEY", "hunter22hunter22")
    assert "hunter22" not in repr(load())


def test_addresses_default_to_each_services_own_port() -> None:
    read = load(addresses={"devops": "http://devops:8080/"})
    assert read.address("devops") == "http://devops:8080"
    assert read.address("gateway") == "http://127.0.0.1:8704"
    with pytest.raises(SettingsInvalid, match=r"addresses\.nobody"):
        read.address("nobody")
