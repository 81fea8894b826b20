"""The one object of Flux's that an action is about, as the guard is told of it."""

from __future__ import annotations

from collections.abc import Collection

from mcp_servers.cluster.objects import Found, Objects
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.flux.fields import inventory, rows, text
from mcp_servers.flux.kinds import BY_KIND, FluxKind, kind_named
from mcp_servers.flux.snapshot import chart_ref, source_ref
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.denials import Limit, denied
from opswarm.guard.targets import Target, Verb

NEVER_SUSPENDED = frozenset({"ExternalArtifact", "FluxInstance"})
NEVER_RECONCILED = NEVER_SUSPENDED | {"Alert", "Provider"}
"""Kinds that no controller looks at when it is asked to: they are read when they are needed."""

_SOURCES = frozenset({"GitRepository", "OCIRepository", "Bucket", "HelmRepository", "HelmChart", "ExternalArtifact"})
_OPERATORS = "fluxcd.controlplane.io/name"
"""The label of what the Flux operator keeps: Flux itself, and with `spec.sync` the root and its source."""


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

    async def target(self, found: Found, verb: Verb) -> Target:
        """The object with the namespaces that it writes to; for a source that is to be suspended or resumed, those that
        what comes from it writes to."""
        written = _namespaces(found)
        if verb is not Verb.RECONCILE and found.resource.kind in _SOURCES:
            for kind in ("Kustomization", "HelmRelease"):
                for one in await self._all(kind):
                    if _feeds(found, one):
                        written |= _namespaces(one)
        return found.target(verb, applies_to=tuple(sorted(written)))

    async def _check_root(self, found: Found) -> None:
        kind = found.resource.kind
        if _is_root(found) or (
            kind in _SOURCES and any(_is_root(one) and _feeds(found, one) for one in await self._all("Kustomization"))
        ):
            raise denied(Limit.OBJECT_PROTECTED, f"{found} is the root of what Flux applies: it comes from itself.")

    async def _all(self, kind: str) -> list[Found]:
        """All objects of a kind; none where its CRD is not installed. Raises what listing raises."""
        try:
            resource = await self._objects.resources.find(BY_KIND[kind].full_name)
        except NotFound:
            return []
        listed = await self._objects.resources.list_all(BY_KIND[kind].full_name)
        return [Found(resource, {**obj, "kind": kind}) for obj in listed]


def _is_root(found: Found) -> bool:
    """Whether it is what a bootstrap made: a Kustomization that applies itself, or what the Flux operator made of its
    FluxInstance, under whatever name that gives it."""
    if found.labels.get(_OPERATORS):
        return True
    owner = owner_of(found)
    applies_itself = owner is not None and (owner.kind, owner.namespace, owner.name) == (
        found.resource.kind, found.namespace, found.name,
    )  # fmt: skip
    return found.resource.kind == "Kustomization" and applies_itself


def _feeds(source: Found, one: Found) -> bool:
    named = (source.resource.kind, source.namespace, source.name)
    return named in (source_ref(one.obj), chart_ref(one.obj))


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
