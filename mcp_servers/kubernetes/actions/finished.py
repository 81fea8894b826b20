"""Clearing away Jobs and pods that have ended, each by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.objects import Found, Namespace, Objects, look_at, said
from mcp_servers.cluster.waiting import Time, watched
from mcp_servers.kubernetes.actions.pods import delete, is_ending
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

MOST = 20
"""Objects of one call."""

_WAIT = 60.0

Kind = Annotated[str, Field(description="Job or Pod.", max_length=253)]
Names = Annotated[
    list[Annotated[str, Field(max_length=253)]],
    Field(description=f"Exact names, {MOST} at most.", min_length=1, max_length=MOST),
]


class Finished:
    """Clearing away what has ended in one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, seconds=60, verify_seconds=_WAIT + 30)
        return [ToolSpec(self.delete_finished, read_only=False, risk=Risk.RISKY, action=action)]

    async def delete_finished(self, kind: Kind, namespace: Namespace, names: Names) -> Plan:
        """Delete Jobs or pods that have ended, with their logs. Refuses what is still running."""
        if not 1 <= len(names) <= MOST:
            raise InvalidInput(f"Name 1 to {MOST} objects, not {len(names)}.")
        if len(set(names)) < len(names):
            raise InvalidInput("A name is given twice.")
        found = [await self._find(kind, name, namespace) for name in sorted(names)]
        first = found[0]
        what = str(first) if len(found) == 1 else f"{len(found)} {first.resource.plural} in {first.namespace}"
        gone = "A Job's pods go with it, and the logs with the pods."
        return Plan(
            f"Delete {what} that ended." if len(found) > 1 else f"Delete {what}, which ended.",
            tuple(one.target(Verb.DELETE) for one in found),
            Risk.RISKY,
            "\n".join([*(f"- {one}: {_end(one)}" for one in found), gone]),
            {"objects": [{"object": str(o), "path": o.path, "uid": o.uid} for o in found]},
        )

    async def _find(self, kind: str, name: str, namespace: str) -> Found:
        found = await self._objects.find(Verb.DELETE, kind, name, namespace)
        if (found.resource.group, found.resource.kind) not in (("batch", "Job"), ("", "Pod")):
            raise InvalidInput(f"A {found.resource.kind} never ends.", hint="Only Jobs and pods are cleared away.")
        if not _end(found):
            raise InvalidInput(f"{found} has not ended.")
        await self._objects.require(found, "delete")
        return found

    async def _perform(self, intent: Intent) -> Done:
        deleted: list[str] = []
        for one in intent.state["objects"]:
            try:
                await delete(self._cluster, intent, one["path"], one["uid"], one["object"])
            except (InvalidInput, PermissionDenied) as error:
                if not deleted:
                    raise
                text = f"Deleted {', '.join(deleted)}; then this stopped it: {error.message}"
                return Done(text, {"deleted": deleted})
            deleted.append(one["object"])
        return Done(f"Deleted {', '.join(deleted)}.", {"deleted": deleted})

    async def _probe(self, intent: Intent) -> Happened:
        left = await self._left(intent)
        if not left:
            return Happened.YES
        return Happened.NO if len(left) == len(intent.state["objects"]) else Happened.UNKNOWN

    async def _verify(self, intent: Intent) -> Verification:
        async def seen() -> Verification:
            left = await self._left(intent)
            text = f"Still there: {', '.join(left)}." if left else "Nothing of it is left."
            return Verification(None if left else True, text)

        result = await watched(seen, _WAIT, self._by)
        return result if result.ok else Verification(False, result.text)

    async def _left(self, intent: Intent) -> list[str]:
        left = []
        for one in intent.state["objects"]:
            obj = await look_at(self._cluster, one["path"], one["uid"])
            if not is_ending(obj):
                left.append(one["object"])
        return left


def _end(found: Found) -> str:
    """How a Job or pod ended; "" when it has not."""
    if found.resource.kind == "Pod":
        phase = str(found.status.get("phase") or "")
        return phase.lower() if phase in ("Succeeded", "Failed") else ""
    conditions: list[Mapping[str, Any]] = found.status.get("conditions") or []
    for condition in conditions:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            why = f" ({said(condition['reason'])})" if condition.get("reason") else ""
            return f"{str(condition['type']).lower()}{why}"
    return ""
