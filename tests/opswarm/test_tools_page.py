"""docs/tools.md is what the tools say."""

from __future__ import annotations

from pathlib import Path

from opswarm.cli.registry import declared_tools
from opswarm.tools_page import page

ROOT = Path(__file__).parents[2]


def test_the_page_of_tools_is_complete() -> None:
    text = page()
    assert (ROOT / "docs" / "tools.md").read_text(encoding="utf-8") == text, "run `make docs`"
    for name in declared_tools():
        assert f"| `{name}` |" in text
    for line in text.splitlines():
        if line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == 6, line
