"""Lists: selecting, paging over a consistent snapshot, and the shape of the items."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from lab import fields, selectors
from lab.events import as_served
from lab.objects import Obj, labels_of, name_of, namespace_of
from lab.registry import Resource
from lab.requests import ResourceRequest
from lab.status import ApiError, bad_request, expired
from lab.store import Compacted, Store

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a "
    "new list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - "
    "objects that were created, modified, or deleted between the time the first chunk was "
    "returned and now may show up in the list."
)


@dataclass(frozen=True)
class Filter:
    """What a list or watch is narrowed to."""

    namespace: str
    labels: selectors.Selector
    fields: fields.FieldSelector

    def matches(self, obj: Obj) -> bool:
        if self.namespace and namespace_of(obj) != self.namespace:
            return False
        return selectors.matches(self.labels, labels_of(obj)) and fields.matches(self.fields, obj)


@dataclass(frozen=True)
class Page:
    """One page of a list, as stored. `remaining` is None where the API leaves remainingItemCount out."""

    items: list[Obj]
    revision: int
    continue_token: str
    remaining: int | None

    def metadata(self) -> Obj:
        metadata: Obj = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            metadata["continue"] = self.continue_token
        if self.remaining is not None:
            metadata["remainingItemCount"] = self.remaining
        return metadata


def read_filter(request: ResourceRequest, query: Mapping[str, str]) -> Filter:
    """The selectors of a request; a watch of one name selects it. Raises 400."""
    by_field = fields.parse_field_selector(query.get("fieldSelector", ""), request.resource)
    if request.name:
        by_field = (*by_field, fields.FieldTerm("metadata.name", request.name, True))
    return Filter(request.namespace, selectors.parse_label_selector(query.get("labelSelector", "")), by_field)


def whole_number(query: Mapping[str, str], key: str) -> int | None:
    """A query parameter that must be a whole number. Raises 400."""
    text = query.get(key, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _encode(revision: int, after: str) -> str:
    body = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": after}, separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def _decode(token: str) -> tuple[int, str]:
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(body["rv"]), str(body["start"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise bad_request("continue key is not valid: illegal base64 or missing fields") from None


def _key(obj: Obj) -> str:
    return f"{namespace_of(obj)}/{name_of(obj)}\x00"


def _state(store: Store, storage: str, query: Mapping[str, str], limit: int) -> tuple[list[Obj], int, str]:
    """The objects to page over, their revision, and the key to start after."""
    token = query.get("continue", "")
    if not token:
        asked = whole_number(query, "resourceVersion") or 0
        if asked > store.revision:
            message = f"Too large resource version: {asked}, current: {store.revision}"
            raise ApiError(504, "Timeout", message, {"retryAfterSeconds": 1})
        revision = store.hold(storage) if limit else store.revision
        return store.all(storage), revision, ""
    revision, after = _decode(token)
    if revision < 0:
        return store.all(storage), store.revision, after
    try:
        return store.held(revision, storage), revision, after
    except Compacted:
        raise expired(_TOO_OLD, _encode(-1, after)) from None


def read_page(store: Store, request: ResourceRequest, query: Mapping[str, str]) -> Page:
    """The page that the query asks for. Raises 400, 410 and 504."""
    chosen = read_filter(request, query)
    limit = whole_number(query, "limit") or 0
    objects, revision, after = _state(store, request.resource.storage, query, limit)
    found = [obj for obj in objects if chosen.matches(obj) and (not after or _key(obj) > after)]
    token, remaining = "", None
    if 0 < limit < len(found):
        token = _encode(
            revision if "continue" not in query else _decode(query["continue"])[0], _key(found[limit - 1])
        )
        if not (chosen.labels or chosen.fields):
            remaining = len(found) - limit
        found = found[:limit]
    return Page(found, revision, token, remaining)


def typed(obj: Obj, resource: Resource) -> Obj:
    """The object with its apiVersion and kind first, as the API sends single objects."""
    return {"kind": resource.kind, "apiVersion": resource.api_version, **_untyped(obj)}


def _untyped(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def list_body(page: Page, resource: Resource) -> Obj:
    """The List object; built-in items come without their type, custom ones with it."""
    shape = (lambda obj: typed(obj, resource)) if resource.custom else _untyped
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": page.metadata(),
        "items": [shape(as_served(obj, resource)) for obj in page.items],
    }


def partial(obj: Obj) -> Obj:
    """The PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def partial_list(page: Page) -> Obj:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": page.metadata(),
        "items": [partial(obj) for obj in page.items],
    }
