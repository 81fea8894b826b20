"""Setting how many pods a workload has."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.objects import Found, Name, Namespace, Objects, patch, probe, said
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.workloads import of_kind, rolled_out
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

_KINDS = ("Deployment", "StatefulSet")
_WAIT = 120.0

Kind = Annotated[str, Field(description="Deployment or StatefulSet.", max_length=253)]
Replicas = Annotated[int, Field(description="How many pods there shall be.", ge=0, le=1000)]


class Scaling:
    """Scaling workloads of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, verify_seconds=_WAIT + 30)
        return [ToolSpec(self.scale, read_only=False, risk=Risk.SAFE, risk_of=_risk, action=action)]

    async def scale(self, kind: Kind, name: Name, namespace: Namespace, replicas: Replicas) -> Plan:
        """Set how many pods a Deployment or StatefulSet has. Not for one that an autoscaler owns."""
        found = of_kind(await self._objects.find(Verb.SCALE, kind, name, namespace), _KINDS)
        current = int(found.spec.get("replicas", 1))
        if current == replicas:
            raise InvalidInput(f"{found} has {replicas} replicas already.")
        await self._objects.require(found, "patch")
        await self._refuse_scaled(found)
        lines = []
        if replicas == 0:
            lines.append("It is offline until it is scaled up again.")
        if owner := owner_of(found):
            lines.append(owner.puts_back("the replicas"))
        return Plan(
            f"Scale {found} from {current} to {replicas} {'replica' if replicas == 1 else 'replicas'}.",
            (found.target(Verb.SCALE, replicas=replicas, current=current),),
            Risk.RISKY if replicas == 0 else Risk.SAFE,
            "\n".join(lines),
            found.state(kind=found.resource.kind, before=current, replicas=replicas),
        )

    async def _refuse_scaled(self, found: Found) -> None:
        """Raises `InvalidInput` when a HorizontalPodAutoscaler sets the replicas of `found`."""
        await require(self._cluster, (Right("autoscaling", "horizontalpodautoscalers", "list"),), found.namespace)
        scalers = await self._objects.resources.list_all("horizontalpodautoscalers.autoscaling", found.namespace)
        for scaler in scalers:
            target = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
            if (target.get("kind"), target.get("name")) == (found.resource.kind, found.name):
                raise InvalidInput(
                    f"The HorizontalPodAutoscaler {said(scaler['metadata']['name'])} sets the replicas of {found} and "
                    "would put them back.",
                    hint="Change its minReplicas and maxReplicas instead.",
                )

    async def _perform(self, intent: Intent) -> Done:
        wanted, before = intent.state["replicas"], intent.state["before"]
        await patch(self._cluster, intent, {"spec": {"replicas": wanted}})
        return Done(f"{intent.state['object']} is scaled from {before} to {wanted} replicas.", {"replicas": wanted})

    async def _probe(self, intent: Intent) -> Happened:
        return await probe(self._cluster, intent)

    async def _verify(self, intent: Intent) -> Verification:
        return await rolled_out(self._cluster, intent, _WAIT, self._by)


def _risk(arguments: Any) -> Risk:
    return Risk.RISKY if arguments["replicas"] == 0 else Risk.SAFE
