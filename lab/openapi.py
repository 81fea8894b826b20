"""OpenAPI: a valid document that says which paths there are, without schemas."""

from __future__ import annotations

import hashlib

from lab.discovery import SERVER_VERSION
from lab.objects import Obj
from lab.registry import RESOURCES, versions
from lab.status import unknown_path

_INFO = {"title": "Kubernetes", "version": SERVER_VERSION["gitVersion"]}


_PATCH_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]
"""kubectl looks for fieldValidation here: with it, it leaves validation to the server."""


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def v2() -> Obj:
    """/openapi/v2"""
    return {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": {}}


def v2_protobuf() -> bytes:
    """/openapi/v2 as gnostic's openapi.v2.Document, the form that kubectl asks for: swagger and info only."""

    def field(number: int, value: bytes) -> bytes:
        return bytes((number << 3 | 2, len(value))) + value

    info = field(1, str(_INFO["title"]).encode()) + field(2, str(_INFO["version"]).encode())
    return field(1, b"2.0") + field(2, info)


def v3_index() -> Obj:
    """/openapi/v3: where the document of each group version is."""
    roots = [_root(group, version) for group, listed in versions().items() for version in listed]
    paths = {
        root: {"serverRelativeURL": f"/openapi/v3/{root}?hash={hashlib.sha256(root.encode()).hexdigest()}"}
        for root in roots
    }
    return {"paths": paths}


def v3(root: str) -> Obj:
    """/openapi/v3/{root}: the paths of one group version. Raises 404."""
    found: Obj = {}
    for item in RESOURCES:
        if _root(item.group, item.version) != root:
            continue
        kind = {"group": item.group, "version": item.version, "kind": item.kind}
        where = (
            f"/{root}/namespaces/{{namespace}}/{item.plural}" if item.namespaced else f"/{root}/{item.plural}"
        )
        operation = {"responses": {"200": {"description": "OK"}}, "x-kubernetes-group-version-kind": kind}
        found[where] = {"get": {**operation, "x-kubernetes-action": "list"}}
        patch = {**operation, "x-kubernetes-action": "patch", "parameters": _PATCH_PARAMETERS}
        get = {**operation, "x-kubernetes-action": "get"}
        found[f"{where}/{{name}}"] = {"get": get, "patch": patch}
    if not found:
        raise unknown_path()
    return {"openapi": "3.0.0", "info": _INFO, "paths": found, "components": {"schemas": {}}}
