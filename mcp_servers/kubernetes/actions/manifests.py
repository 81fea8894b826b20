"""Reading a manifest from text that anybody may have written: one object of plain data, or a sentence why not.

What two readers could read differently is refused, so that what is previewed is what is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.marked_yaml import Problem, read

MOST_BYTES = 65_536
_MOST_DEPTH = 24
_META = frozenset({"name", "namespace", "labels", "annotations"})
_FOREIGN = ("fluxcd.io", "argoproj.io", "helm.sh", "cattle.io", "opswarm.dev")
_AMBIGUOUS = re.compile(
    r"[-+]?0[0-9_]+|[-+]?0[xob][0-9a-fA-F_]+|yes|no|on|off|y|n|<<|=|[-+]?[0-9]+(_[0-9]+)+|[-+]?[0-9]+(:[0-9]+)+", re.I
)
"""Plain scalars that YAML 1.1, which the cluster's own tools speak, does not read as YAML 1.2 does."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as it was given. `group` is "" for the core API."""

    body: Mapping[str, Any]
    group: str
    version: str
    kind: str
    namespace: str
    name: str


def read_manifest(text: str) -> Manifest:
    """The one object in `text`, YAML or JSON. Raises `InvalidInput` with one sentence."""
    if len(text.encode("utf-8", errors="replace")) > MOST_BYTES:
        raise InvalidInput(f"The manifest is larger than {MOST_BYTES} bytes.")
    text = text.replace("\r\n", "\n")
    if clean(text) != text:
        raise InvalidInput("The manifest has invisible or control characters in it.")
    body = _json(text) if text.lstrip().startswith("{") else _yaml(text)
    if not isinstance(body, dict):
        raise InvalidInput("The manifest is not an object with apiVersion, kind and metadata.")
    for value in _texts(body, 0):
        # An escape is as invisible as what it stands for.
        if clean(value) != value:
            raise InvalidInput("The manifest has invisible or control characters in it.")
    return _manifest(body)


def _manifest(body: Mapping[str, Any]) -> Manifest:
    api, kind, metadata = body.get("apiVersion"), body.get("kind"), body.get("metadata")
    if not isinstance(api, str) or not isinstance(kind, str) or not api or not kind:
        raise InvalidInput("The manifest says no apiVersion and kind.")
    if kind.endswith("List") or "items" in body:
        raise InvalidInput(f"The manifest is a {_quoted(kind)}: only one object is applied at a time.")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise InvalidInput("The manifest gives its object no metadata.name.")
    if more := sorted(set(metadata) - _META):
        raise InvalidInput(f"metadata.{_quoted(more[0])} is not set by a manifest here.")
    if "status" in body:
        raise InvalidInput("A manifest says what shall be, not the status.")
    for field in ("labels", "annotations"):
        _check_map(field, metadata.get(field))
    namespace = metadata.get("namespace", "")
    if not isinstance(namespace, str):
        raise InvalidInput("metadata.namespace is not a text.")
    group, _, version = api.rpartition("/")
    return Manifest(body, group, version, kind, namespace, metadata["name"])


def _check_map(field: str, found: Any) -> None:
    if found is None:
        return
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InvalidInput(f"metadata.{field} must be texts by key; put values in quotes.")
    for key in found:
        domain = key.rpartition("/")[0].casefold()
        if any(domain == one or domain.endswith(f".{one}") for one in _FOREIGN):
            raise InvalidInput(f"metadata.{field} may not set {_quoted(key)}: that key belongs to its controller.")


def _yaml(text: str) -> Any:
    try:
        marked = read(text.encode("utf-8", errors="strict"))
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.ScalarToken) and token.plain and _AMBIGUOUS.fullmatch(token.value):
                line = token.start_mark.line + 1
                raise InvalidInput(
                    f"Line {line}: {_quoted(token.value)} is read in two ways by different tools.",
                    hint="Put text in quotes; write true, false and decimal numbers.",
                )
    except Problem as error:
        where = f"Line {error.line}: " if error.line else ""
        raise InvalidInput(f"The manifest can't be used. {where}{_sentence(error.said)}.") from error
    except UnicodeError as error:
        raise InvalidInput("The manifest is not valid Unicode text.") from error
    return marked.value


def _json(text: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in found:
            if key in made:
                raise InvalidInput(f"The manifest gives the key {_quoted(key)} twice.")
            made[key] = value
        return made

    def constant(word: str) -> Any:
        raise InvalidInput(f"The manifest has {word} in it, which is not JSON.")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as error:
        raise InvalidInput("The manifest is nested too deep.") from error
    except ValueError as error:
        raise InvalidInput("The manifest is not valid JSON.") from error


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Every key and text in `value`. Raises `InvalidInput` past the deepest nest."""
    if depth > _MOST_DEPTH:
        raise InvalidInput("The manifest is nested too deep.")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, depth + 1)


def _sentence(said: str) -> str:
    said = " ".join(clean(said).split())
    return said[:1].upper() + cap_bytes(said[1:], 200)


def _quoted(value: str) -> str:
    return f"'{cap_bytes(' '.join(clean(value).split()), 80)}'"
