"""A tool's arguments as they are typed: `KEY=VALUE`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from opswarm.errors import InvalidInput


def arguments(words: Sequence[str], known: Sequence[str] | None) -> dict[str, Any]:
    """The arguments, each value as JSON where it is that, else as text.

    `known` are the names that the tool takes, None for a tool that is not known. Raises `InvalidInput`.
    """
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{word!a} is not KEY=VALUE.")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    for name in given:
        if known is not None and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidInput(f"The tool has no argument {name!a}.{guess}", hint=f"It takes: {', '.join(known)}.")
    return given
