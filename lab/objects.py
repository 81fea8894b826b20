"""Kubernetes objects as the API carries them: plain JSON, read through a few typed accessors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Obj = dict[str, Any]
"""One JSON object. What is in the store is never changed in place: a write replaces the whole object."""


def meta(obj: Mapping[str, Any]) -> Obj:
    """The object's metadata, or an empty one."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def name_of(obj: Mapping[str, Any]) -> str:
    return str(meta(obj).get("name", ""))


def namespace_of(obj: Mapping[str, Any]) -> str:
    """The namespace, or the empty string for a cluster-scoped object."""
    return str(meta(obj).get("namespace", ""))


def uid_of(obj: Mapping[str, Any]) -> str:
    return str(meta(obj).get("uid", ""))


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    return meta(obj).get("labels") or {}


def owner_reference(owner: Obj) -> Obj:
    """The controller reference that `owner` leaves on what it creates."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_uid(obj: Mapping[str, Any]) -> str | None:
    """The uid of the object that controls this one, if any."""
    for reference in meta(obj).get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(meta(obj).get("deletionTimestamp"))


def condition(obj: Mapping[str, Any], kind: str) -> Obj | None:
    """The status condition of this type, if the object has one."""
    for item in (obj.get("status") or {}).get("conditions") or []:
        if item.get("type") == kind:
            return dict(item)
    return None


def condition_is(obj: Mapping[str, Any], kind: str, status: str = "True") -> bool:
    found = condition(obj, kind)
    return found is not None and found.get("status") == status


def containers(obj: Mapping[str, Any]) -> list[Obj]:
    """The pod's ordinary containers."""
    return list((obj.get("spec") or {}).get("containers") or [])


def init_containers(obj: Mapping[str, Any]) -> list[Obj]:
    return list((obj.get("spec") or {}).get("initContainers") or [])
