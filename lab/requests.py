"""What a request asks for, read from its path, method and query, as the API server's RequestInfo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.registry import Resource, by_path
from lab.status import method_not_allowed, unknown_path

_VERBS = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
    "GET": "get",
    "HEAD": "get",
}


@dataclass(frozen=True)
class ResourceRequest:
    verb: str
    resource: Resource
    namespace: str
    name: str
    subresource: str

    @property
    def resource_text(self) -> str:
        """`pods` or `pods/log`, as RBAC rules and refusals name it."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural


def is_true(query: Mapping[str, str], key: str) -> bool:
    return query.get(key, "").lower() in ("1", "true")


def _split(parts: list[str]) -> tuple[str, str, list[str]]:
    if len(parts) >= 2 and parts[0] == "api":
        return "", parts[1], parts[2:]
    if len(parts) >= 3 and parts[0] == "apis":
        return parts[1], parts[2], parts[3:]
    raise unknown_path()


def read_request(method: str, path: str, query: Mapping[str, str]) -> ResourceRequest:
    """Reads a resource path below /api or /apis. Raises the API's 404 and 405."""
    group, version, rest = _split([part for part in path.split("/") if part])
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and by_path(group, version, rest[2]) is not None:
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3:
        raise unknown_path()
    resource = by_path(group, version, rest[0])
    if resource is None or (namespace and not resource.namespaced):
        raise unknown_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if name and resource.namespaced and not namespace:
        raise unknown_path()
    verb = _verb(method, name, query)
    if subresource and subresource not in resource.subresources:
        raise unknown_path()
    if not subresource and verb not in resource.verbs:
        raise method_not_allowed()
    if (verb == "create" and name and not subresource) or (verb in ("update", "patch") and not name):
        raise method_not_allowed()
    return ResourceRequest(verb, resource, namespace, name, subresource)


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method)
    if verb is None:
        raise method_not_allowed()
    if verb == "get" and is_true(query, "watch"):
        return "watch"
    if verb == "get" and not name:
        return "list"
    if verb == "delete" and not name:
        return "deletecollection"
    return verb
