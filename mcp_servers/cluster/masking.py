"""Objects as they may be shown: no Secret value, no managedFields, the keys kept."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

MASK = "(masked)"
COPIES = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "objectset.rio.cattle.io/applied",
        "kopf.zalando.org/last-handled-configuration",
        "fluxcd.io/last-applied-configuration",
    }
)
"""Annotations in which tools keep a copy of the whole object, Secret values included, some of them packed."""

_COPIES_BEGIN = "kapp.k14s.io/original"  # Also -diff and -diff-full.

_LONGEST_ON_A_SECRET = 128
_SHORTEST_PART = 4
"""Shorter values are part of too much to say anything: those must be the whole annotation."""

_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|secret|token|credential|(api|private|access|auth|encryption|signing)[_-]?key"
    r"|(^|_)(pwd|pass)$)",
    re.IGNORECASE,
)


def shown(item: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an API object that is safe to show.

    Secret `data` and `stringData` keep their keys and lose their values. Annotations that hold another copy of the
    object (`COPIES`; on a Secret also any that is long, structured or repeats a value) are masked whole. Environment
    variables whose name says that they are secret lose a literal value, be they a list as in a pod or a mapping as in
    many charts' values. managedFields go.
    """
    copy: dict[str, Any] = json.loads(json.dumps(item))
    metadata = copy.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        _mask_annotations(copy, metadata)
    if copy.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(copy.get(field), dict):
                copy[field] = {key: MASK for key in copy[field]}
    if str(copy.get("kind", "")).endswith("List") and isinstance(copy.get("items"), list):
        secret = copy["kind"] == "SecretList"
        copy["items"] = [shown({**i, "kind": "Secret"} if secret else i) for i in copy["items"]]
    _mask_env(copy)
    return copy


def hidden(item: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What `shown` hides of an object beside a Secret's data: the name of each value, and the value."""
    item = {key: value for key, value in item.items() if key not in ("data", "stringData")}
    return set(_hidden(item, shown(item), ""))


def _hidden(raw: Any, seen: Any, name: str) -> Iterator[tuple[str, str]]:
    if seen == MASK and raw != MASK:
        yield name, json.dumps(raw)
    elif isinstance(seen, dict):
        for key in seen:
            yield from _hidden(raw[key], seen[key], str(raw.get("name", key)) if key == "value" else key)
    elif isinstance(seen, list):
        for one, other in zip(raw, seen, strict=True):
            yield from _hidden(one, other, name)


def _mask_annotations(item: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    annotations = metadata.get("annotations")
    if not isinstance(annotations, dict):
        return
    values = _secret_values(item) if item.get("kind") == "Secret" else None
    for name, text in annotations.items():
        if name in COPIES or name.startswith(_COPIES_BEGIN) or (values is not None and _may_hold(str(text), values)):
            annotations[name] = MASK


def _secret_values(item: Mapping[str, Any]) -> set[str]:
    """A Secret's values as they may stand elsewhere: encoded and plain."""
    data, plain = item.get("data"), item.get("stringData")
    found = {str(v) for field in (data, plain) if isinstance(field, dict) for v in field.values()}
    for value in data.values() if isinstance(data, dict) else ():
        with suppress(ValueError):
            found.add(base64.b64decode(str(value), validate=True).decode("utf-8"))
    return {value.strip() for value in found} - {""}


def _may_hold(text: str, values: set[str]) -> bool:
    return (
        len(text) > _LONGEST_ON_A_SECRET
        or text.lstrip()[:1] in ("{", "[")
        or text.strip() in values
        or any(value in text for value in values if len(value) >= _SHORTEST_PART)
    )


def _mask_env(node: Any) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "env" and isinstance(value, list):
                for entry in value:
                    if isinstance(entry, dict) and entry.get("value") and _SECRET_NAME.search(str(entry.get("name"))):
                        entry["value"] = MASK
            if key == "env" and isinstance(value, dict):
                _mask_mapping(value)
            _mask_env(value)
    elif isinstance(node, list):
        for value in node:
            _mask_env(value)


def _mask_mapping(variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        if not value or not _SECRET_NAME.search(name):
            continue
        if not isinstance(value, dict):
            variables[name] = MASK
        elif value.get("value"):
            value["value"] = MASK
