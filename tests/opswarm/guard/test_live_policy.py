"""The policy in force while its file changes under it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from opswarm.errors import PolicyInvalid, Unavailable
from opswarm.guard.live_policy import LivePolicy, live_policy
from opswarm.guard.policy import DEFAULT
from opswarm.guard.risk import Level
from tests.support.hosting import settings_at


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


SAFE = "autonomy: {default: safe}\n"
OBSERVE = "autonomy: {default: observe}\n"


def level(live: LivePolicy) -> Level:
    return live().autonomy.default


def test_a_changed_policy_counts_within_a_second(tmp_path: Path) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(SAFE)
    live = LivePolicy(file, clock=clock)
    assert level(live) is Level.SAFE
    file.write_text(OBSERVE)
    clock.now += 0.5
    assert level(live) is Level.SAFE
    clock.now += 0.5
    assert level(live) is Level.OBSERVE and live.trouble == ""


async def test_a_broken_policy_keeps_the_old_one_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(OBSERVE)
    live = LivePolicy(file, clock=clock)
    for broken in ("autonomy: {default: everything}\n", "autonomy: [\n", ""):
        caplog.clear()
        file.write_text(broken)
        for _ in range(3):
            clock.now += 1
            assert level(live) is Level.OBSERVE
        with pytest.raises(Unavailable, match=r"changed policy is not used: .*policy\.yaml"):
            await live.check()
        assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    file.write_text(SAFE)
    clock.now += 1
    await live.check()
    assert level(live) is Level.SAFE


def test_trouble_is_seen_without_a_call_in_between(tmp_path: Path) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(SAFE)
    live = LivePolicy(file, clock=clock)
    file.write_text("oops: 1\n")
    clock.now += 1
    assert "oops" in live.trouble


def test_a_policy_that_goes_away_keeps_counting(tmp_path: Path) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    file.write_text(OBSERVE)
    live = LivePolicy(file, clock=clock)
    file.unlink()
    clock.now += 1
    assert level(live) is Level.OBSERVE and "no such file" in live.trouble
    file.write_text(SAFE)
    clock.now += 1
    assert level(live) is Level.SAFE and live.trouble == ""


def test_without_a_file_the_defaults_count_until_there_is_one(tmp_path: Path) -> None:
    file, clock = tmp_path / "policy.yaml", Clock()
    live = LivePolicy(file, clock=clock)
    assert live() == DEFAULT and live.trouble == ""
    file.write_text("oops: 1\n")
    clock.now += 1
    assert live() == DEFAULT and "oops" in live.trouble
    file.write_text(OBSERVE)
    clock.now += 1
    assert level(live) is Level.OBSERVE


def test_a_broken_policy_at_start_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("autonomy: {default: everything}\n")
    with pytest.raises(PolicyInvalid, match=r"policy\.yaml:1: autonomy\.default"):
        LivePolicy(file)
    file.unlink()
    file.symlink_to(tmp_path / "gone")
    with pytest.raises(PolicyInvalid, match="no such file"):
        LivePolicy(file)


def test_a_configmap_is_followed_through_its_links(tmp_path: Path) -> None:
    clock = Clock()
    for version, text in (("v1", SAFE), ("v2", OBSERVE)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "policy.yaml").write_text(text)
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "policy.yaml").symlink_to("data/policy.yaml")
    live = LivePolicy(tmp_path / "policy.yaml", clock=clock)
    assert level(live) is Level.SAFE
    (tmp_path / "next").symlink_to("v2")
    os.replace(tmp_path / "next", tmp_path / "data")
    clock.now += 1
    assert level(live) is Level.OBSERVE


def test_a_policy_that_the_settings_name_must_be_there(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    assert live_policy(settings)() == DEFAULT
    (tmp_path / "policy.yaml").write_text(OBSERVE)
    assert level(live_policy(settings)) is Level.OBSERVE
    with pytest.raises(PolicyInvalid, match="not there"):
        live_policy(settings.updated({"policy_file": tmp_path / "other.yaml"}))
