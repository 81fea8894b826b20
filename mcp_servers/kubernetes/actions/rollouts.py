"""Restarting, undoing, pausing and resuming the rollouts of workloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.connection import JSON_PATCH
from mcp_servers.cluster.objects import (
    KEY,
    Found,
    Name,
    Namespace,
    Objects,
    look,
    look_at,
    patch,
    probe,
    said,
    written,
)
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.cluster.resources import Resource
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.diffs import diff
from mcp_servers.kubernetes.actions.privileges import gained
from mcp_servers.kubernetes.actions.workloads import ROLLED, of_kind, rolled_out
from mcp_servers.kubernetes.rollouts import is_owned, number
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation of the pod template by which `kubectl rollout restart` starts a rollout."""

_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"
_WAIT = 180.0
_OFFLINE = "It is offline while it restarts: its one pod ends before the new one starts."

Kind = Annotated[str, Field(description="Deployment, StatefulSet or DaemonSet.", max_length=253)]
Revision = Annotated[int, Field(description="From rollout_history; 0: the one before.", ge=0)]


class Rollouts:
    """What can be done to rollouts of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        def action(perform: Any) -> Action:
            return Action(perform, self._probe, self._verify, verify_seconds=_WAIT + 30)

        kept = Action(self._pause, self._probe, self._is_set)
        return [
            ToolSpec(self.rollout_restart, read_only=False, risk=Risk.SAFE, action=action(self._restart)),
            ToolSpec(self.rollout_undo, read_only=False, risk=Risk.RISKY, action=action(self._undo)),
            ToolSpec(self.rollout_pause, read_only=False, risk=Risk.SAFE, action=kept),
            ToolSpec(self.rollout_resume, read_only=False, risk=Risk.RISKY, action=action(self._pause)),
        ]

    async def rollout_restart(self, kind: Kind, name: Name, namespace: Namespace) -> Plan:
        """Restart a workload: replace its pods one after another, as `kubectl rollout restart` does."""
        found = of_kind(await self._objects.find(Verb.RESTART, kind, name, namespace), ROLLED)
        if found.spec.get("paused"):
            raise InvalidInput(f"{found} is paused; a restart would wait for ever.", hint="Resume it first.")
        if found.resource.kind != "DaemonSet" and found.spec.get("replicas", 1) == 0:
            raise InvalidInput(f"{found} is scaled to 0 replicas: there is nothing to restart.")
        await self._objects.require(found, "patch")
        return Plan(
            f"Restart {found}.",
            (found.target(Verb.RESTART),),
            Risk.SAFE,
            "\n".join(_effects(found)),
            found.state(kind=found.resource.kind),
        )

    async def rollout_undo(self, kind: Kind, name: Name, namespace: Namespace, to_revision: Revision = 0) -> Plan:
        """Roll a workload back to an earlier revision of its pod template."""
        found = of_kind(await self._objects.find(Verb.UNDO, kind, name, namespace), ROLLED)
        if found.spec.get("paused"):
            raise InvalidInput(f"{found} is paused and can't be rolled back.", hint="Resume it first.")
        await self._objects.require(found, "patch")
        revision, source, template = await self._revision(found, to_revision)
        changes = diff(_spec(_template_of(found.obj)), _spec(template), ("now", f"revision {revision}"))
        if not changes:
            raise InvalidInput(f"{found} is already as in revision {revision}.")
        owner = owner_of(found)
        rights = gained(found.obj, {**found.obj, "spec": {**found.spec, "template": template}})
        lines = [f"WARNING: {said(one)}" for one in rights]
        lines += [owner.puts_back("the template")] if owner else []
        if found.resource.kind == "StatefulSet" and found.spec.get("podManagementPolicy") != "Parallel":
            lines.append("A pod that does not start holds it up all the same, until it is deleted.")
        lines += [""] if lines else []
        state = found.state(
            kind=found.resource.kind, generation=found.meta.get("generation"), revision=revision, source=source.path,
            source_uid=source.uid,
        )  # fmt: skip
        return Plan(
            f"Roll {found} back to revision {revision}.",
            (replace(found.target(Verb.UNDO), privileged=bool(rights)),),
            Risk.RISKY,
            "\n".join([*lines, changes]),
            state,
        )

    async def rollout_pause(self, name: Name, namespace: Namespace) -> Plan:
        """Pause a Deployment's rollout: changes of its template wait until it is resumed."""
        return await self._pausing(name, namespace, Verb.PAUSE)

    async def rollout_resume(self, name: Name, namespace: Namespace) -> Plan:
        """Resume a paused Deployment: changes of its template that have waited are rolled out."""
        return await self._pausing(name, namespace, Verb.RESUME)

    async def _pausing(self, name: str, namespace: str, verb: Verb) -> Plan:
        found = await self._objects.find(verb, "deployments.apps", name, namespace)
        paused = verb is Verb.PAUSE
        if bool(found.spec.get("paused")) is paused:
            raise InvalidInput(f"{found} is {'already' if paused else 'not'} paused.")
        await self._objects.require(found, "patch")
        owner = owner_of(found)
        return Plan(
            f"{'Pause' if paused else 'Resume'} the rollout of {found}.",
            (found.target(verb),),
            Risk.SAFE if paused else Risk.RISKY,
            owner.puts_back("this") if owner else "",
            found.state(kind="Deployment", paused=paused),
        )

    async def _restart(self, intent: Intent) -> Done:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        template = {"metadata": {"annotations": {RESTARTED: stamp}}}
        after = await patch(self._cluster, intent, {"spec": {"template": template}})
        return Done(
            f"{intent.state['object']} is being restarted.", {"generation": after["metadata"].get("generation")}
        )

    async def _undo(self, intent: Intent) -> Done:
        state = intent.state
        source = await look_at(self._cluster, str(state["source"]), str(state["source_uid"]))
        now = await look(self._cluster, intent)
        if source is None or now is None:
            raise InvalidInput(f"{state['object']} or its revision {state['revision']} is gone; nothing was done.")
        # Tests and changes of one JSON patch are done together or not at all: what was planned is what is replaced.
        noted = {"op": "add", "path": "/metadata/annotations", "value": {KEY: intent.key}}
        if now["metadata"].get("annotations"):
            noted = {"op": "add", "path": f"/metadata/annotations/{KEY.replace('/', '~1')}", "value": intent.key}
        body = [
            {"op": "test", "path": "/metadata/uid", "value": state["uid"]},
            {"op": "test", "path": "/metadata/generation", "value": state["generation"]},
            {"op": "replace", "path": "/spec/template", "value": _template_of(source)},
            noted,
        ]
        if now["metadata"].get("generation") != state["generation"]:
            raise InvalidInput(
                f"{state['object']} was changed in the meantime; nothing was done.", hint="Plan it again."
            )
        after = await written(self._cluster, intent, body, JSON_PATCH)
        text = f"{state['object']} is being rolled back to revision {state['revision']}."
        return Done(text, {"generation": after["metadata"].get("generation")})

    async def _pause(self, intent: Intent) -> Done:
        paused = bool(intent.state["paused"])
        await patch(self._cluster, intent, {"spec": {"paused": paused}})
        return Done(f"{intent.state['object']} is {'paused' if paused else 'resumed'}.", {"paused": paused})

    async def _probe(self, intent: Intent) -> Happened:
        return await probe(self._cluster, intent)

    async def _verify(self, intent: Intent) -> Verification:
        return await rolled_out(self._cluster, intent, _WAIT, self._by)

    async def _is_set(self, intent: Intent) -> Verification:
        obj = await look(self._cluster, intent)
        paused = bool(((obj or {}).get("spec") or {}).get("paused"))
        return Verification(
            obj is not None and paused, f"{intent.state['object']} is {'' if paused else 'not '}paused."
        )

    async def _revision(self, found: Found, wanted: int) -> tuple[int, Found, Mapping[str, Any]]:
        """The revision that is asked for, or the last before the present one: its number, holder and template."""
        plural = "replicasets" if found.resource.kind == "Deployment" else "controllerrevisions"
        await require(self._cluster, (Right("apps", plural, "list"),), found.namespace)
        kept = await self._objects.resources.list_all(f"{plural}.apps", found.namespace)
        resource = await self._objects.resources.find(f"{plural}.apps")
        mine = [Found(resource, i) for i in kept if is_owned(i, found.obj)]
        revisions = sorted(((_number(r.obj), r) for r in mine), key=lambda r: r[0])
        current = _current(found, resource, revisions)
        earlier = [r for r in revisions if r[0] < current][-1:]
        chosen = [r for r in revisions if r[0] == wanted] if wanted else earlier
        if not chosen:
            there = ", ".join(str(r[0]) for r in revisions) or "none"
            raise NotFound(f"{found} has no revision {wanted or 'before the present one'}; there are: {there}.")
        return chosen[0][0], chosen[0][1], _template_of(chosen[0][1].obj)


def _effects(found: Found) -> list[str]:
    """What a restart means for the workload, beside new pods."""
    lines = []
    replicas = found.spec.get("replicas", 1)
    if found.resource.kind == "DaemonSet":
        lines.append("Pods: one on each node that it is for, replaced node by node.")
    else:
        lines.append(f"Pods: {replicas}.")
    if (found.spec.get("strategy") or {}).get("type") == "Recreate":
        lines.append("It is offline while it restarts: all its pods end before new ones start (strategy Recreate).")
    elif found.resource.kind == "StatefulSet" and replicas == 1:
        lines.append(_OFFLINE)
    if (found.spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        lines.append("Its pods are replaced only when somebody deletes them (update strategy OnDelete).")
    return lines


def _spec(template: Mapping[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": template}}


def _number(revision: Mapping[str, Any]) -> int:
    if "revision" in revision:
        return int(revision["revision"] or 0)
    return number((revision["metadata"].get("annotations") or {}).get(_REVISION))


def _current(found: Found, resource: Resource, revisions: list[tuple[int, Found]]) -> int:
    """The number of the revision that the workload is at."""
    if resource.kind == "ReplicaSet":
        return number(found.annotations.get(_REVISION)) or max((r[0] for r in revisions), default=0)
    name = found.status.get("updateRevision")
    return next((r[0] for r in revisions if r[1].name == name), max((r[0] for r in revisions), default=0))


def _template_of(revision: Mapping[str, Any]) -> dict[str, Any]:
    """The pod template that a ReplicaSet or ControllerRevision keeps, without what its controller added."""
    holder = revision.get("data", revision)
    template = {k: v for k, v in (holder["spec"]["template"]).items() if not k.startswith("$")}
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    if labels := {k: v for k, v in (metadata.get("labels") or {}).items() if k != _HASH}:
        metadata["labels"] = labels
    return {**template, "metadata": metadata}
