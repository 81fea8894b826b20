"""What a pod refers to, and the kubelet's words when it is not there."""

from __future__ import annotations

from lab.objects import Obj, namespace_of
from lab.store import Store


def _keys(found: Obj) -> set[str]:
    return {*(found.get("data") or {}), *(found.get("binaryData") or {})}


def _whole(store: Store, namespace: str, kind: str, reference: Obj) -> str:
    name = reference.get("name", "")
    if reference.get("optional") or store.get(f"{kind}s", namespace, name) is not None:
        return ""
    return f'{kind} "{name}" not found'


def _one(store: Store, namespace: str, kind: str, shown: str, reference: Obj) -> str:
    error = _whole(store, namespace, kind, reference)
    found = store.get(f"{kind}s", namespace, reference.get("name", ""))
    if error or found is None or reference.get("optional") or reference["key"] in _keys(found):
        return error
    return f"couldn't find key {reference['key']} in {shown} {namespace}/{reference['name']}"


def config_error(store: Store, pod: Obj, container: Obj) -> str:
    """The first missing ConfigMap, Secret or key of the container's environment; empty if all is there."""
    namespace = namespace_of(pod)
    for source in container.get("envFrom") or []:
        for kind, field in (("configmap", "configMapRef"), ("secret", "secretRef")):
            if field in source and (error := _whole(store, namespace, kind, source[field])):
                return error
    for variable in container.get("env") or []:
        source = variable.get("valueFrom") or {}
        for kind, shown, field in (
            ("configmap", "ConfigMap", "configMapKeyRef"),
            ("secret", "Secret", "secretKeyRef"),
        ):
            if field in source and (error := _one(store, namespace, kind, shown, source[field])):
                return error
    return ""


def volume_error(store: Store, pod: Obj) -> str:
    """The mount error for the first volume whose ConfigMap or Secret is missing; empty if all is there."""
    namespace = namespace_of(pod)
    for volume in pod["spec"].get("volumes") or []:
        for kind, field, key in (("configmap", "configMap", "name"), ("secret", "secret", "secretName")):
            source = volume.get(field)
            if source is None:
                continue
            error = _whole(store, namespace, kind, {**source, "name": source.get(key, "")})
            if error:
                return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
    return ""
