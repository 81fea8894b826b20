"""Watches: the changes of a resource as they happen, one JSON object a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lab.events import as_served
from lab.lists import Filter, partial, read_filter, typed, whole_number
from lab.negotiation import Form
from lab.objects import Obj
from lab.registry import Resource
from lab.requests import ResourceRequest, is_true
from lab.status import ApiError, expired, invalid
from lab.store import Change, Compacted, Store
from lab.tables import table

BOOKMARK_SECONDS = 60.0
LONGEST = 1800.0
"""kube-apiserver's default --min-request-timeout, in seconds."""


@dataclass
class Watch:
    """One watch. `closing` says that the server is going down."""

    store: Store
    request: ResourceRequest
    query: Mapping[str, str]
    form: Form
    clock: Callable[[], datetime]
    closing: Callable[[], bool]

    def __post_init__(self) -> None:
        self.resource: Resource = self.request.resource
        self.chosen: Filter = read_filter(self.request, self.query)
        self._head = True
        self._since = whole_number(self.query, "resourceVersion")
        self._initial = is_true(self.query, "sendInitialEvents")
        self._timeout = float(whole_number(self.query, "timeoutSeconds") or LONGEST)
        if self._initial and self.query.get("resourceVersionMatch") != "NotOlderThan":
            field = "resourceVersionMatch"
            message = 'Forbidden: sendInitialEvents requires setting resourceVersionMatch to "NotOlderThan"'
            raise invalid(self.resource, "", [("FieldValueForbidden", message, field)])

    async def lines(self) -> AsyncIterator[bytes]:
        """The stream, until its timeout, an ERROR, or the end of the server."""
        waker = self.store.subscribe()
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            at = self.store.revision
            if not self._since or self._initial:
                for obj in self.store.all(self.resource.storage):
                    if self.chosen.matches(obj):
                        yield self._line("ADDED", obj)
                if self._initial:
                    yield self._bookmark(at, initial=True)
            else:
                at = self._since
            while not self.closing():
                waker.clear()
                try:
                    changes = self.store.changes_since(at, self.resource.storage)
                except Compacted:
                    yield self._error(expired(f"too old resource version: {at} ({self.store.revision})"))
                    return
                for change in changes:
                    line = self._changed(change)
                    if line is not None:
                        yield line
                at = self.store.revision
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                try:
                    await asyncio.wait_for(waker.wait(), min(left, BOOKMARK_SECONDS))
                except TimeoutError:
                    if is_true(self.query, "allowWatchBookmarks"):
                        yield self._bookmark(at)
        finally:
            self.store.unsubscribe(waker)

    def _changed(self, change: Change) -> bytes | None:
        """The change as this filter sees it: an object may leave or enter the selection."""
        now = change.type != "DELETED" and self.chosen.matches(change.obj)
        before = change.before is not None and self.chosen.matches(change.before)
        if now:
            return self._line("MODIFIED" if before else "ADDED", change.obj)
        return self._line("DELETED", change.obj) if before else None

    def _line(self, kind: str, obj: Obj) -> bytes:
        served = as_served(obj, self.resource)
        if self.form.kind == "Table":
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            include = self.query.get("includeObject", "")
            # The printer reads stored fields, so it gets the stored object.
            shown = table([obj], self.resource, self.clock(), metadata, include=include, head=self._head)
            self._head = False
        elif self.form.kind.startswith("PartialObjectMetadata"):
            shown = partial(served)
        else:
            shown = typed(served, self.resource)
        return _encode({"type": kind, "object": shown})

    def _bookmark(self, revision: int, *, initial: bool = False) -> bytes:
        metadata: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self.form.kind == "Table":
            shown = table([], self.resource, self.clock(), metadata, head=False)
        else:
            shown = {
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version,
                "metadata": metadata,
            }
        return _encode({"type": "BOOKMARK", "object": shown})

    def _error(self, error: ApiError) -> bytes:
        return _encode({"type": "ERROR", "object": error.status()})


def _encode(event: Obj) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
