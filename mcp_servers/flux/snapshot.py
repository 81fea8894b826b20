"""Listing what Flux has in a cluster, and finding one object of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcp_servers.cluster.connection import Cluster
from mcp_servers.cluster.finding import one_line
from mcp_servers.cluster.resources import Resource, Resources
from mcp_servers.flux.fields import Obj, Ref, mapping, name_of, ref_of, rows, text
from mcp_servers.flux.kinds import BY_KIND, KINDS, OPTIONAL, FluxKind, kind_named
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp import arguments, progress

_AT_ONCE = 6
SYSTEM = "flux-system"
_PART_OF_FLUX = "app.kubernetes.io/part-of=flux"
_CONTROLLERS = frozenset(one.controller for one in KINDS)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects of Flux by kind, namespace and name. `absent` are kinds whose CRD is not installed, `failed` kinds that
    could not be listed, with the reason."""

    objects: Mapping[Ref, Obj] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> list[Obj]:
        return [obj for ref, obj in self.objects.items() if ref[0] == kind]

    @property
    def is_there(self) -> bool:
        """Whether the cluster knows any of Flux's kinds."""
        return bool(self.objects or self.failed) or len(self.absent) < len(KINDS)

    def notes(self, asked: Iterable[str] = ()) -> list[str]:
        """What is not in it, in sentences. Kinds that are often left out are only named when they are `asked` for."""
        gone = [kind for kind in self.absent if kind not in OPTIONAL or kind in asked]
        lines = [f"(this cluster has no {', '.join(gone)}: their CRDs are not installed)"] if gone else []
        return lines + [f"(not listed: {kind}: {one_line(why, 200)})" for kind, why in self.failed.items()]


class Flux:
    """Flux of one cluster."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    @property
    def cluster(self) -> Cluster:
        return self.resources.cluster

    async def resource(self, kind: FluxKind) -> Resource:
        """How the API serves a kind. Raises `NotFound` where its CRD is not installed."""
        try:
            return await self.resources.find(kind.full_name)
        except NotFound as error:
            raise NotFound(
                f"This cluster has no {kind.kind}: the CRD {kind.full_name} is not installed.",
                hint=f"It comes with {kind.controller}.",
            ) from error

    async def snapshot(self, kinds: Iterable[FluxKind] = KINDS, namespace: str = "") -> Snapshot:
        """Every object of these kinds. Raises what listing raises when not one of them could be listed."""
        absent: list[str] = []
        there: list[FluxKind] = []
        for kind in kinds:  # One after another: each unknown kind may have the discovery read again.
            try:
                await self.resource(kind)
                there.append(kind)
            except NotFound:
                absent.append(kind.kind)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def read(kind: FluxKind) -> list[Obj]:
            async with limit:
                progress.note(f"listing {kind.plural}")
                return await self.resources.list_all(kind.full_name, namespace)

        results = await asyncio.gather(*(read(k) for k in there), return_exceptions=True)
        objects: dict[Ref, Obj] = {}
        failed: dict[str, OpswarmError] = {}
        for kind, result in zip(there, results, strict=True):
            if isinstance(result, OpswarmError):
                failed[kind.kind] = result
            elif isinstance(result, BaseException):
                raise result
            else:
                objects |= {ref_of(obj): obj for obj in result}
        if there and len(failed) == len(there):
            raise next(iter(failed.values()))
        if namespace and not objects:
            await self.resources.check_namespace(namespace)
        return Snapshot(objects, tuple(absent), {kind: error.message for kind, error in failed.items()})

    async def find(self, kind: str, name: str, namespace: str = "") -> Obj:
        """One object. Without a namespace it is looked for in all. Raises `InvalidInput` and `NotFound`."""
        chosen, where = kind_named(kind), arguments.namespace(namespace)
        arguments.name(name)
        resource = await self.resource(chosen)
        if where:
            try:
                obj: Obj = (await self.cluster.get(resource.path(where, name))).json()
            except NotFound as error:
                await self.resources.check_namespace(where)
                raise _no_such(chosen, name, where) from error
            return {**obj, "kind": chosen.kind}
        named = await self.resources.list_all(chosen.full_name, field_selector=f"metadata.name={name}")
        found = [obj for obj in named if name_of(obj) == name]
        if not found:
            raise _no_such(chosen, name, "")
        if len(found) > 1:
            homes = ", ".join(text(obj, "metadata", "namespace") for obj in found)
            raise InvalidInput(f"{chosen.kind} '{name}' is in several namespaces: {homes}.", hint="Name one.")
        return found[0]

    async def controllers(self) -> list[Obj]:
        """The Deployments of Flux's controllers, by their label; without it those that have the names of controllers.
        Raises `NotFound` when there are none, and what listing raises."""
        deployments = await self.resources.find("deployments.apps")
        page = await self.resources.list_page(deployments, label_selector=_PART_OF_FLUX, limit=100)
        found = list(page.body.get("items") or ())
        if not found:
            found = [d for d in await self.resources.list_all("deployments.apps") if name_of(d) in _CONTROLLERS]
        if not found:
            raise NotFound(
                "This cluster has no controllers of Flux's.",
                hint="Neither a Deployment labelled app.kubernetes.io/part-of=flux nor one named source-controller is "
                "there: is Flux installed?",
            )
        return sorted(found, key=name_of)

    async def source_of(self, obj: Obj) -> Obj | None:
        """The source that a Kustomization or HelmRelease takes its files or chart from; None where it names none.
        Raises as `find` does."""
        reference = source_ref(obj)
        return await self.find(reference[0], reference[2], reference[1]) if reference else None


def source_ref(obj: Obj) -> Ref | None:
    """The source that an object names: of a HelmRelease, the repository that its chart is in."""
    if text(obj, "kind") == "HelmRelease":
        named = mapping(obj, "spec", "chartRef") or mapping(obj, "spec", "chart", "spec", "sourceRef")
    else:
        named = mapping(obj, "spec", "sourceRef")
    if text(named, "kind") not in BY_KIND:
        return None
    return text(named, "kind"), text(named, "namespace") or text(obj, "metadata", "namespace"), text(named, "name")


def chart_ref(obj: Obj) -> Ref | None:
    """The HelmChart that the controller made for a HelmRelease."""
    namespace, _, name = text(obj, "status", "helmChart").partition("/")
    return ("HelmChart", namespace, name) if name else None


def depends_on(obj: Obj) -> list[Ref]:
    """What an object waits for: others of its own kind."""
    kind, home = text(obj, "kind"), text(obj, "metadata", "namespace")
    return [(kind, text(d, "namespace") or home, text(d, "name")) for d in rows(obj, "spec", "dependsOn")]


def _no_such(kind: FluxKind, name: str, namespace: str) -> NotFound:
    where = f" in the namespace {namespace}" if namespace else " in any namespace"
    return NotFound(f"There is no {kind.kind} '{name}'{where}.", hint="flux_list shows those there are.")


def unreadable(error: BaseException) -> str:
    """Why something could not be looked at, for a line beside what could. Raises what is a defect."""
    if isinstance(error, OpswarmError):
        return one_line(error.message, 200)
    raise error
