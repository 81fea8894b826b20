"""The fields of a few kinds, so that a misspelt one is refused as the real API does. Other kinds take any field."""

from __future__ import annotations

from collections.abc import Iterator

from lab.objects import Obj, name_of, namespace_of
from lab.status import ApiError, bad_request

_TOP = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_ROLLED = frozenset({"selector", "template", "minReadySeconds", "revisionHistoryLimit"})
_SPECS: dict[str, frozenset[str]] = {
    "Deployment": _ROLLED | {"replicas", "strategy", "paused", "progressDeadlineSeconds"},
    "StatefulSet": _ROLLED
    | {
        "replicas",
        "serviceName",
        "podManagementPolicy",
        "updateStrategy",
        "volumeClaimTemplates",
        "persistentVolumeClaimRetentionPolicy",
        "ordinals",
    },
    "DaemonSet": _ROLLED | {"updateStrategy"},
    "CronJob": frozenset(
        {
            "schedule",
            "timeZone",
            "startingDeadlineSeconds",
            "concurrencyPolicy",
            "suspend",
            "jobTemplate",
            "successfulJobsHistoryLimit",
            "failedJobsHistoryLimit",
        }
    ),
}
_FLAT = {"ConfigMap": frozenset({"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"})}


def unknown_fields(obj: Obj) -> Iterator[str]:
    """The dotted paths of fields that the kind does not have, as far as is known here."""
    kind = str(obj.get("kind"))
    if kind in _FLAT:
        yield from sorted(obj.keys() - _FLAT[kind])
    if kind in _SPECS:
        yield from sorted(obj.keys() - _TOP)
        spec = obj.get("spec")
        yield from (f"spec.{key}" for key in sorted((spec if isinstance(spec, dict) else {}).keys() - _SPECS[kind]))


def check_applied(obj: Obj) -> None:
    """Raises what the API server answers to an apply of a field it does not know: an error that it has no word for."""
    for field in unknown_fields(obj):
        where = f"{namespace_of(obj)}/{name_of(obj)}; {obj['apiVersion']}, Kind={obj['kind']}"
        raise ApiError(
            500, "", f"failed to create typed patch object ({where}): .{field}: field not declared in schema", None
        )


def check_strictly(obj: Obj) -> None:
    """Raises 400 for a field that the kind does not have, where fieldValidation is Strict."""
    if unknown := list(unknown_fields(obj)):
        named = ", ".join(f'unknown field "{field}"' for field in unknown)
        version = str(obj["apiVersion"]).rpartition("/")[2]
        kind = obj["kind"]
        handled = f'{kind} in version "{version}" cannot be handled as a {kind}'
        raise bad_request(f"{handled}: strict decoding error: {named}")
