"""Which fields of an object are there, as server-side apply counts them: paths, and their form in managedFields.

A path is a tuple of elements as FieldsV1 writes them: `f:spec`, `k:{"name":"app"}` for an item of a list that is a map,
`v:"x"` for one of a list that is a set. What has no keys of its own is one field, whatever is in it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

from lab.objects import Obj

Path = tuple[str, ...]
FieldSet = frozenset[Path]

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""x-kubernetes-list-map-keys of the built-in lists; `ports` is told by its items."""

_SETS = frozenset({"finalizers"})
_ATOMIC = frozenset(
    {
        "selector",
        "labelSelector",
        "podSelector",
        "namespaceSelector",
        "nodeSelector",
        "secretKeyRef",
        "configMapKeyRef",
        "fieldRef",
        "resourceFieldRef",
        "claimRef",
        "scaleTargetRef",
    }
)
"""Maps that are one field: x-kubernetes-map-type: atomic."""

_OWNED_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_ITEM = object()


def flatten(obj: Mapping[str, Any], *, custom: bool) -> dict[Path, Any]:
    """The fields that can be owned, and their values. Of what says which object it is, none can."""
    found: dict[Path, Any] = {}
    for key, value in obj.items():
        if key in ("apiVersion", "kind", "status"):
            continue
        if key == "metadata":
            value = {k: v for k, v in value.items() if k in _OWNED_METADATA}
            if not value:
                continue
        _add(found, (f"f:{key}",), key, value, custom)
    return found


def _add(found: dict[Path, Any], path: Path, name: str, value: Any, custom: bool) -> None:
    if isinstance(value, dict) and value and name not in _ATOMIC:
        for key, inner in value.items():
            _add(found, (*path, f"f:{key}"), key, inner, custom)
        return
    if isinstance(value, list) and value and (elements := _elements(name, value, custom)):
        for element, item in zip(elements, value, strict=True):
            inner_path = (*path, element)
            found[inner_path] = _ITEM
            for key, inner in item.items() if isinstance(item, dict) else ():
                _add(found, (*inner_path, f"f:{key}"), key, inner, custom)
        return
    found[path] = value


def _elements(name: str, items: list[Any], custom: bool) -> list[str]:
    """The path element of each item; empty for a list that is one field."""
    if name in _SETS:
        return [f"v:{json.dumps(item)}" for item in items]
    keys = _keys(name, items, custom)
    if not keys or not all(isinstance(item, dict) for item in items):
        return []
    return [_element(item, keys) for item in items]


def _keys(name: str, items: list[Any], custom: bool) -> tuple[str, ...]:
    if custom and name not in ("conditions", "ownerReferences"):
        return ()  # The lab's definitions of custom resources say nothing about their lists.
    if name == "ports":
        container = any(isinstance(item, dict) and "containerPort" in item for item in items)
        return ("containerPort", "protocol") if container else ("port", "protocol")
    return _LIST_KEYS.get(name, ())


def _element(item: Mapping[str, Any], keys: Iterable[str]) -> str:
    values = {key: item.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return f"k:{json.dumps(values, separators=(',', ':'), sort_keys=True)}"


def merged(live: Any, applied: Any, name: str = "", *, custom: bool) -> Any:
    """`live` with what is applied in it; nothing is taken away."""
    if isinstance(applied, dict) and isinstance(live, dict) and name not in _ATOMIC:
        found = dict(live)
        for key, value in applied.items():
            found[key] = merged(live.get(key), value, key, custom=custom)
        return found
    if isinstance(applied, list) and isinstance(live, list):
        return _merged_list(live, applied, name, custom)
    return copy.deepcopy(applied)


def _merged_list(live: list[Any], applied: list[Any], name: str, custom: bool) -> list[Any]:
    places = _elements(name, applied, custom)
    there = _elements(name, live, custom)
    if not places or (live and not there):
        return copy.deepcopy(applied)
    found = dict(zip(there, live, strict=True))
    for element, item in zip(places, applied, strict=True):
        found[element] = merged(found.get(element), item, custom=custom)
    return list(found.values())


def without(obj: Obj, path: Path) -> Obj:
    """A copy of `obj` that lacks the field or item at `path`."""
    result: Obj = _without(obj, path, "")
    return result


def _without(value: Any, path: Path, name: str) -> Any:
    element, rest = path[0], path[1:]
    if isinstance(value, dict):
        key = element.removeprefix("f:")
        if key not in value:
            return value
        if not rest:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _without(value[key], rest, key)}
    if isinstance(value, list):
        elements = _elements(name, value, False)
        if element not in elements:
            return value
        place = elements.index(element)
        if not rest:
            return [*value[:place], *value[place + 1 :]]
        return [*value[:place], _without(value[place], rest, ""), *value[place + 1 :]]
    return value


def to_fields(paths: Iterable[Path]) -> Obj:
    """The paths as FieldsV1."""
    root: Obj = {}
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _trimmed(root)


def _trimmed(node: Obj) -> Obj:
    """A field that has nothing below it needs no dot."""
    found = {key: _trimmed(value) for key, value in node.items() if key != "."}
    return {".": {}, **found} if "." in node and found else found


def from_fields(fields: Mapping[str, Any]) -> FieldSet:
    """The paths that FieldsV1 names."""
    found: set[Path] = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for key, value in node.items():
            if key != ".":
                walk(value, (*path, key))

    walk(fields, ())
    return frozenset(found)


def dotted(path: Path) -> str:
    """A path as messages spell it: `.spec.template.spec.containers[name="app"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text
