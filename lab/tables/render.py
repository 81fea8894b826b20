"""Turning objects into a Table, for any kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from lab.lists import partial, typed
from lab.objects import Obj, name_of
from lab.registry import Resource
from lab.seed.crds import printer_columns
from lab.status import bad_request
from lab.tables.columns import Cell, Columns
from lab.tables.infrastructure import INFRASTRUCTURE
from lab.tables.pods import PODS
from lab.tables.workloads import WORKLOADS
from lab.times import age

_FILTER = re.compile(r'\[\?\(@\.type=="(\w+)"\)\]')


def _read_path(obj: Obj, path: str) -> Cell:
    """The one JSONPath shape that Flux's columns use: fields, and a condition by type."""
    found: object = obj
    wanted = _FILTER.search(path)
    kind = wanted[1] if wanted else ""
    for part in _FILTER.sub("", path).strip(".").split("."):
        found = found.get(part) if isinstance(found, dict) else None
        if part == "conditions" and isinstance(found, list):
            found = next((item for item in found if item.get("type") == kind), None)
    return found if isinstance(found, str | int | bool) else None


def _custom(resource: Resource) -> Columns:
    columns = printer_columns(resource.kind)

    def row(obj: Obj, now: datetime) -> list[Cell]:
        cells: list[Cell] = [name_of(obj)]
        for column in columns:
            value = _read_path(obj, column["jsonPath"])
            cells.append(age(value, now) if column["type"] == "date" else value)
        return cells

    return Columns(("Name", *(column["name"] for column in columns)), (), row)


def _generic(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), age(obj["metadata"].get("creationTimestamp"), now)]


_BY_STORAGE: dict[str, Columns] = {"pods": PODS, **WORKLOADS, **INFRASTRUCTURE}


def _columns(resource: Resource) -> Columns:
    if resource.custom:
        return _custom(resource)
    return _BY_STORAGE.get(resource.storage, Columns(("Name", "Age"), (), _generic))


def _shown(obj: Obj, resource: Resource, include: str) -> Obj | None:
    match include:
        case "" | "Metadata":
            return partial(obj)
        case "Object":
            return typed(obj, resource)
        case "None":
            return None
    raise bad_request(f'unrecognized includeObject value: "{include}"')


def table(
    objects: Sequence[Obj],
    resource: Resource,
    now: datetime,
    metadata: Obj,
    *,
    include: str = "",
    head: bool = True,
) -> Obj:
    """The Table of stored objects. Raises 400 for an unknown includeObject."""
    columns = _columns(resource)
    rows = []
    for obj in objects:
        row: Obj = {"cells": columns.row(obj, now)}
        shown = _shown(obj, resource, include)
        if shown is not None:
            row["object"] = shown
        rows.append(row)
    definitions = columns.definitions() if head else []
    for item in definitions if resource.custom else []:
        item["type"] = "date" if item["name"] == "Age" else "string"
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }
