"""Tools that read an Alertmanager: alerts, the groups they are sent in, and silences."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments
from mcp_servers.observing.arguments import Cursor, Limit
from mcp_servers.observing.matchers import Matcher, from_filter
from mcp_servers.observing.selectors import labels_text
from mcp_servers.observing.times import Clock, stamp
from mcp_servers.prometheus.alertmanager import Alert, AlertmanagerApi, Silence
from mcp_servers.prometheus.watching import other_labels, severity_rank, since
from opswarm.mcp.pages import paged
from opswarm.mcp.text import duration
from opswarm.mcp.tools import ToolOutput

_ALERT_STATES = ("active", "silenced", "inhibited", "unprocessed")
_SILENCE_STATES = ("active", "pending", "expired")

Filter = Annotated[str, Field(description='Matchers: severity="critical", namespace=~"a|b".')]


class Alerting:
    """Reading one Alertmanager."""

    def __init__(self, api: AlertmanagerApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def alertmanager_alerts(
        self,
        filter: Filter = "",
        state: Annotated[str, Field(description="active, silenced, inhibited or unprocessed.")] = "",
        grouped: Annotated[bool, Field(description="By notification group and receiver.")] = False,
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List alerts in Alertmanager: notified about, silenced or inhibited."""
        arguments.limited(limit)
        arguments.one_of(state, _ALERT_STATES, "state")
        matchers = from_filter(filter)
        if grouped:
            return await self._groups(matchers, state, limit, cursor)
        alerts = await self._api.alerts(matchers)
        kept = sorted(
            (a for a in alerts if state in ("", _state(a))),
            key=lambda a: (_ALERT_STATES.index(_state(a)), severity_rank(a.labels), a.name, other_labels(a.labels)),
        )
        title = f"{len(kept)} alerts ({_counted([_state(a) for a in kept])})" if kept else "No alerts."
        if not kept:
            return ToolOutput(title, {"items": [], "total": 0, "cursor": ""})
        now = self._clock()
        return paged(
            kept,
            ("STATE", "SEVERITY", "ALERT", "SINCE", "LABELS", "SUMMARY"),
            lambda a: (
                _state_told(a), a.labels.get("severity", "-"), a.name, since(a.starts_at, now),
                other_labels(a.labels), a.summary,
            ),
            _alert_data,
            what="alerts", advice="filter or state", limit=limit, cursor=cursor, title=title,
        )  # fmt: skip

    async def _groups(self, matchers: Sequence[Matcher], state: str, limit: int, cursor: str) -> ToolOutput:
        groups = sorted(await self._api.groups(matchers), key=lambda g: (g[1], labels_text(g[0])))
        if state:
            kept = [(labels, to, tuple(a for a in alerts if _state(a) == state)) for labels, to, alerts in groups]
            groups = [g for g in kept if g[2]]
        if not groups:
            return ToolOutput("No groups: there are no such alerts.", {"items": [], "total": 0, "cursor": ""})
        return paged(
            groups,
            ("RECEIVER", "GROUP", "ALERTS", "STATES"),
            lambda g: (g[1], labels_text(g[0]), _counted([a.name for a in g[2]]), _counted([_state(a) for a in g[2]])),
            lambda g: {"receiver": g[1], "labels": dict(g[0]), "alerts": [_alert_data(a) for a in g[2]]},
            what="groups", advice="filter or state", limit=limit, cursor=cursor, title=f"{len(groups)} groups",
        )  # fmt: skip

    async def silences_list(
        self,
        filter: Filter = "",
        state: Annotated[str, Field(description="active, pending or expired; empty: all but expired.")] = "",
        limit: Limit = 30,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List silences: what they mute, until when, who made them and why."""
        arguments.limited(limit)
        arguments.one_of(state, _SILENCE_STATES, "state")
        silences = await self._api.silences(from_filter(filter))
        kept = sorted(
            (s for s in silences if (s.state == state if state else s.state != "expired")),
            key=lambda s: (s.state, s.ends_at, s.id),
        )
        if not kept:
            others = _counted([s.state for s in silences])
            return ToolOutput(
                f"No {state or 'active or pending'} silences{f' ({others})' if others else ''}.",
                {"items": [], "total": 0, "cursor": ""},
            )
        now = self._clock()
        return paged(
            kept,
            ("STATE", "UNTIL", "MUTES", "BY", "COMMENT", "ID"),
            lambda s: (s.state, _until(s, now), str(s), s.created_by, s.comment, s.id),
            lambda s: {
                "id": s.id, "state": s.state, "matchers": [str(m) for m in s.matchers], "created_by": s.created_by,
                "comment": s.comment, "starts_at": s.starts_at, "ends_at": s.ends_at,
            },
            what="silences", advice="filter or state", limit=limit, cursor=cursor, title=f"{len(kept)} silences",
        )  # fmt: skip


def _state(alert: Alert) -> str:
    """In the words of a person: why a suppressed alert is suppressed."""
    if alert.silenced_by:
        return "silenced"
    if alert.inhibited_by:
        return "inhibited"
    return alert.state if alert.state in ("active", "unprocessed") else "unprocessed"


def _state_told(alert: Alert) -> str:
    return f"silenced by {alert.silenced_by[0][:8]}" if alert.silenced_by else _state(alert)


def _until(silence: Silence, now: float) -> str:
    left = silence.ends - now
    return f"{stamp(silence.ends)}{f' ({duration(left)} left)' if silence.state == 'active' and left > 0 else ''}"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common(8))


def _alert_data(alert: Alert) -> dict[str, Any]:
    return {
        "name": alert.name, "state": _state(alert), "labels": dict(alert.labels), "starts_at": alert.starts_at,
        "silenced_by": list(alert.silenced_by), "inhibited_by": list(alert.inhibited_by),
        "receivers": list(alert.receivers), "summary": alert.summary,
    }  # fmt: skip
