"""Suspending an object, so that Flux leaves it alone, and resuming it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mcp_servers.cluster.objects import Found, Name, Namespace, Objects, patch, probe
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.cluster.waiting import Time
from mcp_servers.flux.actions.chosen import NEVER_SUSPENDED, Choosing
from mcp_servers.flux.actions.reconciling import WAIT, judged, seen, settled
from mcp_servers.flux.fields import Obj, label
from mcp_servers.flux.kinds import APPLIERS, BY_KIND, SOURCES
from mcp_servers.flux.reading import Kind
from mcp_servers.flux.snapshot import Flux, depends_on, source_ref
from mcp_servers.flux.state import is_suspended, state_of
from opswarm.actions.action import Action, Done, Intent, Plan, Verification
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

_NAMED = 8


class Suspending:
    """Suspending and resuming objects of one cluster."""

    def __init__(self, flux: Flux, objects: Objects, by: Time) -> None:
        self._flux, self._objects, self._by = flux, objects, by
        self._cluster, self._choosing = objects.cluster, Choosing(objects)

    def specs(self) -> list[ToolSpec]:
        suspend = Action(self._set, self._probe, self._stays)
        resume = Action(self._set, self._probe, self._goes_on, verify_seconds=WAIT + 30)
        return [
            ToolSpec(self.flux_suspend, read_only=False, risk=Risk.RISKY, action=suspend),
            ToolSpec(self.flux_resume, read_only=False, risk=Risk.RISKY, action=resume),
        ]

    async def flux_suspend(self, kind: Kind, name: Name, namespace: Namespace) -> Plan:
        """Suspend an object: Flux leaves it and what it applies alone until it is resumed."""
        found = await self._choosing.find(Verb.SUSPEND, kind, name, namespace, NEVER_SUSPENDED)
        if is_suspended(found.obj):
            raise InvalidInput(f"{found} is already suspended.")
        await self._objects.require(found, "patch")
        waiting, notes = await self._waiting_for(found)
        lines = [f"Until it is resumed {_stops(found)}."]
        if waiting:
            more = f", … and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
            lines.append(f"For it wait: {', '.join(waiting[:_NAMED])}{more}.")
        lines += [*notes, *_put_back(found)]
        target = await self._choosing.target(found, Verb.SUSPEND)
        return Plan(f"Suspend {found}.", (target,), Risk.RISKY, "\n".join(lines), found.state(suspend=True))

    async def flux_resume(self, kind: Kind, name: Name, namespace: Namespace) -> Plan:
        """Resume a suspended object: Flux applies what Git, or the chart, says by now."""
        found = await self._choosing.find(Verb.RESUME, kind, name, namespace, NEVER_SUSPENDED)
        if not is_suspended(found.obj):
            raise InvalidInput(f"{found} is not suspended.")
        await self._objects.require(found, "patch")
        lines = [f"It is at {now}." if (now := _revision(found)) else "", await self._would_get(found)]
        lines += _put_back(found)
        return Plan(
            f"Resume {found}.",
            (await self._choosing.target(found, Verb.RESUME),),
            Risk.RISKY,
            "\n".join(filter(None, lines)),
            found.state(suspend=False),
        )

    async def _waiting_for(self, found: Found) -> tuple[list[str], list[str]]:
        """What takes its files from a source, or depends on an object of its own kind; and what could not be listed."""
        ours = (found.resource.kind, found.namespace, found.name)
        if ours[0] not in (*APPLIERS, *SOURCES):
            return [], []
        kinds = [BY_KIND[kind] for kind in ((ours[0],) if ours[0] in APPLIERS else APPLIERS)]
        snapshot = await self._flux.snapshot(kinds)
        waiting = [r for r, obj in snapshot.objects.items() if source_ref(obj) == ours or ours in depends_on(obj)]
        return sorted(map(label, waiting)), snapshot.notes()

    async def _would_get(self, found: Found) -> str:
        """What its source has by now, as far as that can be said."""
        if found.resource.kind != "Kustomization":
            return ""
        reference = source_ref(found.obj)
        if reference is None:
            return ""
        try:
            source = await self._flux.find(reference[0], reference[2], reference[1])
        except NotFound:
            return f"Its source {label(reference)} is not there, so it will fail."
        revision = state_of(source, datetime.now(UTC)).revision or "nothing yet"
        return f"Its source {label(reference)} has {revision}."

    async def _set(self, intent: Intent) -> Done:
        suspend = bool(intent.state["suspend"])
        await patch(self._cluster, intent, {"spec": {"suspend": suspend}})
        return Done(f"{intent.state['object']} is {'suspended' if suspend else 'resumed'}.", {"suspend": suspend})

    async def _probe(self, intent: Intent) -> Any:
        return await probe(self._cluster, intent)

    async def _stays(self, intent: Intent) -> Verification:
        def stays(obj: Obj) -> Verification:
            kept = is_suspended(obj)
            return Verification(kept, f"{intent.state['object']} is {'' if kept else 'no longer '}suspended.")

        return await seen(self._cluster, intent, stays)

    async def _goes_on(self, intent: Intent) -> Verification:
        return await settled(lambda: self._look(intent), self._by)

    async def _look(self, intent: Intent) -> Verification:
        def goes_on(obj: Obj) -> Verification:
            if is_suspended(obj):
                return Verification(False, f"{intent.state['object']} was suspended again.")
            return judged(obj)

        return await seen(self._cluster, intent, goes_on)


def _stops(found: Found) -> str:
    kind = found.resource.kind
    if kind in APPLIERS:
        return "nothing new of it is applied, and changes made by hand stay"
    if kind in SOURCES:
        return "nothing new is fetched"
    return {"Alert": "it tells nobody", "Provider": "it tells nobody", "Receiver": "it takes no calls"}.get(
        kind, "it does nothing"
    )


def _put_back(found: Found) -> list[str]:
    owner = owner_of(found)
    if owner is None:
        return []
    return [f"{owner} applies it from Git, which should say the same: else it may be put back."]


def _revision(found: Found) -> str:
    return state_of(found.obj, datetime.now(UTC)).revision
