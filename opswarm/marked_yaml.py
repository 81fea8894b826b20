"""YAML whose every value remembers its line, and that holds nothing but plain data.

PyYAML's composer gives each node its mark; what it would make of nodes is not used. Refused are what a file of
settings has no need for and an attacker has: tags, anchors and aliases, keys given twice, deep nests, a second
document. Plain scalars are read as in YAML 1.2: `no` and `22:00` are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_BYTES = 262_144
_MOST_DEPTH = 24

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?")


class Problem(Exception):
    """What is wrong with the text itself. `line` counts from 1; 0 when it is the whole."""

    def __init__(self, line: int, said: str) -> None:
        super().__init__(said)
        self.line = line
        self.said = said


class Marked:
    """A document: its `value` as plain data, and the line that any part of it is on."""

    def __init__(self, value: Any, lines: Mapping[tuple[Any, ...], int]) -> None:
        self.value = value
        self._lines = lines

    def exact(self, path: Sequence[Any]) -> int | None:
        """The line of the key or item at `path`, None where there is none."""
        return self._lines.get(tuple(path))

    def line(self, path: Sequence[Any]) -> int:
        """The line of the key or item at `path`; of the nearest thing around it where that is not there."""
        for end in range(len(path), 0, -1):
            if (found := self._lines.get(tuple(path[:end]))) is not None:
                return found
        return self._lines.get((), 1)


def read(raw: bytes) -> Marked:
    """The document in `raw`. Raises `Problem`."""
    if len(raw) > MOST_BYTES:
        raise Problem(0, f"the file is larger than {MOST_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(raw.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from None
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Problem(mark.line + 1 if mark else 0, error.problem or "this is not YAML") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Problem(line, "there is a character that YAML does not allow") from None
    if node is None:
        raise Problem(0, "the file is empty")
    lines: dict[tuple[Any, ...], int] = {}
    return Marked(_value(node, (), lines), lines)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise Problem(line, "aliases are not allowed")
        if getattr(event, "anchor", None) is not None:
            raise Problem(line, "anchors are not allowed")
        if getattr(event, "tag", None) is not None:
            raise Problem(line, "tags are not allowed")
        if self.depth > _MOST_DEPTH:
            raise Problem(line, "this is nested too deep")
        self.depth += 1
        try:
            node: Node | None = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        return node


def _value(node: Node, path: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, ScalarNode):
        return _scalar(node)
    if isinstance(node, SequenceNode):
        return [_value(item, (*path, index), lines) for index, item in enumerate(node.value)]
    assert isinstance(node, MappingNode)
    found: dict[str, Any] = {}
    for key, inner in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, ScalarNode):
            raise Problem(line, "a key must be plain text")
        name = str(key.value)
        if name in found:
            raise Problem(line, f"the key {name!a} is given twice (first in line {lines[(*path, name)]})")
        lines[(*path, name)] = line
        found[name] = _value(inner, (*path, name), lines)
    return found


def _scalar(node: ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
