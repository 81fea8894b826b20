"""Tools that tell how Prometheus itself is doing: its rules, the alerts they raise, and what it scrapes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.observing import arguments
from mcp_servers.observing.arguments import Cursor, Limit
from mcp_servers.observing.selectors import labels_text
from mcp_servers.observing.times import Clock
from mcp_servers.observing.values import as_float, number
from mcp_servers.prometheus.api import PrometheusApi
from opswarm.mcp.pages import paged
from opswarm.mcp.text import duration, one_line
from opswarm.mcp.tools import ToolOutput

_RULE_STATES = ("failing", "firing", "pending", "inactive")
_ALERT_STATES = ("firing", "pending")
_HEALTH = ("down", "unknown", "up")
_RANK = {"err": 0, "firing": 1, "pending": 2, "inactive": 3, "": 4}
_LONGEST = 300

Keyword = Annotated[str, Field(description="Part of a name or label.")]


class Watching:
    """Rules, alerts and targets of one server."""

    def __init__(self, api: PrometheusApi, clock: Clock = time.time) -> None:
        self._api = api
        self._clock = clock

    async def rules_list(
        self,
        keyword: Annotated[str, Field(description="Part of a rule's name, group, file or query.")] = "",
        kind: Annotated[str, Field(description="alerting or recording.")] = "",
        state: Annotated[str, Field(description="failing, firing, pending or inactive.")] = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List rules with state and last error; failing and firing ones first."""
        arguments.limited(limit)
        arguments.one_of(kind, ("alerting", "recording"), "kind")
        arguments.one_of(state, _RULE_STATES, "state")
        part = arguments.word(keyword, "keyword")
        found = await self._api.rules()
        rules = [
            _rule(r, g) for g in found.data if isinstance(g, dict) for r in g.get("rules") or () if isinstance(r, dict)
        ]
        kept = [
            r
            for r in rules
            if kind in ("", r["kind"])
            and (not state or (r["health"] == "err" if state == "failing" else r["state"] == state))
            and any(part in str(r[f]).lower() for f in ("name", "group", "file", "query"))
        ]
        kept.sort(key=lambda r: (_RANK[_worst(r)], r["group"], r["name"]))
        counts = Counter(_worst(r) for r in rules)
        title = f"{len(kept)} of {len(rules)} rules ({counts['err']} failing, {counts['firing']} firing)"
        if not kept:
            none = "" if rules else " Rules of VictoriaMetrics are in vmalert, of Thanos in its ruler: set rules_url."
            return ToolOutput(f"{title}.{none}", {"items": [], "total": 0, "cursor": ""})
        return paged(
            kept,
            ("STATE", "RULE", "GROUP", "FOR", "QUERY OR ERROR"),
            lambda r: (
                "FAILING" if r["health"] == "err" else r["state"] or r["kind"],
                r["name"], r["group"], duration(r["for"]) if r["for"] else "-", r["error"] or r["query"],
            ),
            lambda r: r,
            what="rules", advice="keyword, kind or state", limit=limit, cursor=cursor, title=title, notes=found.notes,
            last=_LONGEST,
        )  # fmt: skip

    async def alerts_list(
        self,
        state: Annotated[str, Field(description="firing or pending.")] = "",
        keyword: Keyword = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List what Prometheus's rules alert about now. Silences and routing are Alertmanager's."""
        arguments.limited(limit)
        arguments.one_of(state, _ALERT_STATES, "state")
        part = arguments.word(keyword, "keyword")
        found = await self._api.alerts()
        alerts = [_alert(a) for a in found.data if isinstance(a, dict)]
        kept = [
            a
            for a in alerts
            if state in ("", a["state"]) and any(part in str(v).lower() for v in (*a["labels"].values(), a["summary"]))
        ]
        kept.sort(key=lambda a: (a["state"] != "firing", severity_rank(a["labels"]), a["name"]))
        now = self._clock()
        title = f"{len(kept)} of {len(alerts)} alerts"
        if not kept:
            return ToolOutput(f"{title}.", {"items": [], "total": 0, "cursor": ""})
        return paged(
            kept,
            ("STATE", "SEVERITY", "ALERT", "SINCE", "VALUE", "LABELS", "SUMMARY"),
            lambda a: (
                a["state"], a["labels"].get("severity", "-"), a["name"], since(a["active_at"], now),
                _shown_number(a["value"]), other_labels(a["labels"]), a["summary"],
            ),
            lambda a: a,
            what="alerts", advice="state or keyword", limit=limit, cursor=cursor, title=title, notes=found.notes,
        )  # fmt: skip

    async def targets_list(
        self,
        health: Annotated[str, Field(description="down, unknown or up.")] = "",
        keyword: Annotated[str, Field(description="Part of a job, an address or a label.")] = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List what is scraped, with the last error; what is down first."""
        arguments.limited(limit)
        arguments.one_of(health, _HEALTH, "health")
        part = arguments.word(keyword, "keyword")
        found = await self._api.targets()
        targets = [_target(t) for t in found.get("activeTargets") or () if isinstance(t, dict)]
        kept = [
            t
            for t in targets
            if health in ("", t["health"]) and any(part in str(v).lower() for v in (t["url"], *t["labels"].values()))
        ]
        order = {h: i for i, h in enumerate(_HEALTH)}
        kept.sort(key=lambda t: (order.get(t["health"], 1), t["job"], t["instance"]))
        counts = Counter(t["health"] for t in targets)
        title = f"{len(kept)} of {len(targets)} targets ({', '.join(f'{counts[h]} {h}' for h in _HEALTH if counts[h])})"
        if not kept:
            return ToolOutput(f"{title if targets else 'Nothing is scraped'}.", {"items": [], "total": 0, "cursor": ""})
        now = self._clock()
        return paged(
            kept,
            ("HEALTH", "JOB", "INSTANCE", "SCRAPED", "TOOK", "LAST ERROR"),
            lambda t: (
                t["health"], t["job"], t["instance"], since(t["scraped_at"], now), f"{number(t['seconds'])}s",
                t["error"] or "-",
            ),
            lambda t: t,
            what="targets", advice="health or keyword", limit=limit, cursor=cursor, title=title, last=_LONGEST,
        )  # fmt: skip


def since(timestamp: str, now: float) -> str:
    """How long ago an RFC 3339 time was; "-" for none and for the zero time of Go."""
    try:
        when = datetime.fromisoformat(timestamp)
    except ValueError:
        return "-"
    return duration(now - when.timestamp()) if when.year > 1970 and when.tzinfo else "-"


def severity_rank(labels: Mapping[str, str]) -> int:
    order = ("critical", "error", "warning", "info", "none")
    severity = labels.get("severity", "").lower()
    return order.index(severity) if severity in order else 2


def other_labels(labels: Mapping[str, str]) -> str:
    """The labels beside name and severity, without braces."""
    return labels_text({k: v for k, v in labels.items() if k not in ("alertname", "severity")})[1:-1] or "-"


def words(labels: Any) -> dict[str, str]:
    return {str(k): one_line(str(v)) for k, v in labels.items()} if isinstance(labels, dict) else {}


def summary_of(annotations: Any) -> str:
    told = words(annotations)
    return next((told[k][:_LONGEST] for k in ("summary", "message", "description") if told.get(k)), "")


def _rule(found: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """A rule; `for` in seconds, `health` one of ok, err, unknown."""
    return {
        "name": one_line(str(found.get("name") or "")),
        "kind": str(found.get("type") or ""),
        "state": str(found.get("state") or ""),
        "health": str(found.get("health") or "unknown"),
        "error": one_line(str(found.get("lastError") or ""))[:_LONGEST],
        "query": one_line(str(found.get("query") or ""))[:_LONGEST],
        "group": one_line(str(group.get("name") or "")),
        "file": one_line(str(group.get("file") or "")),
        "for": _seconds(found.get("duration")),
        "evaluated_at": str(found.get("lastEvaluation") or ""),
    }


def _worst(rule: Mapping[str, Any]) -> str:
    return "err" if rule["health"] == "err" else str(rule["state"]) if rule["state"] in _RANK else ""


def _alert(found: Mapping[str, Any]) -> dict[str, Any]:
    labels = words(found.get("labels"))
    return {
        "name": labels.get("alertname", ""),
        "state": str(found.get("state") or ""),
        "active_at": str(found.get("activeAt") or ""),
        "value": str(found.get("value") or ""),
        "labels": labels,
        "summary": summary_of(found.get("annotations")),
    }


def _target(found: Mapping[str, Any]) -> dict[str, Any]:
    """A target; `seconds` is how long its last scrape took."""
    labels = words(found.get("labels"))
    return {
        "health": str(found.get("health") or "unknown"),
        "job": labels.get("job", str(found.get("scrapePool") or "")),
        "instance": labels.get("instance", ""),
        "url": one_line(str(found.get("scrapeUrl") or ""))[:_LONGEST],
        "error": one_line(str(found.get("lastError") or ""))[:_LONGEST],
        "scraped_at": str(found.get("lastScrape") or ""),
        "seconds": _seconds(found.get("lastScrapeDuration")),
        "labels": labels,
    }


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _shown_number(text: str) -> str:
    try:
        return number(as_float(text))
    except ValueError:
        return one_line(text) or "-"
