"""Objects as they may be shown: no Secret value, no managedFields, the keys kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MASK = "(masked)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|secret|token|credential|(api|private|access|auth|encryption|signing)[_-]?key"
    r"|(^|_)(pwd|pass)$)",
    re.IGNORECASE,
)


def shown(item: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an API object that is safe to show.

    Secret `data` and `stringData` keep their keys and lose their values; `last-applied-configuration`, which holds
    another copy of everything, is masked whole; environment variables whose name says that they are secret lose a
    literal value, be they a list as in a pod or a mapping as in many charts' values; managedFields go.
    """
    copy: dict[str, Any] = json.loads(json.dumps(item))
    metadata = copy.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict) and LAST_APPLIED in annotations:
            annotations[LAST_APPLIED] = MASK
    if copy.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(copy.get(field), dict):
                copy[field] = {key: MASK for key in copy[field]}
    if str(copy.get("kind", "")).endswith("List") and isinstance(copy.get("items"), list):
        secret = copy["kind"] == "SecretList"
        copy["items"] = [shown({**i, "kind": "Secret"} if secret else i) for i in copy["items"]]
    _mask_env(copy)
    return copy


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
