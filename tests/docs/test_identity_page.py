"""What the identity page tells people to write can be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from opswarm.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")
EXAMPLES = [e for e in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if e.startswith("# opswarm.yaml")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_settings(example: str) -> None:
    assert load(**yaml.safe_load(example)).identity != load().identity


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


def test_every_setting_that_is_named_exists() -> None:
    for section, name in re.findall(r"`(identity|control)\.(?!json)([a-z_]+)", PAGE):
        assert name in type(getattr(load(), section)).model_fields
