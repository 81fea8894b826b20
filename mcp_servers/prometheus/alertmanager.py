"""Alertmanager's API, version 2: alerts, their groups, and silences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mcp_servers.observing.answers import as_json, plain_failure, refuse_status
from mcp_servers.observing.connection import Connection, Reply, segment
from mcp_servers.observing.matchers import Matcher, of_wire
from mcp_servers.prometheus.watching import summary_of, words
from opswarm.errors import InvalidInput, NotFound, Unavailable
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp.text import one_line


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. `state` is active, suppressed or unprocessed; `silenced_by` and `inhibited_by` are ids."""

    labels: Mapping[str, str]
    state: str
    starts_at: str
    silenced_by: tuple[str, ...]
    inhibited_by: tuple[str, ...]
    receivers: tuple[str, ...]
    summary: str

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    def __str__(self) -> str:
        """For a person who is to judge a silence: nothing in it that changes while the alert is the same."""
        severity, namespace = self.labels.get("severity", ""), self.labels.get("namespace", "")
        where = f" in {namespace}" if namespace else ""
        return one_line(f"{self.name}{f' ({severity})' if severity else ''}{where}")


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence. `state` is active, pending or expired; times are RFC 3339."""

    id: str
    state: str
    matchers: tuple[Matcher, ...]
    created_by: str
    comment: str
    starts_at: str
    ends_at: str

    @property
    def ends(self) -> float:
        """Unix seconds; 0 when it can't be read."""
        return seconds_of(self.ends_at)

    def __str__(self) -> str:
        return ", ".join(str(m) for m in self.matchers)


Group = tuple[Mapping[str, str], str, tuple[Alert, ...]]
"""Labels, receiver, alerts."""


class AlertmanagerApi:
    """One Alertmanager. Every method raises what `Connection` does, and refusals as `OpswarmError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.name = connection.name

    async def alerts(self, matchers: Sequence[Matcher] = (), receiver: str = "") -> tuple[Alert, ...]:
        """The alerts that all of the matchers match, silenced and inhibited ones too."""
        params = [*_filters(matchers), *([("receiver", receiver)] if receiver else [])]
        found = self._list(await self._connection.read("/api/v2/alerts", params))
        return tuple(_alert(a) for a in found)

    async def groups(
        self, matchers: Sequence[Matcher] = ()
    ) -> tuple[tuple[Mapping[str, str], str, tuple[Alert, ...]], ...]:
        """The groups that notifications are sent in: labels, receiver, alerts."""
        found = self._list(await self._connection.read("/api/v2/alerts/groups", _filters(matchers)))
        return tuple(
            (
                words(g.get("labels")),
                _named(g.get("receiver")),
                tuple(_alert(a) for a in g.get("alerts") or () if isinstance(a, dict)),
            )
            for g in found
        )

    async def silences(self, matchers: Sequence[Matcher] = ()) -> tuple[Silence, ...]:
        """All silences, those that have ended not long ago too."""
        found = self._list(await self._connection.read("/api/v2/silences", _filters(matchers)))
        return tuple(_silence(s) for s in found)

    async def silence(self, id: str) -> Silence:
        """Raises `NotFound`."""
        reply = await self._connection.read(f"/api/v2/silence/{segment(id)}")
        if reply.status == 404:
            raise NotFound(f"There is no silence {one_line(id)[:80]}.", hint="silences_list shows those there are.")
        body = self._json(reply)
        if not isinstance(body, dict):
            raise Unavailable(f"{self.name} answered with something that is not a silence.")
        return _silence(body)

    async def create_silence(self, matchers: Sequence[Matcher], start: float, end: float, by: str, comment: str) -> str:
        """The id of a new silence from `start` to `end` (Unix seconds)."""
        body = {
            "matchers": [m.wire() for m in matchers],
            "startsAt": _rfc3339(start),
            "endsAt": _rfc3339(end),
            "createdBy": by,
            "comment": comment,
        }
        made = self._json(await self._connection.write("POST", "/api/v2/silences", body))
        if not isinstance(made, dict) or not made.get("silenceID"):
            raise Unavailable(f"{self.name} did not say which silence it made.")
        return str(made["silenceID"])

    async def expire_silence(self, id: str) -> None:
        reply = await self._connection.write("DELETE", f"/api/v2/silence/{segment(id)}")
        if reply.status != 200:
            self._json(reply)
            raise plain_failure(reply, self.name)

    async def check(self) -> None:
        """Returns when it answers."""
        self._json(await self._connection.read("/api/v2/status"))

    def _list(self, reply: Reply) -> list[Mapping[str, Any]]:
        body = self._json(reply)
        if not isinstance(body, list):
            raise Unavailable(f"{self.name} answered with something that is not its API's.")
        return [found for found in body if isinstance(found, dict)]

    def _json(self, reply: Reply) -> Any:
        refuse_status(reply, self.name)
        if reply.status < 300:
            return as_json(reply, self.name)
        if reply.status in (400, 422) and (said := _sentence(reply.body)):
            raise InvalidInput(f"{self.name} can't do that: {said}.")
        raise plain_failure(reply, self.name)


def seconds_of(timestamp: str) -> float:
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _sentence(body: bytes) -> str:
    """What a refusal says: a JSON string, or an object with a message."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    text = said.get("message") if isinstance(said, dict) else said
    return cap_bytes(one_line(text), 500).rstrip(".") if isinstance(text, str) else ""


def _filters(matchers: Sequence[Matcher]) -> list[tuple[str, str]]:
    return [("filter", str(m)) for m in matchers]


def _alert(found: Mapping[str, Any]) -> Alert:
    status = found.get("status")
    status = status if isinstance(status, dict) else {}
    receivers = found.get("receivers")
    return Alert(
        _raw(found.get("labels")),
        str(status.get("state") or "unknown"),
        str(found.get("startsAt") or ""),
        tuple(str(i) for i in status.get("silencedBy") or ()),
        tuple(str(i) for i in status.get("inhibitedBy") or ()),
        tuple(_named(r) for r in receivers) if isinstance(receivers, list) else (),
        summary_of(found.get("annotations")),
    )


def _raw(labels: Any) -> dict[str, str]:
    """As they are, to be matched."""
    return {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}


def _named(found: Any) -> str:
    return one_line(str(found.get("name") or "")) if isinstance(found, dict) else ""


def _silence(found: Mapping[str, Any]) -> Silence:
    status = found.get("status")
    state = status.get("state") if isinstance(status, dict) else ""
    return Silence(
        str(found.get("id") or ""),
        str(state or "unknown"),
        of_wire(found.get("matchers")),
        one_line(str(found.get("createdBy") or "")),
        one_line(str(found.get("comment") or "")),
        str(found.get("startsAt") or ""),
        str(found.get("endsAt") or ""),
    )


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
