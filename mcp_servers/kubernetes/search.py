"""Tools that find things by word, and show who owns whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes.reading import Kind, Namespace
from mcp_servers.kubernetes.rendering import fit_lines, fitting, one_line, table
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp import arguments
from opswarm.mcp.tools import ToolOutput

_SEARCHED = (
    "deployments.apps", "statefulsets.apps", "daemonsets.apps", "cronjobs.batch", "jobs.batch", "pods", "services",
    "ingresses.networking.k8s.io", "persistentvolumeclaims", "configmaps", "secrets", "namespaces", "nodes",
)  # fmt: skip
_CHILDREN = ("replicasets.apps", "pods", "jobs.batch", "controllerrevisions.apps", "persistentvolumeclaims")
_METADATA_ONLY = frozenset(
    {"services", "ingresses.networking.k8s.io", "configmaps", "secrets", "namespaces", "nodes", "replicasets.apps",
     "controllerrevisions.apps"}
)  # fmt: skip
"""Kinds of which names, labels and owners are all that is looked at: no images, no phase that is shown."""

_DEPTH = 8


class Search:
    """Finding and relating objects, against one cluster."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def find(
        self,
        keyword: Annotated[str, Field(description="Word to look for.")],
        namespace: Namespace = "",
        limit: Annotated[int, Field(description="Most rows, 1 to 500.")] = 20,
    ) -> ToolOutput:
        """Find objects by a word in their name, labels or images; best matches first."""
        arguments.bounded(limit, 1, 500, "limit")
        word = keyword.strip().lower()
        if not word or len(word) > 253:
            raise InvalidInput("keyword must be a word of 1 to 253 characters.")
        where = arguments.namespace(namespace)
        searched = await self._searched(where)
        found, denied = await self._gather(searched, where)
        if len(denied) == len(searched):
            raise next(iter(denied.values()))
        if where and not found:
            await self._resources.check_namespace(where)
        failed = _sentences(denied)
        ranked = sorted(
            ((rank, item, why) for item in found for rank, why in [_match(item, word)] if rank),
            key=lambda m: (-m[0], _kind_rank(m[1]), m[1]["metadata"]["name"]),
        )
        rows = [(i["kind"], i["metadata"].get("namespace", "-"), i["metadata"]["name"], why) for _, i, why in ranked]
        notes = [f"(not searched: {f})" for f in failed]
        lines = table(("KIND", "NAMESPACE", "NAME", "MATCHED"), rows[:limit])
        data = {
            "matches": [
                {"kind": r[0], "namespace": r[1], "name": r[2], "matched": r[3]} for r in rows[: fitting(lines) - 1]
            ],
            "not_searched": failed,
        }
        if not rows:
            return ToolOutput("\n".join([f"Nothing matches '{word}' in {len(found)} objects.", *notes]), data)
        text = fit_lines(lines, "matches", "namespace or a longer keyword", head=1, total=len(rows))
        return ToolOutput("\n".join([text, *notes]), data)

    async def lineage(
        self, kind: Kind, name: Annotated[str, Field(description="Exact name.")], namespace: Namespace = ""
    ) -> ToolOutput:
        """Show an object's owners, up to the top, and what it owns, down to the pods."""
        resource = await self._resources.find(kind)
        arguments.name(name)
        where = arguments.namespace(namespace)
        everything = await self._resources.list_all(resource.full_name, where, field_selector=f"metadata.name={name}")
        if not everything:
            if where and resource.namespaced:
                await self._resources.check_namespace(where)
            raise NotFound(f"No {resource.kind} is named '{name}'.", hint="`find` searches by word.")
        if len(everything) > 1:
            homes = ", ".join(str(i["metadata"].get("namespace")) for i in everything)
            raise InvalidInput(f"{resource.kind} '{name}' is in several namespaces: {homes}.", hint="Name one.")
        item = everything[0]
        where = str(item["metadata"].get("namespace") or "")
        owners, broken = await self._owners(item, where)
        children, failed = await self._gather(_CHILDREN, where)
        lines = [f"{'  ' * i}{_label(o)}" for i, o in enumerate([*reversed(owners), item])]
        lines[-1] += "   <- asked for"
        lines += _descendants(item, children, len(owners) + 1)
        lines += [f"(owner not readable: {b})" for b in broken] + [f"(not searched: {f})" for f in _sentences(failed)]
        data = {"owners": [_label(o) for o in owners], "lines": lines[: fitting(lines)]}
        return ToolOutput(fit_lines(lines, "objects", "asking for a child"), data)

    async def _owners(self, item: Mapping[str, Any], namespace: str) -> tuple[list[Mapping[str, Any]], list[str]]:
        chain: list[Mapping[str, Any]] = []
        node = item
        while len(chain) < _DEPTH:
            references = node["metadata"].get("ownerReferences") or ()
            reference = next((r for r in references if r.get("controller")), next(iter(references), None))
            if reference is None:
                return chain, []
            try:
                group = str(reference.get("apiVersion") or "").rpartition("/")[0]
                resource = await self._resources.find(f"{reference['kind']}.{group}".rstrip("."))
                path = resource.path(namespace, str(reference["name"]))
                owner = (await self._resources.cluster.get(path)).json()
            except OpswarmError as error:
                return chain, [f"{reference.get('kind')} {reference.get('name')}: {error}"]
            if owner["metadata"].get("uid") != reference.get("uid"):
                return chain, [f"{reference['kind']} {reference['name']}: it is gone; another has its name now"]
            node = {"kind": resource.kind, **owner}
            chain.append(node)
        return chain, []

    async def _searched(self, namespace: str) -> list[str]:
        """The kinds to search: with a namespace only those that live in one."""
        kept: list[str] = []
        for name in _SEARCHED:
            try:
                resource = await self._resources.find(name)
            except NotFound:
                kept.append(name)  # A cluster without it: to be named among what was not searched.
            else:
                kept += [name] if resource.namespaced or not namespace else []
        return kept

    async def _gather(
        self, resources: Sequence[str], namespace: str
    ) -> tuple[list[Mapping[str, Any]], dict[str, OpswarmError]]:
        """What could be listed, and why each kind that could not."""
        limit = asyncio.Semaphore(6)

        async def read(resource: str) -> list[Mapping[str, Any]]:
            async with limit:
                return await self._resources.list_all(resource, namespace, metadata_only=resource in _METADATA_ONLY)

        results = await asyncio.gather(*(read(r) for r in resources), return_exceptions=True)
        found: list[Mapping[str, Any]] = []
        failed: dict[str, OpswarmError] = {}
        for resource, result in zip(resources, results, strict=True):
            if isinstance(result, OpswarmError):
                failed[resource] = result
            elif isinstance(result, BaseException):
                raise result
            else:
                found += result
        return found, failed


def _sentences(failed: Mapping[str, OpswarmError]) -> list[str]:
    return [f"{resource}: {error.message}" for resource, error in failed.items()]


def _kind_rank(item: Mapping[str, Any]) -> int:
    order = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Node", "Namespace", "Pod", "Service")
    return order.index(item["kind"]) if item["kind"] in order else len(order)


def _match(item: Mapping[str, Any], word: str) -> tuple[int, str]:
    """How well an object matches (0: not), and by what."""
    name = str(item["metadata"]["name"]).lower()
    if name == word:
        return 5, "name"
    if name.startswith(f"{word}-"):
        return 4, "name"
    if word in name:
        return 3, "name"
    for key, value in (item["metadata"].get("labels") or {}).items():
        if word in str(value).lower():
            return 2, f"label {key}={value}"
    spec = item.get("spec") or {}
    template = _pod_spec(spec)
    for container in template.get("containers") or ():
        if word in str(container.get("image", "")).lower():
            return 1, f"image {container['image']}"
    return 0, ""


def _pod_spec(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a pod, or of what makes pods."""
    job = (spec.get("jobTemplate") or {}).get("spec") or spec
    return (job.get("template") or {}).get("spec") or job


def _label(item: Mapping[str, Any]) -> str:
    meta = item["metadata"]
    where = f"{meta['namespace']}/" if meta.get("namespace") else ""
    status = item.get("status") or {}
    state = f"  ({status['phase']})" if status.get("phase") else ""
    return one_line(f"{item.get('kind', '?')} {where}{meta['name']}{state}")


def _descendants(item: Mapping[str, Any], all_items: Sequence[Mapping[str, Any]], depth: int) -> list[str]:
    if depth > _DEPTH:
        return []
    uid = item["metadata"].get("uid")
    lines: list[str] = []
    for child in all_items:
        if any(o.get("uid") == uid for o in child["metadata"].get("ownerReferences") or ()):
            lines.append("  " * depth + _label(child))
            lines += _descendants(child, all_items, depth + 1)
    return lines
