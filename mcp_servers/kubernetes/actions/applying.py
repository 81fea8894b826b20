"""Applying one manifest, server-side: tried first, shown as a diff, never forced, and never against Git."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.answers import Broke, Refused
from mcp_servers.cluster.connection import APPLY
from mcp_servers.cluster.masking import hidden
from mcp_servers.cluster.objects import APPLIED_KEY, MANAGER, Found, Objects, changed, probe, said
from mcp_servers.cluster.ownership import owner_of, source_of
from mcp_servers.cluster.resources import Resource, is_built_in
from mcp_servers.cluster.waiting import Time
from mcp_servers.kubernetes.actions.diffs import diff, settled
from mcp_servers.kubernetes.actions.manifests import Manifest, read_manifest
from mcp_servers.kubernetes.actions.privileges import privileges, runs_other, secrets, service_account
from mcp_servers.kubernetes.actions.workloads import ROLLED, rolled_out
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, NotFound, PermissionDenied
from opswarm.guard.limits import PROTECTED_NAMESPACES, ROOT_OBJECTS
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Target, Verb, check_target
from opswarm.mcp.tools import ToolSpec

_WAIT = 180.0
_APPLIERS = (
    "fluxcd.io", "controlplane.io", "argoproj.io", "helm.cattle.io", "k3s.cattle.io", "fleet.cattle.io",
    "crossplane.io", "operators.coreos.com", "cluster.x-k8s.io", "kro.run", "tekton.dev",
)  # fmt: skip
"""API groups whose objects say what else is applied or run, with their controllers' rights instead of ours."""

_RIGHTS_GROUPS = ("rbac.authorization.k8s.io", "authentication.k8s.io", "authorization.k8s.io")
_OWNER = re.compile(r'conflict with "([^"]{1,128})"')

Text = Annotated[str, Field(description="One object, YAML or JSON.")]
Where = Annotated[str, Field(description="Its namespace, where the manifest names none.", max_length=63)]


class Applying:
    """Applying manifests to one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, verify_seconds=_WAIT + 30)
        return [ToolSpec(self.apply_manifest, read_only=False, risk=Risk.RISKY, action=action)]

    async def apply_manifest(self, manifest: Text, namespace: Where = "") -> Plan:
        """Create or change one object by server-side apply. Not for what Flux or Argo CD keeps: change that in Git."""
        given = await asyncio.to_thread(read_manifest, manifest)  # PyYAML takes most of a second for the largest.
        resource, target = await self._target(given, namespace)
        live = await self._live(resource, target)
        await self._refuse_kept(live)
        await require(self._cluster, _rights(resource, live), target.namespace, target.name)
        body = _body(given, target, live.uid if live else "")
        path = resource.path(target.namespace, target.name)
        result = Found(resource, await self._apply(path, body, str(target), dry=True))
        await self._refuse_kept(result)
        warnings, lines = _warnings(live, result), _lines(live, result)
        _refuse_hidden(live, result)
        changes = diff(live.obj if live else {}, result.obj, ("live", "applied"))
        if live is not None and not changes:
            raise InvalidInput(f"{live} is already as the manifest says.")
        what = f"{'Change' if live else 'Create'} {result}."
        before = live.annotations.get(APPLIED_KEY, "") if live else ""
        state = {
            "path": path, "object": str(result), "uid": live.uid if live else "", "key_before": before,
            "kind": resource.kind, "group": resource.group, "namespace": target.namespace, "name": target.name,
        }  # fmt: skip
        touches = _scaled(replace(target, privileged=bool(warnings)), live, result)
        shown = "\n".join([*warnings, *lines, *([""] if warnings or lines else []), changes])
        return Plan(what, touches, Risk.RISKY, shown, state)

    async def _target(self, given: Manifest, namespace: str) -> tuple[Resource, Target]:
        """What the manifest is about. Raises `InvalidInput`, `NotFound`, and `PermissionDenied` for what may not be."""
        resource = await self._objects.resources.find(f"{given.kind}.{given.group}" if given.group else given.kind)
        if (resource.group, resource.kind) != (given.group, given.kind):
            raise InvalidInput(
                f"This cluster has no kind '{said(given.kind)}' in the API '{said(given.group) or 'v1'}'."
            )
        if resource.version != given.version:
            raise InvalidInput(
                f"This cluster prefers {resource.kind} in version {resource.version}, not '{said(given.version)}'.",
                hint="Write the manifest for that.",
            )
        if namespace and given.namespace and namespace != given.namespace:
            raise InvalidInput(
                f"The manifest is for the namespace '{said(given.namespace)}', the call for '{said(namespace)}'."
            )
        where = namespace or given.namespace
        if resource.namespaced and not where:
            raise InvalidInput("Neither the manifest nor the call names a namespace.")
        target = Target(Verb.APPLY, resource.kind, given.name, where, namespaced=resource.namespaced)
        check_target(target, PROTECTED_NAMESPACES, ROOT_OBJECTS)
        if any(resource.group == one or resource.group.endswith(f".{one}") for one in _APPLIERS):
            raise PermissionDenied(f"A {resource.kind} says what else is applied; it is changed in Git only.")
        if resource.group in _RIGHTS_GROUPS:
            raise PermissionDenied(f"A {resource.kind} gives rights; it is not applied by Opswarm.")
        return resource, target

    async def _live(self, resource: Resource, target: Target) -> Found | None:
        try:
            return await self._objects.read(resource, target.namespace, target.name)
        except NotFound:
            if target.namespace:
                await self._objects.resources.check_namespace(target.namespace)
            return None

    async def _refuse_kept(self, found: Found | None) -> None:
        """Raises `PermissionDenied` for an object that Flux or Argo CD applies, saying where it is in Git."""
        owner = owner_of(found) if found else None
        if owner is None:
            return
        source = await source_of(self._objects.resources, owner)
        raise PermissionDenied(f"{found} is applied by {owner.by} ({owner}): change it in Git.", hint=source)

    async def _apply(self, path: str, body: Mapping[str, Any], what: str, *, dry: bool) -> dict[str, Any]:
        query: dict[str, str | int] = {**MANAGER, "fieldValidation": "Strict"}
        if dry:
            query["dryRun"] = "All"
        try:
            return await self._cluster.patch(path, body, query, kind=APPLY)
        except Refused as error:
            raise _conflict(error) from error
        except Broke as error:
            # For a field that its schema lacks, the API server has no better word than 500.
            if not dry or error.status != 500 or not error.said:
                raise
            raise InvalidInput(f"The API server can't apply this: {error.said}.") from error

    async def _perform(self, intent: Intent) -> Done:
        given = await asyncio.to_thread(read_manifest, str(intent.arguments["manifest"]))
        state = intent.state
        target = Target(Verb.APPLY, str(state["kind"]), str(state["name"]), str(state["namespace"]))
        if (given.kind, given.group, given.name) != (state["kind"], state["group"], state["name"]):
            raise InvalidInput("The manifest is not the one that was planned.")
        body = _body(given, target, str(state["uid"]), intent.key)
        if not state["uid"] and await self._exists(intent):
            raise InvalidInput(f"{state['object']} exists by now; nothing was done.", hint="Plan it again.")
        try:
            after = await self._apply(str(state["path"]), body, str(state["object"]), dry=False)
        except Refused as error:
            raise changed(intent, error) from error
        did = "changed" if state["uid"] else "created"
        return Done(f"{state['object']} is {did}.", {"uid": after["metadata"].get("uid")})

    async def _exists(self, intent: Intent) -> bool:
        try:
            await self._cluster.get(str(intent.state["path"]))
        except NotFound:
            return False
        return True

    async def _probe(self, intent: Intent) -> Happened:
        if intent.state["uid"]:
            return await probe(self._cluster, intent, APPLIED_KEY)
        try:
            made = (await self._cluster.get(str(intent.state["path"]))).json()
        except NotFound:
            return Happened.NO
        key = (made["metadata"].get("annotations") or {}).get(APPLIED_KEY)
        return Happened.YES if key == intent.key else Happened.UNKNOWN

    async def _verify(self, intent: Intent) -> Verification:
        try:
            now = (await self._cluster.get(str(intent.state["path"]))).json()
        except NotFound:
            return Verification(False, f"{intent.state['object']} is not there.")
        if intent.state["kind"] not in ROLLED or intent.state["group"] != "apps":
            ours = (now["metadata"].get("annotations") or {}).get(APPLIED_KEY) == intent.key
            return Verification(ours, f"{intent.state['object']} {'is as applied' if ours else 'was changed since'}.")
        state = {**intent.state, "uid": now["metadata"]["uid"]}
        return await rolled_out(
            self._cluster, Intent(intent.key, intent.tool, intent.arguments, state), _WAIT, self._by
        )


def _rights(resource: Resource, live: Found | None) -> tuple[Right, ...]:
    """What it takes: an apply is a patch, and one that makes its object also a create."""
    verbs = ("patch",) if live else ("patch", "create")
    return tuple(Right(resource.group, resource.plural, verb) for verb in verbs)


def _body(given: Manifest, target: Target, uid: str, key: str = "") -> dict[str, Any]:
    """What is sent: the manifest in its namespace, tied to the object that was planned, with the key."""
    metadata = dict(given.body["metadata"])
    if target.namespace:
        metadata["namespace"] = target.namespace
    if uid:
        metadata["uid"] = uid
    if key:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED_KEY: key}
    return {**given.body, "metadata": metadata}


def _warnings(live: Found | None, result: Found) -> list[str]:
    """What rights it gives, for which a person is always asked."""
    lines = [f"WARNING: {said(text)}" for text in privileges(result.obj)]
    if not is_built_in(result.resource):
        kind = result.resource.kind
        lines.append(f"WARNING: A {kind} is a custom kind: its controller acts on it with rights of its own.")
    account, before = service_account(result.obj), service_account(live.obj) if live else ""
    if account and account != (before or "default"):
        lines.append(f"WARNING: Its pods get the rights of the ServiceAccount {said(account)}.")
    elif live is not None and not runs_other(live.obj, result.obj):
        return lines
    elif account not in ("", "default"):
        lines.append(f"WARNING: What runs with the rights of the ServiceAccount {said(account)} changes.")
    if given := secrets(result.obj):
        lines.append(f"WARNING: What it runs reads Secrets: {', '.join(said(one) for one in given)}.")
    return lines


def _refuse_hidden(live: Found | None, result: Found) -> None:
    """Raises `InvalidInput` for a new value that could not be shown to who is asked."""
    new = hidden(result.obj) - (hidden(live.obj) if live else set())
    if new:
        names = ", ".join(sorted({said(name) for name, _ in new}))
        raise InvalidInput(
            f"{names}: by its name this is a secret, whose value nobody is shown, so nobody can judge it.",
            hint="Put it into a Secret, and refer to that (valueFrom.secretKeyRef).",
        )


def _scaled(target: Target, live: Found | None, result: Found) -> tuple[Target, ...]:
    """The target, with each number of replicas that it sets, for the bounds of scaling."""
    touches = []
    for field in ("replicas", "minReplicas", "maxReplicas"):
        wanted, current = result.spec.get(field), live.spec.get(field) if live else None
        if isinstance(wanted, int) and wanted != current:
            touches.append(replace(target, replicas=wanted, current=wanted if current is None else current))
    return tuple(touches) or (target,)


def _lines(live: Found | None, result: Found) -> list[str]:
    """What a person has to know beside that and the diff."""
    lines = []
    if live is not None and settled(live.obj) != settled(result.obj):
        old, new = (live.spec.get("replicas"), result.spec.get("replicas"))
        if old != new:
            lines.append(f"It goes from {old} to {new} replicas.")
    return lines


def _conflict(error: Refused) -> Refused:
    """A refusal of an apply, with who owns which field where that is why."""
    fields: dict[str, list[str]] = {}
    for cause in error.causes:
        if cause.reason == "FieldManagerConflict":
            named = _OWNER.search(cause.message)
            fields.setdefault(named[1] if named else "another manager", []).append(cause.field)
    if not fields:
        return error
    said_by = "; ".join(f"{manager} owns {', '.join(owned[:10])}" for manager, owned in sorted(fields.items()))
    text = f"Others manage what this would change: {said_by}. Nothing is taken from them by force."
    return Refused(text, status=error.status, reason="FieldManagerConflict", causes=error.causes)
