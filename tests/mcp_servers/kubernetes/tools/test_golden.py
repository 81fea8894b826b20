"""What a model reads of a cluster with four things broken, and what that costs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab.conftest import new_lab
from tests.mcp_servers.kubernetes.tools.bench import Bench, benched
from tests.support.golden import same

pytestmark = pytest.mark.asyncio(loop_scope="session")

GOLDEN = Path(__file__).parent / "golden"

ASKED: dict[str, tuple[str, dict[str, Any], int]] = {
    "diagnose": ("diagnose", {"namespace": "media"}, 1_500),
    "diagnose-one": ("diagnose", {"name": "sonarr"}, 450),
    "find": ("find", {"keyword": "sonarr"}, 400),
    "deployments": ("resources_list", {"kind": "deployments", "namespace": "media"}, 450),
    "deployment": ("resources_get", {"kind": "deployment", "name": "radarr", "namespace": "media"}, 1_200),
    "pods": ("pods_list", {"namespace": "media"}, 500),
    "top": ("pods_top", {"namespace": "media", "limit": 5}, 200),
    "events": ("events_list", {"namespace": "media", "name": "radarr", "limit": 5}, 300),
    "nodes": ("nodes_list", {}, 200),
    "namespaces": ("namespaces_list", {}, 120),
    "rollout": ("rollout_status", {"name": "radarr", "namespace": "media"}, 200),
    "history": ("rollout_history", {"name": "radarr", "namespace": "media"}, 120),
    "lineage": ("lineage", {"kind": "deployment", "name": "radarr", "namespace": "media"}, 200),
}
"""By file: the tool, its arguments, and the most tokens that its answer may take."""

_PASSING = (
    (re.compile(r"\b(?:\d+[ywdhs]|\d+m(?=\d+s|\b(?! of)))+(?: ago)?\b"), "AGE"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ][\d:.]+Z?"), "TIME"),
    (re.compile(r"(?<=\S)(?:  +)"), "  "),
)
"""What is another each time, and the widths of columns that follow from it."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A cluster that stands at the same moment in every run."""
    lab, _ = new_lab("oom", "init-failing", "image-typo", "app-crash")
    async with benched(tmp_path_factory.mktemp("still"), lab=lab) as made:
        yield made


@pytest.mark.parametrize("name", sorted(ASKED))
async def test_a_model_reads(still: Bench, name: str) -> None:
    tool, arguments, most = ASKED[name]
    said = (await still.say(tool, **arguments)).text
    for pattern, instead in _PASSING:
        said = pattern.sub(instead, said)
    same(GOLDEN / f"{name}.txt", said, most)
