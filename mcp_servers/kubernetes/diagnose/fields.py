"""Reading plain API JSON that may lack any field or hold an unexpected one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Obj: TypeAlias = Mapping[str, Any]

_NOTHING: Obj = {}


def at(obj: Any, *path: str) -> Any:
    """The value at `path`, None where the path ends early."""
    for key in path:
        # The check for dict comes first because it is ten times as fast, and this runs for every field.
        if not isinstance(obj, (dict, Mapping)):
            return None
        obj = obj.get(key)
    return obj


def text(obj: Any, *path: str) -> str:
    value = at(obj, *path)
    if value is None or isinstance(value, str):
        return value or ""
    return "" if isinstance(value, (dict, list)) else str(value)


def number(obj: Any, *path: str, default: int = 0) -> int:
    value = at(obj, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def rows(obj: Any, *path: str) -> list[Obj]:
    """The list of objects at `path`."""
    value = at(obj, *path)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def mapping(obj: Any, *path: str) -> Obj:
    value = at(obj, *path)
    return value if isinstance(value, (dict, Mapping)) else _NOTHING


def labels(obj: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in mapping(obj, "metadata", "labels").items()}


def name_of(obj: Any) -> str:
    return text(obj, "metadata", "name")


def namespace_of(obj: Any) -> str:
    return text(obj, "metadata", "namespace")


def uid_of(obj: Any) -> str:
    return text(obj, "metadata", "uid")


def condition(obj: Any, kind: str) -> Obj:
    """The status condition of this type, empty when there is none."""
    return next((row for row in rows(obj, "status", "conditions") if row.get("type") == kind), _NOTHING)


def matches(selector: Obj, wanted: Obj) -> bool:
    """Whether every pair of a Service-style `selector` is among the labels `wanted`."""
    return bool(selector) and all(str(wanted.get(key)) == str(value) for key, value in selector.items())


def claims(pod: Obj) -> list[str]:
    """Names of the PersistentVolumeClaims that the pod mounts, ephemeral ones too."""
    found: list[str] = []
    for volume in rows(pod, "spec", "volumes"):
        if claim := text(volume, "persistentVolumeClaim", "claimName"):
            found.append(claim)
        elif volume.get("ephemeral"):
            found.append(f"{name_of(pod)}-{text(volume, 'name')}")
    return found
