"""Silencing alerts for a while, and ending a silence."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from pydantic import Field

from mcp_servers.observing import times
from mcp_servers.observing.matchers import Matcher, all_match, all_parsed
from mcp_servers.observing.times import Clock, spelt, stamp
from mcp_servers.prometheus.alertmanager import Alert, AlertmanagerApi, Silence
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from opswarm.guard.denials import Limit
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Target, Verb
from opswarm.mcp.arguments import shown
from opswarm.mcp.text import one_line
from opswarm.mcp.tools import ToolSpec

TOOLSET = "actions"
AUTHOR = "opswarm"
"""Who makes our silences, as Alertmanager shows it."""

LEAST_SECONDS, MOST_SECONDS = 60.0, 7 * 86_400.0
SAFE_SECONDS = 4 * 3_600.0
"""What mutes one alert of one namespace for no longer than this is safe, else risky."""

WATCHDOGS = frozenset({"watchdog", "deadmansswitch", "deadmanssnitch"})
"""Alerts that always fire, so that their silence tells that alerting is broken."""

_MOST_LISTED = 40
_SETTLE_SECONDS = 2.0
_LISTED = re.compile(r"[a-z0-9-]*(?:\|[a-z0-9-]*)*")
"""A pattern that is no more than a list of names."""

_SLUG = re.compile(r"[^a-z0-9.-]+")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

Sleep = Callable[[float], Awaitable[None]]


class Silences:
    """Making and ending silences in one Alertmanager."""

    def __init__(self, api: AlertmanagerApi, clock: Clock = time.time, sleep: Sleep = asyncio.sleep) -> None:
        self._api = api
        self._clock = clock
        self._sleep = sleep

    def specs(self) -> list[ToolSpec]:
        """Both tools; what a call comes to is told by its plan."""
        create = Action(self._create, self._probe_create, self._verify_create, verify_seconds=30)
        expire = Action(self._expire, self._probe_expire, self._verify_expire, verify_seconds=30)
        return [
            ToolSpec(self.silence_create, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=create),
            ToolSpec(self.silence_expire, read_only=False, toolset=TOOLSET, risk=Risk.SAFE, action=expire),
        ]

    async def silence_create(
        self,
        matchers: Annotated[
            list[str],
            Field(description='All must match, such as alertname="X", namespace="media".', min_length=1, max_length=20),
        ],
        comment: Annotated[str, Field(description="Why.", max_length=500)],
        duration: Annotated[str, Field(description="1m to 7d.")] = "2h",
    ) -> Plan:
        """Mute alerts in Alertmanager for a while from now."""
        chosen = all_parsed(matchers)
        seconds = times.duration(duration, "duration")
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            raise InvalidInput(f"duration must be from {spelt(LEAST_SECONDS)} to 7d, not {spelt(seconds)}.")
        why = _comment(comment)
        _narrow(chosen)
        alerts = await self._api.alerts()
        muted = [a for a in alerts if all_match(chosen, a.labels)]
        _not_everything(chosen, alerts, muted)
        for other in await self._api.silences():
            if other.state in ("active", "pending") and set(other.matchers) == set(chosen):
                raise Conflict(f"The silence {other.id} mutes the same, until {stamp(other.ends)}.")
        told = ", ".join(str(m) for m in chosen)
        facts = [f"Why: {why}"]
        facts += _listed(muted, "It mutes now", "It mutes nothing that fires now.")
        return Plan(
            f"Silence alerts with {told} for {spelt(seconds)}.",
            _touches(chosen, _namespaces(chosen), muted),
            _risk(chosen, muted, seconds),
            "\n".join(facts),
            {"matchers": [str(m) for m in chosen], "seconds": seconds, "comment": why},
        )

    async def silence_expire(
        self, id: Annotated[str, Field(description="Of the silence, from silences_list.", max_length=64)]
    ) -> Plan:
        """End a silence now, so that its alerts are notified about again."""
        if not _ID.fullmatch(id):
            raise InvalidInput(f"id: {shown(id)} is not the id of a silence.")
        silence = await self._api.silence(id)
        if silence.state not in ("active", "pending"):
            raise InvalidInput(f"The silence {id} has ended ({stamp(silence.ends)}).")
        muted = [a for a in await self._api.alerts() if id in a.silenced_by]
        ours = silence.created_by == AUTHOR
        facts = [f"By {silence.created_by}: {silence.comment}", f"It would end by itself at {stamp(silence.ends)}."]
        return Plan(
            f"End the silence {id} of alerts with {silence}.",
            (),
            Risk.SAFE if ours else Risk.RISKY,
            "\n".join([*facts, *_listed(muted, "Notified about again", "Nothing that fires is muted by it.")]),
            {"id": id, "ends": silence.ends},
        )

    async def _create(self, intent: Intent) -> Done:
        start = self._clock()
        end = start + float(intent.state["seconds"])
        matchers = all_parsed(intent.state["matchers"])
        comment = f"{intent.state['comment']} {_mark(intent)}"
        id = await self._api.create_silence(matchers, start, end, AUTHOR, comment)
        return Done(f"Made the silence {id}, until {stamp(end)}.", {"id": id, "ends": end})

    async def _made(self, intent: Intent) -> Silence | None:
        mark = _mark(intent)
        found = [s for s in await self._api.silences() if s.created_by == AUTHOR and s.comment.endswith(mark)]
        return found[0] if found else None

    async def _probe_create(self, intent: Intent) -> Happened:
        if await self._made(intent) is not None:
            return Happened.YES
        # Replicas tell one another of a silence within a second or so, and the next one may be asked now.
        await self._sleep(_SETTLE_SECONDS)
        return Happened.NO if await self._made(intent) is None else Happened.YES

    async def _verify_create(self, intent: Intent) -> Verification:
        silence = await self._made(intent)
        if silence is None:
            return Verification(False, "Alertmanager has no such silence.")
        muted = [a for a in await self._api.alerts() if silence.id in a.silenced_by]
        text = f"The silence {silence.id} is {silence.state} until {stamp(silence.ends)} and mutes {len(muted)} alerts."
        # Pending is what starts by Alertmanager's clock in a moment.
        return Verification({"active": True, "pending": None}.get(silence.state, False), text)

    async def _expire(self, intent: Intent) -> Done:
        await self._api.expire_silence(str(intent.state["id"]))
        return Done(f"Ended the silence {intent.state['id']}.", {"id": intent.state["id"]})

    async def _probe_expire(self, intent: Intent) -> Happened:
        try:
            silence = await self._api.silence(str(intent.state["id"]))
        except NotFound:
            return Happened.UNKNOWN
        if silence.state != "expired":
            return Happened.NO
        # Before its time somebody ended it; at its time it ended by itself.
        return Happened.YES if silence.ends < float(intent.state["ends"]) else Happened.UNKNOWN

    async def _verify_expire(self, intent: Intent) -> Verification:
        silence = await self._api.silence(str(intent.state["id"]))
        return Verification(silence.state == "expired", f"The silence {silence.id} is {silence.state}.")


def _mark(intent: Intent) -> str:
    """What the comment of a silence ends with, for `probe` to find."""
    return f"[{AUTHOR} {intent.key}]"


def _comment(text: str) -> str:
    told = one_line(text)
    if not 5 <= len(told) <= 500:
        raise InvalidInput("comment must say in 5 to 500 characters why the alerts are muted.")
    if f"[{AUTHOR}" in told:
        raise InvalidInput(f"comment must not have [{AUTHOR} in it.")
    return told


def _narrow(matchers: Sequence[Matcher]) -> None:
    if len(set(matchers)) < len(matchers):
        raise InvalidInput("A matcher is given twice.")
    if not any(m.narrows for m in matchers):
        raise InvalidInput(
            "These matchers would mute nearly every alert.",
            hint='Name at least one label by its value, such as alertname="KubePodCrashLooping".',
        )


def _not_everything(matchers: Sequence[Matcher], alerts: Sequence[Alert], muted: Sequence[Alert]) -> None:
    """Raises `InvalidInput` where what looks narrow is not: a label that every alert has, or the watchdog's."""
    named = any(m.name == "alertname" and m.op == "=" for m in matchers)
    if not named and any(a.name.lower() in WATCHDOGS for a in muted):
        raise InvalidInput(
            "This would mute the watchdog, whose silence means that alerting is broken.", hint="Add a matcher."
        )
    if len(muted) == len(alerts) and len({a.name for a in alerts}) > 2:
        raise InvalidInput(f"This would mute all of the {len(alerts)} alerts there are.", hint="Add a matcher.")


def _namespaces(matchers: Sequence[Matcher]) -> frozenset[str]:
    """The namespaces whose alerts it may ever mute, "" for alerts of none.

    Raises `PermissionDenied` where that is not for certain: which are protected is the policy's, and a pattern reaches
    what will be there tomorrow.
    """
    about = [m for m in matchers if m.name == "namespace"]
    lists = [m.value.split("|") for m in about if m.op == "=" or (m.op == "=~" and _LISTED.fullmatch(m.value))]
    if not lists:
        raise PermissionDenied(
            "It does not say for which namespaces it is, so it could mute alerts of protected ones.",
            hint='Add namespace="media" or namespace=~"media|default"; namespace="" is for alerts of no namespace.',
            rule=Limit.NAMESPACE_PROTECTED,
        )
    return frozenset(n for n in lists[0] if all(m.matches({"namespace": n}) for m in about))


def _touches(matchers: Sequence[Matcher], spaces: frozenset[str], muted: Sequence[Alert]) -> tuple[Target, ...]:
    """The alerts by namespace: those that are muted now, and those of the namespaces that it is for."""
    names = {m.value for m in matchers if m.name == "alertname" and m.op == "="} or {"any"}
    places = {(a.labels["namespace"], a.name) for a in muted if a.labels.get("namespace")}
    places |= {(space, name) for space in spaces if space for name in names}
    return tuple(Target(Verb.SILENCE, "Alert", _slug(name), space) for space, name in sorted(places))


def _slug(name: str) -> str:
    """The name of an alert as the limits spell names."""
    return _SLUG.sub("-", name.lower()).strip("-.")[:253].strip("-.") or "alert"


def _risk(matchers: Sequence[Matcher], muted: Sequence[Alert], seconds: float) -> Risk:
    pinned = {m.name for m in matchers if m.op == "=" and m.value}
    severe = any(a.labels.get("severity", "").lower() in ("critical", "page", "error") for a in muted)
    watchdog = any(m.name == "alertname" and m.value.lower() in WATCHDOGS for m in matchers)
    small = {"alertname", "namespace"} <= pinned and seconds <= SAFE_SECONDS
    return Risk.SAFE if small and not severe and not watchdog else Risk.RISKY


def _listed(alerts: Sequence[Alert], what: str, none: str) -> list[str]:
    """The alerts by kind, without counts: how many of each there are changes while a person reads."""
    kinds = sorted({str(a) for a in alerts})
    if not kinds:
        return [none]
    more = [f"- and {len(kinds) - _MOST_LISTED} kinds more"] if len(kinds) > _MOST_LISTED else []
    return [f"{what}:", *(f"- {k}" for k in kinds[:_MOST_LISTED]), *more]
