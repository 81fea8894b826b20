"""Kubernetes events of either API (core/v1 and events.k8s.io/v1) as one type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_servers.cluster.finding import Evidence, ObjectRef
from mcp_servers.kubernetes.diagnose.fields import Obj, at, number, text
from mcp_servers.kubernetes.rendering import duration, parse_time

_TIMES = (
    ("series", "lastObservedTime"),
    ("lastTimestamp",),
    ("deprecatedLastTimestamp",),
    ("eventTime",),
    ("firstTimestamp",),
    ("deprecatedFirstTimestamp",),
    ("metadata", "creationTimestamp"),
)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `field` is the part of the object it is about, such as `spec.containers{app}`."""

    about: ObjectRef
    uid: str
    field: str
    type: str
    reason: str
    message: str
    count: int
    last: datetime

    def age(self, now: datetime) -> float:
        """Seconds since it was last seen."""
        return (now - self.last).total_seconds()

    def evidence(self, now: datetime) -> Evidence:
        times = f" (x{self.count})" if self.count > 1 else ""
        return Evidence(f"event {self.reason} {duration(self.age(now))} ago{times}", self.message)

    @property
    def dated(self) -> bool:
        """Whether it says when it was."""
        return self.last > _NEVER

    @property
    def container(self) -> str:
        """The container that the event is about, "" when it is about the whole object."""
        return self.field.partition("{")[2].rstrip("}")


def read_event(obj: Obj) -> Event:
    """One event of either API; a time it lacks counts as 1970."""
    about = at(obj, "involvedObject") or at(obj, "regarding") or {}
    last = next((when for path in _TIMES if (when := parse_time(text(obj, *path)))), _NEVER)
    count = number(obj, "series", "count") or number(obj, "count") or number(obj, "deprecatedCount") or 1
    return Event(
        ObjectRef(text(about, "kind"), text(about, "namespace"), text(about, "name")),
        text(about, "uid"),
        text(about, "fieldPath"),
        text(obj, "type"),
        text(obj, "reason"),
        text(obj, "message") or text(obj, "note"),
        count,
        last,
    )
