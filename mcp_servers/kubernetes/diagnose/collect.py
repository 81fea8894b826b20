"""Reading what the analyzers need, through whatever can list a cluster's objects: the only I/O here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from mcp_servers.cluster.finding import Evidence, Finding, LogSource, one_line
from mcp_servers.cluster.report import Report, Scope
from mcp_servers.kubernetes.diagnose.scoping import kind_named
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot
from mcp_servers.kubernetes.diagnose.termination import EXEC_FORMAT
from opswarm.errors import NotFound, OpswarmError, PermissionDenied, Unauthenticated, Unavailable
from opswarm.guard.untrusted import clean

NAMESPACED = (
    "pods",
    "services",
    "persistentvolumeclaims",
    "events",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "ingresses.networking.k8s.io",
    "endpointslices.discovery.k8s.io",
    "horizontalpodautoscalers.autoscaling",
)
CLUSTER_WIDE = (
    "nodes",
    "storageclasses.storage.k8s.io",
    "ingressclasses.networking.k8s.io",
    "apiservices.apiregistration.k8s.io",
)
_KINDS = {
    "pods": ("Pod", "v1"),
    "services": ("Service", "v1"),
    "persistentvolumeclaims": ("PersistentVolumeClaim", "v1"),
    "events": ("Event", "v1"),
    "deployments.apps": ("Deployment", "apps/v1"),
    "replicasets.apps": ("ReplicaSet", "apps/v1"),
    "statefulsets.apps": ("StatefulSet", "apps/v1"),
    "daemonsets.apps": ("DaemonSet", "apps/v1"),
    "jobs.batch": ("Job", "batch/v1"),
    "cronjobs.batch": ("CronJob", "batch/v1"),
    "ingresses.networking.k8s.io": ("Ingress", "networking.k8s.io/v1"),
    "endpointslices.discovery.k8s.io": ("EndpointSlice", "discovery.k8s.io/v1"),
    "horizontalpodautoscalers.autoscaling": ("HorizontalPodAutoscaler", "autoscaling/v2"),
    "nodes": ("Node", "v1"),
    "storageclasses.storage.k8s.io": ("StorageClass", "storage.k8s.io/v1"),
    "ingressclasses.networking.k8s.io": ("IngressClass", "networking.k8s.io/v1"),
    "apiservices.apiregistration.k8s.io": ("APIService", "apiregistration.k8s.io/v1"),
}
_SECRET = re.compile(r"secrets?(\.v1)?", re.IGNORECASE)
_AT_ONCE = 6
_LOG_FINDINGS = 5
_LOG_LINES = 20
_SHOWN_LINES = 4
_LINE_BYTES = 200
_TELLING = re.compile(
    r"error|fatal|panic|exception|denied|refused|traceback|cannot|can't|unable|not found|no such|failed"
    r"|invalid|missing|unauthori[sz]ed|timed? ?out|out of memory|bad address|segfault|exec format",
    re.IGNORECASE,
)
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\s+")


class Reader(Protocol):
    """What lists objects and reads logs. Both raise `OpswarmError`s: `PermissionDenied`, `NotFound`,
    `Unavailable`, `DeadlineExceeded`."""

    async def list_all(self, resource: str, namespace: str = "") -> list[Mapping[str, Any]]:
        """Every object of a resource such as "pods" or "deployments.apps", of one namespace if named."""
        ...

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool, tail: int) -> str:
        """The last `tail` lines of a container's log, of its run before if `previous`."""
        ...


async def collect(reader: Reader, scope: Scope, resource: str = "") -> Snapshot:
    """Lists all that the analyzers read, six lists at a time, and the kind of the scope if it is another one.

    `resource` names that kind for `Reader.list_all`, by default as `scope.kind` does. Secrets are never read.
    What can't be listed is noted in `Snapshot.missing`. Raises `Unavailable` (or `Unauthenticated`) when that
    is why pods can't be listed: then nothing can be said.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(resource: str, namespace: str) -> list[Mapping[str, Any]] | OpswarmError:
        async with gate:
            try:
                return await reader.list_all(resource, namespace)
            except OpswarmError as error:
                return error

    wanted = [*((name, scope.namespace) for name in NAMESPACED), *((name, "") for name in CLUSTER_WIDE)]
    missing: dict[str, str] = {}
    if other := _other(scope.kind, resource):
        if _SECRET.fullmatch(other):
            missing["secrets"] = "never read"
        else:
            wanted.append((other, scope.namespace))
    answers = await asyncio.gather(*(one(name, namespace) for name, namespace in wanted))
    objects: list[Mapping[str, Any]] = []
    listed: set[str] = set()
    for (name, _), answer in zip(wanted, answers, strict=True):
        if isinstance(answer, OpswarmError):
            if name == "pods" and isinstance(answer, Unavailable | Unauthenticated):
                raise answer
            missing[name] = _reason(answer)
        else:
            listed.add(name)
            kind, version = _KINDS.get(name, (scope.kind, ""))
            objects += [{"kind": kind, "apiVersion": version, **item} for item in answer]
    return await asyncio.to_thread(Snapshot.from_objects, objects, missing, frozenset(listed))


def _other(kind: str, resource: str) -> str:
    """The resource to list for a kind that is not read anyway, "" for one that is."""
    if not kind or kind_named(kind) in {known for known, _ in _KINDS.values()} or resource in _KINDS:
        return ""
    return resource or kind


def _reason(error: OpswarmError) -> str:
    word = "forbidden" if isinstance(error, PermissionDenied) else error.code.replace("_", " ")
    if isinstance(error, NotFound):
        word = "not served"
    return one_line(f"{word}: {error.message}", 200)


async def add_logs(reader: Reader, report: Report) -> Report:
    """The report with what the containers of its first five findings with a log wrote last.

    A log that can't be read is noted as evidence. An "exec format error" in it becomes the finding's cause.
    """
    chosen = [finding for finding in report.findings if finding.logs is not None][:_LOG_FINDINGS]
    read = await asyncio.gather(*(_with_log(reader, finding) for finding in chosen))
    by_id = {id(old): new for old, new in zip(chosen, read, strict=True)}
    return replace(report, findings=tuple(by_id.get(id(finding), finding) for finding in report.findings))


async def _with_log(reader: Reader, finding: Finding) -> Finding:
    source = finding.logs
    if source is None:
        return finding
    try:
        text, which = await _read(reader, source)
    except OpswarmError as error:
        note = Evidence(f"log {source.container}", f"can't be read ({_reason(error)})")
        return replace(finding, evidence=(*finding.evidence, note))
    lines = telling_lines(text)
    label = f"log{which} {source.container}"
    shown = tuple(Evidence(label, line) for line in lines) or (Evidence(label, "(empty)"),)
    found = replace(finding, evidence=(*finding.evidence, *shown))
    if "exec format error" in text.lower() and finding.cause != EXEC_FORMAT.cause:
        title = f"container {source.container} {EXEC_FORMAT.phrase}"
        return replace(found, cause=EXEC_FORMAT.cause, title=title, next_step=EXEC_FORMAT.next_step)
    return found


async def _read(reader: Reader, source: LogSource) -> tuple[str, str]:
    """The log and " (previous)" when it is of the run before; the current one when there is no previous."""
    where = (source.namespace, source.pod, source.container)
    if source.previous:
        try:
            text = await reader.logs(*where, previous=True, tail=_LOG_LINES)
            if text.strip():
                return text, " (previous)"
        except (PermissionDenied, Unavailable):
            raise
        except OpswarmError:
            # The runtime keeps the log of the run before only for a while; the current one may still tell.
            pass
    return await reader.logs(*where, previous=False, tail=_LOG_LINES), ""


def telling_lines(text: str) -> list[str]:
    """The lines of a log that look like the reason, else its last three: clean, one line each, ≤200 bytes."""
    lines = [_STAMP.sub("", line).strip() for line in clean(text).splitlines()]
    lines = [one_line(line, _LINE_BYTES) for line in lines]
    lines = [line for line in dict.fromkeys(lines) if line]
    telling = [line for line in lines if _TELLING.search(line)]
    return telling[-_SHOWN_LINES:] if telling else lines[-3:]
