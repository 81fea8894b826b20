"""What would change, as a unified diff of YAML that shows no secret and hides no change."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from mcp_servers.cluster.masking import MASK, shown
from mcp_servers.cluster.objects import APPLIED_KEY, KEY
from mcp_servers.kubernetes.rendering import TEXT_LIMIT, to_yaml
from opswarm.errors import InvalidInput

CHANGED = "(masked, changes)"
_FIRST = ("apiVersion", "kind", "metadata")
_NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def settled(obj: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an API object without what changes by itself."""
    kept = {key: value for key, value in obj.items() if key != "status"}
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _NOISE}
    annotations = {k: v for k, v in (metadata.pop("annotations", None) or {}).items() if k not in (KEY, APPLIED_KEY)}
    if annotations:
        metadata["annotations"] = annotations
    return {**kept, "metadata": metadata} if "metadata" in obj else kept


def diff(before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The lines that differ, with three around them; "" where nothing does. Masked values say when they change.

    Raises `InvalidInput` for more than a person can be shown: nobody approves what was cut off.
    """
    old, new = settled(before), settled(after)
    if old == new:
        return ""
    texts = [_lines(value) for value in (shown(old), _marked(shown(new), new, old))]
    text = "\n".join(difflib.unified_diff(texts[0], texts[1], *names, lineterm=""))
    if len(text.encode()) > TEXT_LIMIT:
        raise InvalidInput("The change is too large to be shown to a person.", hint="Make it in smaller steps.")
    return text


def _lines(obj: Mapping[str, Any]) -> list[str]:
    """YAML whose keys are always in the same order, whatever the server's."""
    ordered = {key: obj[key] for key in _FIRST if key in obj} | {key: obj[key] for key in sorted(obj)}
    return to_yaml({key: _sorted(value) for key, value in ordered.items()}).splitlines() if obj else []


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _marked(masked: Any, raw: Any, before: Any) -> Any:
    """`masked`, with another mask where the raw value is not the one that was there before."""
    if masked == MASK and raw != before:
        return CHANGED
    if isinstance(masked, dict) and isinstance(raw, dict):
        old = before if isinstance(before, dict) else {}
        return {key: _marked(value, raw.get(key), old.get(key)) for key, value in masked.items()}
    if isinstance(masked, list) and isinstance(raw, list):
        items = before if isinstance(before, list) else []
        return [_marked(v, raw[i], _counterpart(raw[i], i, items)) for i, v in enumerate(masked)]
    return masked


def _counterpart(item: Any, place: int, before: list[Any]) -> Any:
    """The item that an item of a list was before: by its name, else by its place."""
    name = item.get("name") if isinstance(item, dict) else None
    if name is not None:
        return next((b for b in before if isinstance(b, dict) and b.get("name") == name), None)
    return before[place] if place < len(before) else None
