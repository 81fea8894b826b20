"""The calls of docs/a2a.md, run as they stand there against a whole swarm on the lab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Machine, swarm_on_lab

PAGE = Path(__file__).parents[2] / "docs" / "a2a.md"
ADDRESS = "http://127.0.0.1:8700"
NODE_FOLDER = os.environ.get("A2A_JS", "")
"""A folder in which `npm install @a2a-js/sdk` was run; the tests download nothing."""

_BLOCK = re.compile(r"<!-- (?P<mark>.+?) -->\n```(?P<language>\w+)\n(?P<code>.*?)```\n", re.DOTALL)
_FENCE = re.compile(r"^```(sh|python|js)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    mark: str
    language: str
    code: str

    @property
    def says(self) -> list[str]:
        return self.mark.removeprefix("says:").split()


def blocks() -> list[Block]:
    return [Block(**m.groupdict()) for m in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


def setup() -> str:
    (found,) = (b.code for b in blocks() if b.mark == "setup")
    return found


RUN = [b for b in blocks() if b.mark.startswith("says:")]


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with swarm_on_lab(tmp_path_factory.mktemp("swarm")) as found:
        yield found


def address(swarm: Machine) -> str:
    found = re.search(r'"url": "(http://127\.0\.0\.1:\d+)"', (swarm.home / "state" / "run.json").read_text())
    assert found
    return found[1]


def shell(swarm: Machine, code: str, **more: str) -> str:
    """What a shell prints for the code, after the page's own setup at the address of this swarm."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{swarm.environment['PATH']}"
    script = f"set -euo pipefail\n{setup()}\n{code}".replace(ADDRESS, address(swarm))
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=swarm.home,
        env={**swarm.environment, "PATH": path, **more},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_call_on_the_page_is_run() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(_FENCE.findall(page)) == len(RUN) + 1
    assert [b.language for b in RUN] == ["sh"] * 4 + ["python", "js"]


@pytest.mark.parametrize("block", RUN, ids=lambda b: f"{b.language}{RUN.index(b)}")
def test_a_call_answers_as_the_page_says(swarm: Machine, block: Block) -> None:
    match block.language:
        case "sh":
            said = shell(swarm, block.code)
        case "python":
            (swarm.home / "ask.py").write_text(block.code)
            said = shell(swarm, f"{sys.executable} -W error ask.py")
        case _:
            said = shell(swarm, "node ask.mjs", NODE_PATH="") if _node(swarm, block) else ""
    compact = re.sub(r'(":) ', r"\1", said)
    assert [word for word in block.says if word not in compact] == [], said


def _node(swarm: Machine, block: Block) -> bool:
    if shutil.which("node") is None:
        pytest.skip("the JavaScript call needs node")
    modules = Path(NODE_FOLDER) / "node_modules"
    if not NODE_FOLDER or not (modules / "@a2a-js" / "sdk").is_dir():
        pytest.skip("the JavaScript call needs `npm install @a2a-js/sdk` in a folder, and A2A_JS=FOLDER")
    (swarm.home / "ask.mjs").write_text(block.code)
    (swarm.home / "node_modules").symlink_to(modules.resolve())
    return True
