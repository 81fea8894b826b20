"""Tools about rollouts: how one stands, and what came before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes.reading import Namespace
from mcp_servers.kubernetes.rendering import age, fit_lines, one_line, table
from opswarm.errors import InvalidInput, NotFound, PermissionDenied
from opswarm.mcp import arguments
from opswarm.mcp.tools import ToolOutput

_KINDS = {"Deployment": "deployments.apps", "StatefulSet": "statefulsets.apps", "DaemonSet": "daemonsets.apps"}
_REVISION = "deployment.kubernetes.io/revision"
_CAUSE = "kubernetes.io/change-cause"

Workload = Annotated[str, Field(description="Deployment, StatefulSet or DaemonSet; empty: whichever has the name.")]
Name = Annotated[str, Field(description="Exact name.")]


class Rollouts:
    """Rollouts of workloads, against one cluster."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def rollout_status(self, name: Name, namespace: Namespace = "", kind: Workload = "") -> ToolOutput:
        """Say whether a workload's rollout is done, and what it waits for."""
        item = await self._workload(kind, name, namespace)
        done, text = progress(item)
        lines = [f"{item['kind']} {item['metadata']['namespace']}/{name}: {text}"]
        for condition in (item.get("status") or {}).get("conditions") or ():
            reason, message = condition.get("reason", ""), condition.get("message", "")
            lines.append("  " + one_line(f"{condition.get('type')}={condition.get('status')} {reason}: {message}"))
        return ToolOutput(fit_lines(lines, "lines", "name"), {"done": done, "status": text})

    async def rollout_history(self, name: Name, namespace: Namespace = "", kind: Workload = "") -> ToolOutput:
        """List a workload's revisions with their images, the newest first."""
        item = await self._workload(kind, name, namespace)
        where = item["metadata"]["namespace"]
        if item["kind"] == "Deployment":
            owned = [i for i in await self._resources.list_all("replicasets.apps", where) if is_owned(i, item)]
            revisions = [(number(_annotations(i).get(_REVISION)), i, i.get("spec") or {}) for i in owned]
        else:
            owned = [i for i in await self._resources.list_all("controllerrevisions.apps", where) if is_owned(i, item)]
            revisions = [(int(i.get("revision") or 0), i, (i.get("data") or {}).get("spec") or {}) for i in owned]
        revisions.sort(key=lambda r: r[0], reverse=True)
        if not revisions:
            return ToolOutput(f"{item['kind']} {where}/{name} has no recorded revisions.", {"revisions": []})
        now = datetime.now(UTC)
        rows = [
            (
                str(number),
                age(entry["metadata"].get("creationTimestamp"), now),
                str((entry.get("status") or {}).get("readyReplicas", "-")),
                _images(spec),
                _annotations(entry).get(_CAUSE, "-"),
            )
            for number, entry, spec in revisions
        ]
        lines = table(("REVISION", "AGE", "READY", "IMAGES", "CHANGE CAUSE"), rows)
        data = {"revisions": [{"revision": r[0], "images": r[3]} for r in rows]}
        return ToolOutput(fit_lines(lines, "revisions", "name", head=1), data)

    async def _workload(self, kind: str, name: str, namespace: str) -> Mapping[str, Any]:
        arguments.name(name)
        where = arguments.namespace(namespace)
        wanted = list(_KINDS.values())
        if kind:
            resource = await self._resources.find(kind)
            if resource.kind not in _KINDS:
                raise InvalidInput(f"{resource.kind} has no rollout.", hint=f"These have: {', '.join(_KINDS)}.")
            wanted = [_KINDS[resource.kind]]
        found: list[Mapping[str, Any]] = []
        denied: list[PermissionDenied] = []
        for resource_name in wanted:
            try:
                found += await self._resources.list_all(resource_name, where, field_selector=f"metadata.name={name}")
            except PermissionDenied as error:
                denied.append(error)
        if not found and denied:
            raise denied[0]
        if not found:
            if where:
                await self._resources.check_namespace(where)
            raise NotFound(f"No {kind or 'workload'} is named '{name}'.", hint="`find` searches by word.")
        if len(found) > 1:
            names = ", ".join(f"{i['kind']} {i['metadata']['namespace']}/{name}" for i in found)
            raise InvalidInput(f"'{name}' fits several: {names}.", hint="Name kind and namespace.")
        return found[0]


def _annotations(item: Mapping[str, Any]) -> Mapping[str, str]:
    return item["metadata"].get("annotations") or {}


def number(revision: str | None) -> int:
    return int(revision) if revision and revision.isascii() and revision.isdigit() else 0


def is_owned(child: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    references = child["metadata"].get("ownerReferences") or ()
    return any(r.get("uid") == owner["metadata"].get("uid") for r in references)


def _images(spec: Mapping[str, Any]) -> str:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    return ", ".join(str(c.get("image", "?")) for c in containers) or "-"


def progress(item: Mapping[str, Any]) -> tuple[bool, str]:
    """As `kubectl rollout status` decides it."""
    spec, status, meta = item.get("spec") or {}, item.get("status") or {}, item["metadata"]
    if int(status.get("observedGeneration") or 0) < int(meta.get("generation") or 0):
        return False, "waiting for its controller to see the change"
    if item["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        updated, available = int(status.get("updatedNumberScheduled") or 0), int(status.get("numberAvailable") or 0)
        if _on_delete(spec):
            ready = int(status.get("numberReady") or available)
            return ready >= wanted, f"{ready} of {wanted} pods are ready (updates happen on delete)"
        if updated < wanted:
            return False, f"{updated} of {wanted} pods are updated"
        return (available >= wanted), f"{available} of {wanted} updated pods are available"
    wanted = int(spec.get("replicas", 1))
    updated = int(status.get("updatedReplicas") or 0)
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    if (conditions.get("Progressing") or {}).get("reason") == "ProgressDeadlineExceeded":
        return False, f"it exceeded its progress deadline; {updated} of {wanted} replicas are updated"
    if updated < wanted and item["kind"] == "Deployment":
        return False, f"{updated} of {wanted} new replicas are updated"
    if item["kind"] == "StatefulSet":
        return _stateful(spec, status, wanted)
    extra = int(status.get("replicas") or 0) - updated
    if extra > 0:
        return False, f"{extra} old replicas still have to end"
    available = int(status.get("availableReplicas") or 0)
    return available >= wanted, f"{available} of {wanted} updated replicas are available"


def _on_delete(spec: Mapping[str, Any]) -> bool:
    return (spec.get("updateStrategy") or {}).get("type") == "OnDelete"


def _stateful(spec: Mapping[str, Any], status: Mapping[str, Any], wanted: int) -> tuple[bool, str]:
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    if _on_delete(spec):
        return ready >= wanted, f"{ready} of {wanted} replicas are ready (updates happen on delete)"
    if ready < wanted:
        return False, f"{ready} of {wanted} replicas are ready"
    # Pods whose ordinal is below the partition keep the old revision for as long as it is set.
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
    partition = min(int(rolling.get("partition") or 0), wanted)
    if partition:
        part = f"{updated} of {wanted - partition} replicas from the partition {partition} on are updated"
        return updated >= wanted - partition, part
    if status.get("updateRevision") and status.get("updateRevision") != status.get("currentRevision"):
        return False, f"{updated} of {wanted} replicas are updated"
    return True, f"{ready} of {wanted} replicas are ready and up to date"
