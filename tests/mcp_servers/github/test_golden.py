"""What a model reads of a repository, and what that costs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lab.github.state import Release, Review
from tests.mcp_servers.github.stage import OWNER, RELEASE, Stage
from tests.support.golden import same

GOLDEN = Path(__file__).parent / "golden"

ASKED: dict[str, tuple[str, dict[str, Any], int]] = {
    "pulls": ("pulls_list", {}, 80),
    "pull": ("pull_get", {"number": 1}, 130),
    "files": ("pull_files", {"number": 1}, 90),
    "checks": ("pull_checks", {"number": 1}, 80),
    "reviews": ("pull_reviews", {"number": 1}, 80),
    "compare": ("commits_compare", {"base": "main", "head": "renovate/jellyfin"}, 100),
    "file": ("file_get", {"path": RELEASE}, 40),
    "tree": ("tree_list", {"path": "kubernetes/apps", "recursive": True}, 60),
    "releases": ("release_notes", {"repo": "", "from_version": "1.0.0", "to_version": "1.2"}, 80),
    "runs": ("runs_list", {}, 70),
    "failures": ("run_failures", {"run": 0, "lines": 5}, 130),
    "search": ("github_search", {"query": "jellyfin"}, 80),
}
"""By file: the tool, its arguments, and the most tokens that its answer may take."""

_PASSING = ((re.compile(r"\b[0-9a-f]{40}\b"), "SHA"), (re.compile(r"\b[0-9a-f]{7,10}\b"), "SHA"),
            (re.compile(r"\b20\d\d-\d\d-\d\d(?:[T ][\d:.]+Z?)?"), "DATE"))  # fmt: skip


@pytest.mark.parametrize("name", sorted(ASKED))
async def test_a_model_reads(stage: Stage, name: str) -> None:
    tool, arguments, most = ASKED[name]
    pull = stage.bump()
    stage.hub.check(pull.head_sha, "lint", "success")
    stage.hub.check(pull.head_sha, "flux-diff", "failure", title="1 object fails")
    stage.hub.status(pull.head_sha, "policy", "pending")
    pull.reviews.append(Review(1, OWNER, "Please wait.", "CHANGES_REQUESTED", pull.head_sha, "2026-01-01T00:00:00Z"))
    for number, tag in enumerate(["v1.0.0", "v1.1.0", "v1.2.0"]):
        stage.hub.releases.append(Release(number, tag, tag, f"Notes of {tag}", f"2026-01-0{number + 1}T00:00:00Z"))
    log = "\n".join(["Error: early trouble", *(f"line {n}" for n in range(50)), "the end"])
    run = stage.hub.run("renovate/jellyfin", "Lint", "failure", step="kubeconform", log=log)
    if "run" in arguments:
        arguments = {**arguments, "run": run.id}
    said = await stage.text(tool, **arguments)
    for pattern, instead in _PASSING:
        said = pattern.sub(instead, said)
    same(GOLDEN / f"{name}.txt", said, most)
