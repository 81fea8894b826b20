"""Emptying a node: cordoned, then each of its pods evicted as its disruption budget allows.

Only the Eviction API is used, never a deletion. Pods of DaemonSets and mirror pods stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.answers import Refused
from mcp_servers.cluster.objects import (
    Found,
    Name,
    Objects,
    look,
    patch,
    pod_path,
    probe,
)
from mcp_servers.cluster.waiting import Time, watched
from mcp_servers.kubernetes.actions.pods import MIRROR, emptydirs, evict, is_ending, is_over
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification, may_go_on
from opswarm.errors import DeadlineExceeded, InvalidInput, NotFound, PermissionDenied, Unavailable
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

_BLOCKED_WAIT = 5.0
"""Seconds between two tries at a pod whose budget forbids it; the API server's own Retry-After is 10."""

_EVICTING = 240.0
_WAIT = 180.0
_MOST_PODS = 300
_MOST_NAMED = 10

Unmanaged = Annotated[bool, Field(description="Also pods without a controller, which nothing makes again.")]
EmptyDirs = Annotated[bool, Field(description="Also pods with emptyDir volumes, whose data is lost.")]


class Draining:
    """Emptying nodes of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, seconds=_EVICTING + 60, verify_seconds=_WAIT + 30)
        return [ToolSpec(self.drain, read_only=False, risk=Risk.RISKY, action=action)]

    async def drain(self, name: Name, unmanaged: Unmanaged = False, delete_emptydir_data: EmptyDirs = False) -> Plan:
        """Empty a node: cordon it, then evict its pods, waiting for disruption budgets. DaemonSet pods stay."""
        found = await self._objects.find(Verb.DRAIN, "nodes", name)
        await self._objects.require(found, "patch")
        await require(self._cluster, (Right("", "pods", "list"), Right("", "pods", "create", "eviction")), "")
        pods = await self._pods_on(found.name)
        if len(pods) > _MOST_PODS:
            raise InvalidInput(f"{found} has {len(pods)} pods; at most {_MOST_PODS} are evicted in one drain.")
        kept = [pod for pod in pods if _stays(pod)]
        going = [pod for pod in pods if not _stays(pod) and not pod.meta.get("deletionTimestamp")]
        _refuse(going, unmanaged, delete_emptydir_data)
        lines = ["It is cordoned first and stays so.", f"Evicted, {len(going)}:", *(_line(pod) for pod in going)]
        lines += [f"Stay, {len(kept)} (DaemonSets, and what the node runs from files):"] if kept else []
        lines += [f"- {pod.namespace}/{pod.name}" for pod in kept]
        evicted = [{"namespace": p.namespace, "name": p.name, "uid": p.uid} for p in going]
        return Plan(
            f"Drain {found}: evict {len(going)} {'pod' if len(going) == 1 else 'pods'}.",
            (found.target(Verb.DRAIN), *(pod.target(Verb.EVICT, draining=True) for pod in going)),
            Risk.RISKY,
            "\n".join(lines),
            found.state(pods=evicted),
        )

    async def _pods_on(self, node: str) -> list[Found]:
        resource = await self._objects.resources.find("pods")
        items = await self._objects.resources.list_all("pods", field_selector=f"spec.nodeName={node}")
        return [Found(resource, item) for item in items]

    async def _perform(self, intent: Intent) -> Done:
        await patch(self._cluster, intent, {"spec": {"unschedulable": True}})
        end = self._by.clock() + _EVICTING
        waiting: list[Mapping[str, Any]] = list(intent.state["pods"])
        evicted = 0
        why: dict[str, str] = {}
        halted = ""
        while waiting and not halted:
            why = {}
            for pod in waiting:
                try:
                    halted = halted or await _halted()
                    if halted:
                        raise DeadlineExceeded("It was not evicted any more.")
                    if self._by.clock() > end:
                        raise DeadlineExceeded("There was no time left for it.")
                    await evict(self._cluster, pod_path(pod["namespace"], pod["name"]), str(pod["uid"]))
                    evicted += 1
                except NotFound:
                    continue
                except Refused as error:
                    if not error.is_other_object:  # Else the one that was planned is gone.
                        why[_place(pod)] = error.message
                except (Unavailable, DeadlineExceeded, PermissionDenied) as error:
                    # Of one namespace perhaps; the others' pods are evicted all the same.
                    why[_place(pod)] = f"Pod {_place(pod)}: {error.message}"
            waiting = [pod for pod in waiting if _place(pod) in why]
            if not waiting or halted or self._by.clock() + _BLOCKED_WAIT > end:
                break
            await self._by.sleep(_BLOCKED_WAIT)
        text = f"{intent.state['object']} is cordoned; {evicted} of {len(intent.state['pods'])} pods are evicted."
        told = [f"It was broken off: {halted}"] if halted else list(why.values())[:3]
        return Done(" ".join([text, *told]), {"evicted": evicted, "left": sorted(why)})

    async def _probe(self, intent: Intent) -> Happened:
        happened = await probe(self._cluster, intent)
        if happened is not Happened.YES:
            return happened
        # The key says that it began. Whether it came to its end the pods say.
        staying = [pod for pod in (await self._now(intent)).planned if not is_ending(pod.obj)]
        return Happened.UNKNOWN if staying else Happened.YES

    async def _verify(self, intent: Intent) -> Verification:
        node = intent.state["object"]

        async def seen() -> Verification:
            obj = await look(self._cluster, intent)
            if obj is None:
                return Verification(False, f"{node} is gone.")
            now = await self._now(intent)
            if now.planned:
                # Those on their way out need only time; one that was never evicted does not go by itself.
                ok = None if all(is_ending(pod.obj) for pod in now.planned) else False
                return Verification(ok, f"{node} still has {len(now.planned)} of its pods: {_named(now.planned)}.")
            if now.late:
                text = f"{node} is rid of the pods that were planned, but these came since: {_named(now.late)}."
                return Verification(False, text)
            cordoned = bool((obj.get("spec") or {}).get("unschedulable"))
            return Verification(cordoned, f"{node} is drained{'' if cordoned else ', but takes new pods again'}.")

        return await watched(seen, _WAIT, self._by)

    async def _now(self, intent: Intent) -> _OnNode:
        """The pods that a drain is about, of those that are on its node now."""
        planned = {str(pod["uid"]) for pod in intent.state["pods"]}
        pods = await self._pods_on(str(intent.state["path"]).rpartition("/")[2])
        # What was ending when it was planned is no more in the plan than what came later, but it goes by itself.
        late = [pod for pod in pods if pod.uid not in planned and not (_stays(pod) or is_ending(pod.obj))]
        return _OnNode([pod for pod in pods if pod.uid in planned], [pod for pod in late if not is_over(pod.obj)])


@dataclass(frozen=True, slots=True)
class _OnNode:
    """Pods of a node: those that a drain was to evict, and those that came since it was planned."""

    planned: Sequence[Found]
    late: Sequence[Found]


async def _halted() -> str:
    """Why no more pods may be evicted; "" while they may."""
    try:
        await may_go_on()
    except PermissionDenied as error:
        return error.message
    return ""


def _place(pod: Mapping[str, Any]) -> str:
    return f"{pod['namespace']}/{pod['name']}"


def _stays(pod: Found) -> bool:
    controller = pod.controller
    return MIRROR in pod.annotations or (controller is not None and controller.get("kind") == "DaemonSet")


def _refuse(pods: Sequence[Found], unmanaged: bool, emptydir_data: bool) -> None:
    """Raises `InvalidInput` naming the pods that only an argument lets go."""
    alone = [p for p in pods if p.controller is None and not is_over(p.obj)]
    if alone and not unmanaged:
        raise InvalidInput(
            f"Nothing makes these pods again: {_named(alone)}.", hint="Say unmanaged=true to evict them."
        )
    holding = [p for p in pods if emptydirs(p.obj) and not is_over(p.obj)]
    if holding and not emptydir_data:
        raise InvalidInput(
            f"These pods would lose what is in their emptyDir volumes: {_named(holding)}.",
            hint="Say delete_emptydir_data=true to evict them.",
        )


def _named(pods: Sequence[Found]) -> str:
    names = ", ".join(f"{p.namespace}/{p.name}" for p in pods[:_MOST_NAMED])
    return names + (f" and {len(pods) - _MOST_NAMED} more" if len(pods) > _MOST_NAMED else "")


def _line(pod: Found) -> str:
    notes = []
    if pod.controller is None and not is_over(pod.obj):
        notes.append("nothing makes it again")
    if local := emptydirs(pod.obj):
        notes.append(f"loses emptyDir {', '.join(local)}")
    return f"- {pod.namespace}/{pod.name}" + (f" ({'; '.join(notes)})" if notes else "")
