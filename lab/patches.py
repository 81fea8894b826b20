"""The three ways to patch an object."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonpatch
import jsonpointer

from lab.objects import Obj
from lab.registry import Resource
from lab.status import ApiError, bad_request, unsupported_media_type

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
"""Of server-side apply, which `lab.managers` does."""

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "hostAliases": "ip",
    "taints": "key",
    "topologySpreadConstraints": "topologyKey",
}
"""patchMergeKey of the built-in lists that merge; every other list is replaced whole."""


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merge(found.get(key), value)
    return found


def strategic(target: Any, patch: Any) -> Any:
    """Strategic merge: as `merge`, but lists of named items merge by their key, and directives are obeyed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            found[field] = [one for one in found.get(field) or [] if one not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            found.pop(key, None)
        elif isinstance(value, list):
            found[key] = _merge_list(key, found.get(key) or [], value)
        else:
            found[key] = strategic(found.get(key), value)
    return found


def _merge_key(field: str, items: list[Any]) -> str:
    if field == "ports":
        return (
            "containerPort"
            if any("containerPort" in one for one in items if isinstance(one, dict))
            else "port"
        )
    return _MERGE_KEYS.get(field, "")


def _merge_list(field: str, before: list[Any], patch: list[Any]) -> list[Any]:
    if field == "finalizers":
        return [*before, *(one for one in patch if one not in before)]
    by = _merge_key(field, [*before, *patch])
    if not by or any(isinstance(one, dict) and one.get("$patch") == "replace" for one in patch):
        return [copy.deepcopy(one) for one in patch if not (isinstance(one, dict) and "$patch" in one)]
    found = list(before)
    for item in patch:
        if by not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {by}")
        place = next((i for i, one in enumerate(found) if one.get(by) == item[by]), None)
        if item.get("$patch") == "delete":
            found = [one for one in found if one.get(by) != item[by]]
        elif place is None:
            found.append(copy.deepcopy(item))
        else:
            found[place] = strategic(found[place], item)
    return found


def _json_patch(target: Any, operations: Any) -> Any:
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        )
    try:
        return jsonpatch.JsonPatch(operations).apply(copy.deepcopy(target))
    except jsonpatch.JsonPatchTestFailed as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}", {}
        ) from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}", {}
        ) from None


def apply_patch(content_type: str, resource: Resource, target: Obj, patch: Any) -> Obj:
    """The object after the patch. Raises 400, 415 and 422."""
    media = content_type.split(";")[0].strip()
    kinds: dict[str, Callable[[Any, Any], Any]] = {JSON_PATCH: _json_patch, MERGE: merge}
    if not resource.custom:
        kinds[STRATEGIC] = strategic
    if media not in kinds:
        raise unsupported_media_type(media, [*kinds, APPLY])
    if media != JSON_PATCH and not isinstance(patch, dict):
        raise bad_request("the patch must be a JSON object")
    found = kinds[media](target, patch)
    if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
        raise bad_request("the patched object has no metadata")
    return found
