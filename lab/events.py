"""Events: recording them as the components of a cluster do, and their events.k8s.io/v1 form."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.objects import Obj, meta, name_of, namespace_of, uid_of
from lab.registry import Resource
from lab.store import Store
from lab.times import parse_instant, rfc3339

KEPT = timedelta(hours=1)
"""kube-apiserver's default --event-ttl."""


@dataclass(frozen=True)
class Source:
    """The component that reports; the kubelet also names its node."""

    component: str
    host: str = ""


class Recorder:
    """Writes events. The same event again raises the count of the first, as client-go's correlator does."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._seen: dict[tuple[str, ...], str] = {}

    def record(
        self,
        about: Obj,
        source: Source,
        type_: str,
        reason: str,
        message: str,
        at: datetime,
        *,
        field_path: str = "",
        times: int = 1,
        last: datetime | None = None,
    ) -> None:
        """Records that something happened `times` times, first at `at` and last at `last`."""
        namespace = namespace_of(about) or "default"
        last = last or at
        key = (uid_of(about), field_path, type_, reason, message, source.component, source.host)
        known = self._seen.get(key)
        event = self._store.get("events", namespace, known) if known else None
        if event is not None:
            newest = max(event["lastTimestamp"], rfc3339(last))
            self._store.replace("events", {**event, "count": event["count"] + times, "lastTimestamp": newest})
            return
        involved: Obj = {
            "kind": about["kind"],
            "namespace": namespace_of(about),
            "name": name_of(about),
            "uid": uid_of(about),
            "apiVersion": about["apiVersion"],
            "resourceVersion": meta(about).get("resourceVersion", ""),
            "fieldPath": field_path,
        }
        name = f"{name_of(about)}.{self._rng.getrandbits(60) | (1 << 60):x}"
        self._seen[key] = name
        emitter: Obj = {"component": source.component}
        self._store.add(
            "events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": rfc3339(at)},
                "involvedObject": {k: v for k, v in involved.items() if v},
                "reason": reason,
                "message": message,
                "source": emitter | {"host": source.host} if source.host else emitter,
                "firstTimestamp": rfc3339(at),
                "lastTimestamp": rfc3339(last),
                "count": times,
                "type": type_,
                "eventTime": None,
                "reportingComponent": source.component,
                "reportingInstance": source.host,
            },
        )

    def expire(self, now: datetime) -> None:
        """Removes the events that nothing has repeated for an hour."""
        for event in self._store.all("events"):
            if now - parse_instant(event["lastTimestamp"]) > KEPT:
                self._store.remove("events", namespace_of(event), name_of(event))


def as_served(obj: Obj, resource: Resource) -> Obj:
    """The stored object as `resource` serves it: events.k8s.io has other field names for the same event."""
    if resource.group != "events.k8s.io":
        return obj
    served: Obj = {
        "metadata": obj["metadata"],
        "eventTime": obj.get("eventTime"),
        "reportingController": obj.get("reportingComponent", ""),
        "reportingInstance": obj.get("reportingInstance", ""),
        "reason": obj.get("reason", ""),
        "regarding": obj.get("involvedObject", {}),
        "note": obj.get("message", ""),
        "type": obj.get("type", "Normal"),
        "deprecatedSource": obj.get("source", {}),
        "deprecatedFirstTimestamp": obj.get("firstTimestamp"),
        "deprecatedLastTimestamp": obj.get("lastTimestamp"),
        "deprecatedCount": obj.get("count", 1),
    }
    return {key: value for key, value in served.items() if value not in ("", None) or key == "eventTime"}


def as_stored(obj: Obj, resource: Resource) -> Obj:
    """The other way: what a client sent to `resource`, as it is stored."""
    if resource.group != "events.k8s.io":
        return obj
    stamp = obj.get("deprecatedLastTimestamp") or obj.get("eventTime")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": obj["metadata"],
        "involvedObject": obj.get("regarding") or {},
        "reason": obj.get("reason", ""),
        "message": obj.get("note", ""),
        "type": obj.get("type", "Normal"),
        "eventTime": obj.get("eventTime"),
        "firstTimestamp": obj.get("deprecatedFirstTimestamp") or stamp,
        "lastTimestamp": stamp,
        "count": obj.get("deprecatedCount", 1),
        "source": obj.get("deprecatedSource") or {"component": obj.get("reportingController", "")},
        "reportingComponent": obj.get("reportingController", ""),
        "reportingInstance": obj.get("reportingInstance", ""),
    }
