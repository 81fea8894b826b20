"""Ending one pod: by deleting it, or by evicting it as its disruption budget allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_servers.cluster.answers import Refused
from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.objects import Found, Name, Namespace, Objects, changed, look, said
from mcp_servers.cluster.waiting import Time, watched
from mcp_servers.kubernetes.actions.workloads import controller_ready
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that a node's kubelet runs from a file: only the file's end ends it."""

_WAIT = 120.0


class PodActions:
    """Ending pods of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        def action(perform: Any) -> Action:
            return Action(perform, self._probe, self._verify, verify_seconds=_WAIT + 30)

        return [
            ToolSpec(self.delete_pod, read_only=False, risk=Risk.SAFE, action=action(self._delete)),
            ToolSpec(self.evict_pod, read_only=False, risk=Risk.SAFE, action=action(self._evict)),
        ]

    async def delete_pod(self, name: Name, namespace: Namespace) -> Plan:
        """Delete one pod, so that its controller makes a new one. Disruption budgets are not asked; evict_pod does."""
        found = await self._find(Verb.DELETE, name, namespace)
        await self._objects.require(found, "delete")
        return await self._plan(found, Verb.DELETE, f"Delete {found}.")

    async def evict_pod(self, name: Name, namespace: Namespace) -> Plan:
        """Evict one pod, if its disruption budget allows that now; its controller makes a new one."""
        found = await self._find(Verb.EVICT, name, namespace)
        await self._objects.require(found, "create", "eviction")
        await evict(self._cluster, found.path, found.uid, dry=True)
        return await self._plan(found, Verb.EVICT, f"Evict {found}.")

    async def _find(self, verb: Verb, name: str, namespace: str) -> Found:
        found = await self._objects.find(verb, "pods", name, namespace)
        if MIRROR in found.annotations:
            raise InvalidInput(f"{found} is run by its node from a file and comes back as it is.")
        if found.meta.get("deletionTimestamp"):
            raise InvalidInput(f"{found} is ending already.")
        return found

    async def _plan(self, found: Found, verb: Verb, summary: str) -> Plan:
        lines, path, controller = [], "", found.controller
        over = controller is not None and controller.get("kind") == "Job" and is_over(found.obj)
        if over:
            lines.append("It has ended; its logs go with it.")
        elif controller is None:
            lines.append("It has no controller: nothing makes it again.")
        else:
            lines.append(f"{said(controller.get('kind'))} {said(controller.get('name'))} makes a new one.")
            path = await self._path(controller, found.namespace)
        lines += [f"Node: {said(node)}"] if (node := found.spec.get("nodeName")) else []
        if local := emptydirs(found.obj):
            lines.append(f"What is in its emptyDir volumes is lost: {', '.join(local)}.")
        risk = Risk.SAFE if controller and not over else Risk.RISKY
        return Plan(summary, (found.target(verb),), risk, "\n".join(lines), found.state(controller=path))

    async def _path(self, controller: Mapping[str, Any], namespace: str) -> str:
        """Where the API has a pod's controller; "" where it is of a kind that says nothing about its pods."""
        group = str(controller.get("apiVersion") or "").partition("/")[0]
        if group != "apps":
            return ""
        try:
            resource = await self._objects.resources.find(f"{str(controller.get('kind')).lower()}.apps")
        except OpswarmError:
            return ""
        return resource.path(namespace, str(controller.get("name")))

    async def _delete(self, intent: Intent) -> Done:
        await delete(self._cluster, intent, str(intent.state["path"]), str(intent.state["uid"]))
        return Done(f"{intent.state['object']} is being deleted.")

    async def _evict(self, intent: Intent) -> Done:
        try:
            await evict(self._cluster, str(intent.state["path"]), str(intent.state["uid"]))
        except Refused as error:
            raise changed(intent, error) from error
        return Done(f"{intent.state['object']} is being evicted.")

    async def _probe(self, intent: Intent) -> Happened:
        return Happened.YES if is_ending(await look(self._cluster, intent)) else Happened.NO

    async def _verify(self, intent: Intent) -> Verification:
        pod, controller = intent.state["object"], str(intent.state["controller"])

        async def seen() -> Verification:
            if (obj := await look(self._cluster, intent)) is not None:
                return Verification(None if is_ending(obj) else False, f"{pod} is still there.")
            if not controller:
                return Verification(True, f"{pod} is gone.")
            ready, text = await controller_ready(self._cluster, controller)
            if ready is None:
                return Verification(True, f"{pod} is gone.")
            return Verification(True if ready else None, f"{pod} is gone; {text}.")

        return await watched(seen, _WAIT, self._by)


def is_ending(pod: Mapping[str, Any] | None) -> bool:
    """Whether a pod is gone (None) or on its way."""
    return pod is None or bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def is_over(pod: Mapping[str, Any]) -> bool:
    """Whether all that ran in a pod has ended, so that nothing is disrupted when it goes."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def emptydirs(pod: Mapping[str, Any]) -> list[str]:
    """The names of the pod's volumes that are lost with it."""
    return [said(v.get("name")) for v in (pod.get("spec") or {}).get("volumes") or () if "emptyDir" in v]


async def delete(cluster: Cluster, intent: Intent, path: str, uid: str, what: str = "") -> None:
    """Deletes exactly the object with this uid, and in the background what it owns.

    Raises `InvalidInput` when another has its name; one that is gone already is as it should be.
    """
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": uid},
        "propagationPolicy": "Background",
    }
    try:
        await cluster.delete(path, options)
    except NotFound:
        return
    except Refused as error:
        if what and error.is_other_object:
            raise InvalidInput(f"{what} was replaced in the meantime; it was left alone.") from error
        raise changed(intent, error) from error


async def evict(cluster: Cluster, pod: str, uid: str, *, dry: bool = False) -> None:
    """Evicts the pod at this path if it still has this uid.

    Raises `Refused` (`is_blocked` of it tells a disruption budget's refusal) and `NotFound`.
    """
    namespace, name = pod.split("/")[-3], pod.rpartition("/")[2]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }
    try:
        await cluster.post(f"{pod}/eviction", body, {"dryRun": "All"} if dry else None)
    except Refused as error:
        if not is_blocked(error):
            raise
        why = next(c.message for c in error.causes if c.reason == "DisruptionBudget")
        text = f"Pod {namespace}/{name} may not be evicted now: {why}."
        raise Refused(text, status=error.status, reason=error.reason, causes=error.causes) from error


def is_blocked(error: Refused) -> bool:
    """Whether a disruption budget is what forbids it."""
    return any(c.reason == "DisruptionBudget" for c in error.causes)
