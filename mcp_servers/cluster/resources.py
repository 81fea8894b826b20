"""Which kinds a cluster has, by any of their names, and listing them page by page."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_servers.cluster.connection import DISCOVERY, JSON, METADATA, Cluster, segment
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.guard.untrusted import cap_bytes, clean

_PAGE = 500
_MAX_OBJECTS = 20_000
_FRESH_SECONDS = 300.0
_BUILT_IN = (
    "", "apps", "batch", "networking.k8s.io", "autoscaling", "policy", "storage.k8s.io",
    "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io",
    "authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io",
    "discovery.k8s.io", "events.k8s.io", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "node.k8s.io",
    "resource.k8s.io", "scheduling.k8s.io", "storagemigration.k8s.io",
)  # fmt: skip
"""The groups that every API server brings, in the order in which they win a name that several have."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as the API serves it."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    verbs: frozenset[str]

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL path of the collection, or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{segment(namespace)}" if namespace and self.namespaced else ""
        return f"{root}{scope}/{self.plural}" + (f"/{segment(name)}" if name else "")

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def names(self) -> tuple[str, ...]:
        plain = (self.plural, self.singular, self.kind.lower(), *self.short_names)
        return (*plain, *(f"{n}.{self.group}" for n in plain if n and self.group))


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `cursor` continues it ("" at the end); `remaining` when the server says how many follow."""

    body: Mapping[str, Any]
    cursor: str
    remaining: int | None


class Resources:
    """The kinds of one cluster, discovered once and again when an unknown one is asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._known: tuple[Resource, ...] = ()
        self._at = 0.0
        self._lock = asyncio.Lock()

    async def find(self, name: str) -> Resource:
        """The resource that `name` (kind, plural, singular or short name; with `.GROUP` or without) stands for.

        Several groups may have it: built-in ones win. Raises `NotFound` with the closest names, or `InvalidInput`
        with the full names to choose from when none of several is built in.
        """
        wanted = name.strip().lower()
        if not wanted:
            raise InvalidInput("No kind was given.", hint="Name one, such as 'deployments'.")
        known = await self._discover(fresh=False)
        matches = _matches(known, wanted)
        if not matches and time.monotonic() - self._at > 5:
            known = await self._discover(fresh=True)
            matches = _matches(known, wanted)
        if not matches:
            every = sorted({n for r in known for n in (r.plural, r.kind.lower())})
            close = difflib.get_close_matches(wanted, every, n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else "resources_list needs a kind the cluster has."
            said = cap_bytes(" ".join(clean(name).split()), 60)
            raise NotFound(f"This cluster has no kind '{said}'.", hint=hint)
        rivals = sorted({r.full_name for r in matches})
        if matches[0].group not in _BUILT_IN and len(rivals) > 1:
            raise InvalidInput(f"'{wanted}' is several kinds here: {', '.join(rivals)}.", hint="Name one in full.")
        return matches[0]

    async def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 100,
        cursor: str = "",
        accept: str = JSON,
    ) -> Page:
        """One page of a list, in the form that `accept` asks for: whole objects, `TABLE` or `METADATA`."""
        query: dict[str, str | int] = {"limit": limit}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if cursor:
            query["continue"] = cursor
        body = (await self.cluster.get(resource.path(namespace), query, accept=accept)).json()
        meta = body.get("metadata") or {}
        remaining = meta.get("remainingItemCount")
        return Page(body, str(meta.get("continue") or ""), remaining if isinstance(remaining, int) else None)

    async def list_all(
        self, resource: str, namespace: str = "", *, field_selector: str = "", metadata_only: bool = False
    ) -> list[Mapping[str, Any]]:
        """Every object of a kind, page by page, with kind and apiVersion filled in.

        `metadata_only` spares the server, the wire and this process the rest, such as what Secrets hold.

        Raises `InvalidInput` past 20,000 objects, and what `Cluster.get` raises.
        """
        found = await self.find(resource)
        items: list[Mapping[str, Any]] = []
        cursor = ""
        version = f"{found.group}/{found.version}" if found.group else found.version
        while True:
            page = await self.list_page(
                found, namespace, field_selector=field_selector, limit=_PAGE, cursor=cursor,
                accept=METADATA if metadata_only else JSON,
            )  # fmt: skip
            # The items of a PartialObjectMetadataList call themselves PartialObjectMetadata.
            own = {"kind": found.kind, "apiVersion": version}
            items += [{**own, **i, **(own if metadata_only else {})} for i in page.body.get("items") or ()]
            cursor = page.cursor
            if not cursor:
                return items
            if len(items) >= _MAX_OBJECTS:
                raise InvalidInput(f"There are over {_MAX_OBJECTS} {resource}.", hint="Narrow by namespace.")

    async def check_namespace(self, namespace: str) -> None:
        """Raises `NotFound` when the API server says that there is no such namespace: nothing was found in it,
        and that would be a wrong answer. Who may not read namespaces gets no check."""
        try:
            found = await self.find("namespaces")
            await self.cluster.get(found.path("", namespace))
        except NotFound as error:
            raise NotFound(
                f"There is no namespace '{namespace}'.", hint="namespaces_list shows those there are."
            ) from error
        except OpswarmError:
            return

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool, tail: int) -> str:
        return await self.cluster.logs(namespace, pod, container, previous=previous, tail=tail)

    async def _discover(self, *, fresh: bool) -> tuple[Resource, ...]:
        async with self._lock:
            if self._known and not fresh and time.monotonic() - self._at < _FRESH_SECONDS:
                return self._known
            core, apis = await asyncio.gather(
                self.cluster.get("/api", accept=DISCOVERY), self.cluster.get("/apis", accept=DISCOVERY)
            )
            found: list[Resource] = []
            for body in (core.json(), apis.json()):
                if body.get("kind") == "APIGroupDiscoveryList":
                    found += _aggregated(body)
                else:
                    found += await self._plain(body)
            self._known = tuple(found)
            self._at = time.monotonic()
            return self._known

    async def _plain(self, body: Mapping[str, Any]) -> list[Resource]:
        """Unaggregated discovery: one request a group version. A broken extension API is passed over."""
        versions = [f"/api/{v}" for v in body.get("versions") or ()]
        for group in body.get("groups") or ():
            preferred = (group.get("preferredVersion") or {}).get("groupVersion")
            versions += [f"/apis/{preferred}"] if preferred else []

        async def read(path: str) -> list[Resource]:
            return _listed((await self.cluster.get(path)).json())

        results = await asyncio.gather(*(read(p) for p in versions), return_exceptions=True)
        found: list[Resource] = []
        for result in results:
            if isinstance(result, OpswarmError):
                continue
            if isinstance(result, BaseException):
                raise result
            found += result
        return found


def is_built_in(resource: Resource) -> bool:
    """Whether every API server brings this kind's group."""
    return resource.group in _BUILT_IN


def _aggregated(body: Mapping[str, Any]) -> list[Resource]:
    found: list[Resource] = []
    for group in body.get("items") or ():
        name = str((group.get("metadata") or {}).get("name") or "")
        seen: set[str] = set()
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                plural = str(entry.get("resource") or "")
                if not plural or plural in seen:
                    continue
                seen.add(plural)
                kind = entry.get("responseKind") or {}
                found.append(
                    Resource(
                        name,
                        str(version.get("version")),
                        str(kind.get("kind") or ""),
                        plural,
                        str(entry.get("singularResource") or ""),
                        tuple(entry.get("shortNames") or ()),
                        entry.get("scope") == "Namespaced",
                        frozenset(entry.get("verbs") or ()),
                    )
                )
    return found


def _listed(body: Mapping[str, Any]) -> list[Resource]:
    group, _, version = str(body.get("groupVersion") or "").rpartition("/")
    return [
        Resource(
            group,
            version,
            str(entry.get("kind") or ""),
            str(entry["name"]),
            str(entry.get("singularName") or ""),
            tuple(entry.get("shortNames") or ()),
            bool(entry.get("namespaced")),
            frozenset(entry.get("verbs") or ()),
        )
        for entry in body.get("resources") or ()
        if "/" not in str(entry.get("name"))
    ]


def _matches(known: Sequence[Resource], wanted: str) -> list[Resource]:
    """Resources that answer to `wanted`, the built-in groups first; metrics only by its full name."""

    def rank(resource: Resource) -> tuple[int, str]:
        groups = _BUILT_IN
        if resource.group == "metrics.k8s.io":
            return len(groups) + 2, resource.group
        return (groups.index(resource.group) if resource.group in groups else len(groups) + 1), resource.group

    return sorted((r for r in known if wanted in r.names()), key=rank)
