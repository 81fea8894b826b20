"""A tool's arguments as they are typed: `KEY=VALUE`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from opswarm.errors import InvalidInput


def arguments(words: Sequence[str], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments, each value as JSON where it is that, else as text; as text, too, where that is what is wanted.

    `known` are the JSON schemas of what the tool takes, by name, None for a tool that is not known. Raises
    `InvalidInput`.
    """
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{word!a} is not KEY=VALUE.")
        given[name] = _value(value, known.get(name) if known is not None else None)
    for name in given:
        if known is not None and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidInput(f"The tool has no argument {name!a}.{guess}", hint=f"It takes: {', '.join(known)}.")
    return given


def _value(text: str, schema: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    is_text = isinstance(schema, Mapping) and schema.get("type") == "string"
    return text if is_text and not isinstance(value, str) else value  # `version=1.10` is no number.
