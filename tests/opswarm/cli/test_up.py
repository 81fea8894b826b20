from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from opswarm.cli import running
from opswarm.cli.running import Look, Running
from tests.e2e.conftest import machine
from tests.support.hosting import settings_at

LAB = Look(scenarios=("oom", "image-typo"))
MINE = Look(context="mine", kubeconfig="/k")


def runs(look: Look) -> Running:
    return Running(os.getpid(), "http://127.0.0.1:8700", "a cluster", (), look)


@pytest.mark.parametrize(
    ("look", "asked", "port"),
    [
        (LAB, Look(), None),
        (LAB, Look(scenarios=("image-typo", "oom")), 0),
        (LAB, Look(), 8700),
        (Look(scenarios=()), Look(scenarios=()), None),
        (MINE, Look(), None),
        (MINE, Look(context="mine"), None),
        (MINE, Look(context="mine", kubeconfig="/k"), 8700),
    ],
)
def test_what_is_asked_for_is_what_runs(look: Look, asked: Look, port: int | None) -> None:
    assert not runs(look).is_other(asked, port)


@pytest.mark.parametrize(
    ("look", "asked", "port"),
    [
        (LAB, Look(context="mine"), None),
        (LAB, Look(kubeconfig="/k"), None),
        (LAB, Look(scenarios=("oom",)), None),
        (LAB, Look(scenarios=()), None),
        (LAB, Look(), 8701),
        (MINE, Look(context="other"), None),
        (MINE, Look(context="mine", kubeconfig="/other"), None),
        (MINE, Look(scenarios=()), None),
        (MINE, Look(scenarios=("oom",)), None),
    ],
)
def test_what_is_asked_for_is_something_else(look: Look, asked: Look, port: int | None) -> None:
    assert runs(look).is_other(asked, port)


def test_the_file_of_an_older_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_healthy", lambda url: True)
    settings = settings_at(tmp_path)
    body = {"pid": os.getpid(), "url": "http://127.0.0.1:1", "cluster": "lab (oom)", "rows": []}
    (tmp_path / "run.json").write_text(json.dumps(body))
    found = running.find(settings)
    assert found is not None and found.look == Look()
    running.write(settings, runs(LAB))
    found = running.find(settings)
    assert found is not None and not found.is_other(LAB, None)


def test_another_choice_than_what_runs_is_refused_and_the_same_is_shown(tmp_path: Path) -> None:
    here = machine(tmp_path / "home")
    process = here.start("up", "--scenario", "none")
    assert process.stdout is not None
    assert "SERVICE" in process.stdout.readline()
    try:
        for words in (("--context", "other"), ("--kubeconfig", "/k"), ("--scenario", "oom"), ("--port", "9")):
            refused = here.run("up", *words)
            assert refused.returncode == 2, words
            assert refused.stderr == (
                "A swarm looking at lab (none, all is well) runs already. `opswarm down` first.\n"
            )
        for words in ((), ("--scenario", "none"), ("--detach",)):
            same = here.run("up", *words)
            assert same.returncode == 0 and "runs already" in same.stderr and "SERVICE" in same.stdout
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
