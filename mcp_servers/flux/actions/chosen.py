"""The one object of Flux's that an action is about, as the guard is told of it."""

from __future__ import annotations

from collections.abc import Collection

from mcp_servers.cluster.objects import Found, Objects
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.flux.fields import inventory, rows, text
from mcp_servers.flux.kinds import BY_KIND, FluxKind, kind_named
from mcp_servers.flux.snapshot import source_ref
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.denials import Limit, denied
from opswarm.guard.targets import Target, Verb

NEVER_SUSPENDED = frozenset({"ExternalArtifact", "FluxInstance"})
NEVER_RECONCILED = NEVER_SUSPENDED | {"Alert", "Provider"}
"""Kinds that no controller looks at when it is asked to: they are read when they are needed."""


class Choosing:
    """Finding what an action is about."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def find(self, verb: Verb, kind: str, name: str, namespace: str, never: Collection[str]) -> Found:
        """The object, if such an action is for it. Raises `InvalidInput`, `NotFound` and `PermissionDenied`: also for
        what applies itself from Git, as a bootstrap does, and for the source that it comes from."""
        chosen = kind_named(kind)
        if chosen.kind in never:
            raise InvalidInput(f"{_a(chosen)} is not something to {verb}.", hint="flux_get shows what it says.")
        await self._objects.resources.find(chosen.full_name)  # Else the kind is what is not there, and it says so.
        try:
            found = await self._objects.find(verb, chosen.full_name, name, namespace)
        except NotFound as error:
            raise NotFound(error.message, hint="flux_list shows those there are.") from error
        await self._check_root(found)
        if found.meta.get("deletionTimestamp"):
            raise InvalidInput(f"{found} is being deleted.")
        return found

    async def _check_root(self, found: Found) -> None:
        owner = owner_of(found)
        if owner is None or owner.kind != "Kustomization":
            return
        if found.resource.kind != "Kustomization":
            resource = await self._objects.resources.find(BY_KIND["Kustomization"].full_name)
            try:
                above = await self._objects.read(resource, owner.namespace, owner.name)
            except NotFound:
                return
            cuts = source_ref(above.obj) == (found.resource.kind, found.namespace, found.name)
        else:
            cuts = (owner.namespace, owner.name) == (found.namespace, found.name)
        if cuts:
            raise denied(Limit.OBJECT_PROTECTED, f"{found} is the root of what Flux applies: it comes from itself.")


def target(found: Found, verb: Verb) -> Target:
    """The object with the namespaces that it writes to."""
    return found.target(verb, applies_to=tuple(sorted(_namespaces(found))))


def _namespaces(found: Found) -> set[str]:
    obj = found.obj
    if found.resource.kind not in ("Kustomization", "HelmRelease"):
        return set()
    written = {namespace for (_, namespace, _), _ in inventory(obj) if namespace}
    written.add(text(obj, "spec", "targetNamespace"))
    if found.resource.kind == "HelmRelease":
        written |= {text(obj, "spec", "targetNamespace") or found.namespace, text(obj, "spec", "storageNamespace")}
        written |= {text(release, "namespace") for release in rows(obj, "status", "history")}
    return written - {""}


def _a(kind: FluxKind) -> str:
    return f"{'An' if kind.kind[0] in 'AEIOU' else 'A'} {kind.kind}"
