"""What the API refuses to store, in the words of its validation."""

from __future__ import annotations

import re

from lab.objects import Obj, name_of
from lab.registry import Resource
from lab.status import invalid

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RBAC_GROUP = "rbac.authorization.k8s.io"
Cause = tuple[str, str, str]


def _bad_replicas(obj: Obj) -> list[Cause]:
    count = (obj.get("spec") or {}).get("replicas")
    if isinstance(count, int) and count < 0:
        message = f"Invalid value: {count}: must be greater than or equal to 0"
        return [("FieldValueInvalid", message, "spec.replicas")]
    return []


def _bad_name(resource: Resource, obj: Obj) -> list[Cause]:
    name = name_of(obj)
    if resource.group == _RBAC_GROUP or (len(name) <= 253 and _NAME.fullmatch(name)):
        return []
    message = (
        f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
        "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', "
        "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    return [("FieldValueInvalid", message, "metadata.name")]


def _bad_template(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    if "template" not in spec or "selector" not in spec or obj.get("kind") == "Job":
        return []
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    wanted = spec["selector"].get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        message = f"Invalid value: {labels}: `selector` does not match template `labels`"
        return [("FieldValueInvalid", message, "spec.template.metadata.labels")]
    if not (spec["template"].get("spec") or {}).get("containers"):
        return [("FieldValueRequired", "Required value", "spec.template.spec.containers")]
    return []


def _changed_selector(before: Obj, obj: Obj) -> list[Cause]:
    if obj.get("kind") not in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"):
        return []
    if before["spec"].get("selector") == (obj.get("spec") or {}).get("selector"):
        return []
    return [("FieldValueInvalid", "Invalid value: field is immutable", "spec.selector")]


_POD_TEXT = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
    "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def _frozen_part(pod: Obj) -> Obj:
    spec = {k: v for k, v in pod["spec"].items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for key in ("containers", "initContainers"):
        spec[key] = [{k: v for k, v in one.items() if k != "image"} for one in spec.get(key) or []]
    return spec


def _changed_pod(before: Obj, obj: Obj) -> list[Cause]:
    if obj.get("kind") != "Pod" or _frozen_part(before) == _frozen_part(obj):
        return []
    return [("FieldValueForbidden", _POD_TEXT, "spec")]


def check(resource: Resource, obj: Obj, before: Obj | None = None) -> None:
    """Returns if the object may be stored. Raises 422."""
    causes = [*_bad_name(resource, obj), *_bad_replicas(obj), *_bad_template(obj)]
    if before is not None and not causes:
        causes = [*_changed_selector(before, obj), *_changed_pod(before, obj)]
    if causes:
        raise invalid(resource, name_of(obj), causes)
