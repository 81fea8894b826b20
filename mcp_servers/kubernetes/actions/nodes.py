"""Keeping new pods off a node, and letting them back."""

from __future__ import annotations

from mcp_servers.cluster.objects import Name, Objects, look, patch, probe
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec


class NodeActions:
    """Cordoning nodes of one cluster."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, verify_seconds=30)
        return [
            ToolSpec(self.cordon, read_only=False, risk=Risk.SAFE, action=action),
            ToolSpec(self.uncordon, read_only=False, risk=Risk.SAFE, action=action),
        ]

    async def cordon(self, name: Name) -> Plan:
        """Keep new pods off a node; those on it stay."""
        return await self._plan(name, Verb.CORDON)

    async def uncordon(self, name: Name) -> Plan:
        """Let new pods onto a node again."""
        return await self._plan(name, Verb.UNCORDON)

    async def _plan(self, name: str, verb: Verb) -> Plan:
        found = await self._objects.find(verb, "nodes", name)
        cordoned = verb is Verb.CORDON
        if bool(found.spec.get("unschedulable")) is cordoned:
            raise InvalidInput(f"{found} is {'already' if cordoned else 'not'} cordoned.")
        await self._objects.require(found, "patch")
        preview = "New pods are not scheduled onto it; its pods stay." if cordoned else "New pods may be put onto it."
        state = found.state(cordoned=cordoned)
        return Plan(f"{verb.capitalize()} {found}.", (found.target(verb),), Risk.SAFE, preview, state)

    async def _perform(self, intent: Intent) -> Done:
        cordoned = bool(intent.state["cordoned"])
        await patch(self._cluster, intent, {"spec": {"unschedulable": True if cordoned else None}})
        return Done(f"{intent.state['object']} is {'cordoned' if cordoned else 'uncordoned'}.", {"cordoned": cordoned})

    async def _probe(self, intent: Intent) -> Happened:
        return await probe(self._cluster, intent)

    async def _verify(self, intent: Intent) -> Verification:
        obj = await look(self._cluster, intent)
        if obj is None:
            return Verification(False, f"{intent.state['object']} is gone.")
        is_so = bool((obj.get("spec") or {}).get("unschedulable"))
        text = f"{intent.state['object']} {'takes no new pods' if is_so else 'takes new pods'}."
        return Verification(is_so is bool(intent.state["cordoned"]), text)
