"""The lab's etcd: objects by key, one revision for every change, and a bounded history to watch from.

Objects in the store are values: a reader may hold one for as long as it likes and must not change it.
"""

from __future__ import annotations

import asyncio
import copy
import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lab.objects import Obj, controller_uid, meta, name_of, namespace_of
from lab.times import rfc3339

HISTORY = 4000
"""Changes kept for watches. etcd keeps five minutes; the lab changes a few dozen objects a minute."""
SNAPSHOTS = 64
"""Paged lists that can be continued at the same time."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """One revision: what became of which object. `before` is what selectors compare with."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    storage: str
    obj: Obj
    before: Obj | None


class Compacted(Exception):
    """The revision asked for is no longer in the history."""


class Store:
    def __init__(self, clock: Callable[[], datetime], rng: random.Random, revision: int = 48_211_906) -> None:
        self.clock = clock
        self.revision = revision
        self._rng = rng
        self._objects: dict[str, dict[Key, Obj]] = {}
        self._views: dict[str, dict[str, list[Obj]]] = {}
        self._owners: dict[str, dict[str, list[Obj]]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._floor = revision
        self._snapshots: dict[tuple[int, str], list[Obj]] = {}
        self._wakers: set[asyncio.Event] = set()

    def get(self, storage: str, namespace: str, name: str) -> Obj | None:
        return self._objects.get(storage, {}).get((namespace, name))

    def all(self, storage: str, namespace: str = "") -> list[Obj]:
        """The objects in key order, of one namespace if named. The list is shared: leave it as it is."""
        views = self._views.setdefault(storage, {})
        found = views.get(namespace)
        if found is None:
            kept = self._objects.get(storage, {})
            found = [kept[key] for key in sorted(kept) if not namespace or key[0] == namespace]
            views[namespace] = found
        return found

    def controlled_by(self, storage: str, uid: str) -> list[Obj]:
        """The objects whose controller has this uid, in key order. The list is shared: do not change it."""
        index = self._owners.get(storage)
        if index is None:
            index = self._owners[storage] = {}
            for obj in self.all(storage):
                index.setdefault(controller_uid(obj) or "", []).append(obj)
        return index.get(uid, [])

    def add(self, storage: str, obj: Obj) -> Obj:
        """Stores a new object, giving it a uid, a creation time and a revision. The key must be free."""
        obj = copy.deepcopy(obj)
        key = (namespace_of(obj), name_of(obj))
        if key in self._objects.get(storage, {}):
            raise KeyError(f"{storage} {key} exists")
        metadata = obj["metadata"]
        metadata.setdefault("uid", self.new_uid())
        metadata.setdefault("creationTimestamp", rfc3339(self.clock()))
        if "spec" in obj and storage not in ("configmaps", "secrets", "nodes", "services", "pods"):
            metadata.setdefault("generation", 1)
        self._objects.setdefault(storage, {})[key] = obj
        self._record("ADDED", storage, obj, None)
        return obj

    def replace(self, storage: str, obj: Obj) -> Obj:
        """Stores a new state of an object that exists; one that is the same leaves no revision."""
        key = (namespace_of(obj), name_of(obj))
        before = self._objects[storage][key]
        metadata = {**meta(obj), "resourceVersion": meta(before)["resourceVersion"]}
        if "generation" in meta(before):
            metadata["generation"] = meta(before)["generation"] + int(obj.get("spec") != before.get("spec"))
        obj = {**obj, "metadata": metadata}
        if obj == before:
            return before
        obj = copy.deepcopy(obj)
        self._objects[storage][key] = obj
        self._record("MODIFIED", storage, obj, before)
        return obj

    def remove(self, storage: str, namespace: str, name: str) -> Obj:
        """Takes the object away and returns its last state. Raises KeyError."""
        before = self._objects[storage].pop((namespace, name))
        last = copy.deepcopy(before)
        self._record("DELETED", storage, last, before)
        return last

    def new_uid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _record(
        self, kind: Literal["ADDED", "MODIFIED", "DELETED"], storage: str, obj: Obj, before: Obj | None
    ) -> None:
        self.revision += 1
        self._views.pop(storage, None)
        self._owners.pop(storage, None)
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if len(self._history) == HISTORY:
            self._floor = self._history[0].revision
        self._history.append(Change(self.revision, kind, storage, obj, before))
        for waker in self._wakers:
            waker.set()

    def changes_since(self, revision: int, storage: str) -> list[Change]:
        """The changes after `revision`, oldest first. Raises Compacted."""
        if revision < self._floor:
            raise Compacted
        found: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.storage == storage:
                found.append(change)
        return found[::-1]

    def compact(self) -> None:
        """Forgets the history and the open paged lists, as etcd does every five minutes."""
        self._history.clear()
        self._floor = self.revision
        self._snapshots.clear()

    def hold(self, storage: str) -> int:
        """Keeps the present state of a resource for a paged list; returns its revision."""
        self._snapshots.setdefault((self.revision, storage), self.all(storage))
        while len(self._snapshots) > SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        return self.revision

    def held(self, revision: int, storage: str) -> list[Obj]:
        """The state kept by `hold`. Raises Compacted."""
        try:
            return self._snapshots[(revision, storage)]
        except KeyError:
            raise Compacted from None

    def subscribe(self) -> asyncio.Event:
        """An event that is set at every change, until given to `unsubscribe`."""
        waker = asyncio.Event()
        self._wakers.add(waker)
        return waker

    def unsubscribe(self, waker: asyncio.Event) -> None:
        self._wakers.discard(waker)

    def wake(self) -> None:
        """Wakes every subscriber without a change, so that streams can notice that the server is closing."""
        for waker in self._wakers:
            waker.set()
