"""A whole swarm as a person starts it: one process, the lab behind it, real HTTP everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BARE = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Machine:
    """A home folder, and the command line run in it."""

    home: Path
    extra: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in BARE}
        return {
            **kept,
            "HOME": str(self.home),
            "OPSWARM_HOME": str(self.home / "state"),
            "OPSWARM_SERVER__PORT": "0",
            "OPSWARM_METRICS__PORT": "0",
            "OPSWARM_LAB__PORT": "0",
            "OPSWARM_LAB__BESIDE": "github",
            **self.extra,
        }

    def run(self, *arguments: str, seconds: float = 60, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "opswarm.cli.main", *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            input=text,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "opswarm.cli.main", *arguments],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def machine(home: Path, **extra: str) -> Machine:
    home.mkdir(parents=True, exist_ok=True)
    return Machine(home, extra)


@contextmanager
def swarm_on_lab(home: Path) -> Iterator[Machine]:
    """A swarm on the lab with two things broken, up and ready."""
    found = machine(home)
    up = found.run("up", "--detach", "--scenario", "oom,image-typo")
    assert up.returncode == 0, up.stderr + up.stdout
    yield found
    found.run("down")


@pytest.fixture(scope="session")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with swarm_on_lab(tmp_path_factory.mktemp("swarm")) as found:
        yield found
