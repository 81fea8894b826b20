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
