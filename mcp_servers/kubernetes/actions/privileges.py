"""What a pod template asks for beyond a plain container's rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HOST = ("hostNetwork", "hostPID", "hostIPC")


def privileges(obj: Mapping[str, Any]) -> list[str]:
    """Sentences about each such request in an object's pod template, in a fixed order; empty where there is none."""
    spec = _pod_spec(obj)
    return sorted(set(_of_pod(spec))) if spec else []


def service_account(obj: Mapping[str, Any]) -> str:
    """The ServiceAccount whose rights the object's pods have; "" where it has no pods."""
    spec = _pod_spec(obj)
    return str(spec.get("serviceAccountName") or "default") if spec else ""


def secrets(obj: Mapping[str, Any]) -> list[str]:
    """The names of the Secrets that the object's pods are given, and "a token" where they are given one, in order."""
    return sorted(set(_secrets(_pod_spec(obj))))


def runs_other(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the pods of `after` are not those of `before`."""
    return _pod_spec(before) != _pod_spec(after)


def _secrets(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in _maps(spec.get("volumes")):
        given = [volume, *_maps(_map(volume.get("projected")).get("sources"))]
        for source in given:
            if secret := _map(source.get("secret")):
                yield str(secret.get("secretName") or secret.get("name"))
            if "serviceAccountToken" in source:
                yield "a token"
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in _maps(spec.get(field)):
            for env in _maps(container.get("env")):
                if ref := _map(_map(env.get("valueFrom")).get("secretKeyRef")):
                    yield str(ref.get("name"))
            for env in _maps(container.get("envFrom")):
                if ref := _map(env.get("secretRef")):
                    yield str(ref.get("name"))


def _pod_spec(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod's own spec, that of a workload's template, or of a CronJob's."""
    spec = _map(obj.get("spec"))
    if obj.get("kind") == "Pod":
        return spec
    if obj.get("kind") == "PodTemplate":
        return _map(_map(obj.get("template")).get("spec"))
    if obj.get("kind") == "CronJob":
        spec = _map(_map(spec.get("jobTemplate")).get("spec"))
    return _map(_map(spec.get("template")).get("spec"))


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in _HOST:
        if spec.get(field):
            yield f"Its pods share the node's {field.removeprefix('host')} ({field})."
    for volume in _maps(spec.get("volumes")):
        if "hostPath" in volume:
            yield f"Its pods reach into the node's files at {_map(volume['hostPath']).get('path')} (hostPath)."
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in _maps(spec.get(field)):
            yield from _of_container(str(container.get("name")), container)


def _of_container(name: str, container: Mapping[str, Any]) -> Iterator[str]:
    context = _map(container.get("securityContext"))
    if context.get("privileged"):
        yield f"Container {name} is privileged: it has the node's rights."
    added = _map(context.get("capabilities")).get("add")
    if isinstance(added, list) and added:
        yield f"Container {name} adds capabilities: {', '.join(map(str, added))}."
    if context.get("procMount") == "Unmasked":
        yield f"Container {name} sees the node's /proc unmasked."
    for port in _maps(container.get("ports")):
        if port.get("hostPort"):
            yield f"Container {name} takes the node's port {port['hostPort']} (hostPort)."


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in (value if isinstance(value, list) else ()) if isinstance(item, Mapping))
