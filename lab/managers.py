"""Who owns which field: metadata.managedFields, kept at every write, and server-side apply, which goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.field_sets import FieldSet, Path, dotted, flatten, from_fields, merged, to_fields, without
from lab.objects import Obj, meta
from lab.registry import Resource
from lab.status import ApiError
from lab.times import rfc3339

_MISSING = object()


@dataclass(frozen=True)
class Manager:
    """Who writes, and how: `Apply` or `Update`. An apply and an update by one name are two managers."""

    name: str
    operation: str
    subresource: str = ""


Owned = dict[Manager, FieldSet]


def owned(obj: Mapping[str, Any]) -> Owned:
    """What each manager owns."""
    return {_manager(entry): from_fields(entry.get("fieldsV1") or {}) for entry in meta(obj).get("managedFields") or ()}


def _manager(entry: Obj) -> Manager:
    return Manager(entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", ""))


def signed(before: Obj | None, after: Obj, manager: Manager, resource: Resource, now: datetime) -> Obj:
    """`after` with what an update changed given to `manager` and taken from the others."""
    if manager.subresource:
        fields = {**owned(after), manager: frozenset({(f"f:{manager.subresource}",)})}
        return _written(before, after, fields, now, manager)
    old = flatten(before, custom=resource.custom) if before else {}
    new = flatten(after, custom=resource.custom)
    changed = {path for path, value in new.items() if old.get(path, _MISSING) != value}
    gone = old.keys() - new.keys()
    kept = {
        who: paths if who == manager or who.subresource else frozenset(paths - changed)
        for who, paths in owned(before or after).items()
    }
    found = {who: paths if who.subresource else frozenset(paths - gone) for who, paths in kept.items()}
    found[manager] = frozenset(found.get(manager, frozenset()) | changed)
    return _written(before, after, found, now, manager)


def applied(
    before: Obj | None, config: Obj, manager: Manager, resource: Resource, now: datetime, *, force: bool
) -> Obj:
    """What the object becomes when `manager` applies `config`. Raises 409 where others own what would change."""
    new = flatten(config, custom=resource.custom)
    if before is None:
        return _written(None, config, {manager: frozenset(new)}, now, manager)
    old, owners = flatten(before, custom=resource.custom), owned(before)
    lost: dict[Manager, list[Path]] = {}
    for who, paths in owners.items():
        if who != manager and (fields := sorted(p for p in paths & new.keys() if old.get(p, _MISSING) != new[p])):
            lost[who] = fields
    if lost and not force:
        raise _conflict(lost, str(before["apiVersion"]))
    after: Obj = merged(before, config, custom=resource.custom)
    for name in ("uid", "resourceVersion"):
        after["metadata"][name] = (config.get("metadata") or {}).get(name) or meta(before)[name]
    others = frozenset().union(*(paths for who, paths in owners.items() if who != manager))
    # An item goes before what is in it: without its key it could not be found.
    for path in sorted(owners.get(manager, frozenset()) - new.keys() - others):
        after = without(after, path)
    kept = {who: frozenset(paths - set(lost.get(who, ()))) for who, paths in owners.items()}
    return _written(before, after, {**kept, manager: frozenset(new)}, now, manager)


def _conflict(lost: Mapping[Manager, list[Path]], version: str) -> ApiError:
    lines, causes = [], []
    for who, paths in lost.items():
        how = f' with subresource "{who.subresource}"' if who.subresource else ""
        told = f'conflict with "{who.name}"{how} using {version}'
        lines += [f"{told}: {dotted(path)}" for path in paths]
        causes += [{"reason": "FieldManagerConflict", "message": told, "field": dotted(path)} for path in paths]
    if len(lines) == 1:
        message = f"Apply failed with 1 conflict: {lines[0]}"
    else:
        listed = "".join(f"\n- {cause['field']}" for cause in causes)
        told = "conflicts with " + " and ".join(f'"{who.name}" using {version}' for who in lost)
        message = f"Apply failed with {len(lines)} conflicts: {told}:{listed}"
    return ApiError(409, "Conflict", message, {"causes": causes})


def _written(before: Obj | None, obj: Obj, owners: Owned, now: datetime, by: Manager) -> Obj:
    """`obj` with these owners. An entry that says the same as before keeps its time, but for that of who changes a
    value."""
    changed = before is None or _content(before) != _content(obj)
    earlier = {_manager(entry): entry for entry in meta(before or {}).get("managedFields") or ()}
    entries = []
    for who, paths in owners.items():
        if not paths and who not in earlier:
            continue
        old = earlier.get(who)
        same = old is not None and from_fields(old.get("fieldsV1") or {}) == paths
        if old is not None and same and not (changed and who == by):
            entries.append(old)
        elif paths:
            entry: Obj = {"manager": who.name, "operation": who.operation, "apiVersion": obj["apiVersion"]}
            entry |= {"time": rfc3339(now), "fieldsType": "FieldsV1", "fieldsV1": to_fields(paths)}
            entries.append(entry | ({"subresource": who.subresource} if who.subresource else {}))
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def _content(obj: Obj) -> tuple[Obj, Obj]:
    """What a write can change."""
    metadata = {k: v for k, v in meta(obj).items() if k not in ("managedFields", "resourceVersion", "generation")}
    return {key: value for key, value in obj.items() if key != "metadata"}, metadata
