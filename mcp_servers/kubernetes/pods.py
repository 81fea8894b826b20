"""Tools about pods: their logs, what they use, and the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_servers.cluster.resources import Resources
from mcp_servers.kubernetes import quantities
from mcp_servers.kubernetes.reading import Namespace
from mcp_servers.kubernetes.rendering import TEXT_LIMIT, age, fit_lines, fitting, parse_time, table
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.untrusted import clean
from opswarm.mcp import arguments
from opswarm.mcp.tools import ToolOutput

_MAX_FETCHED = 5_000
_LINE = 500
_LOG_LIMIT = TEXT_LIMIT - 500  # Room for the line above the log.
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class Pods:
    """Logs, usage and events, against one cluster."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def pods_log(
        self,
        pod: Annotated[str, Field(description="Pod name, or the beginning of one.")],
        namespace: Namespace = "",
        container: Annotated[str, Field(description="Container; default: the failing one.")] = "",
        tail: Annotated[int, Field(description="Last lines, 1 to 1000.")] = 100,
        since: Annotated[str, Field(description="Only the last, e.g. 15m or 2h.")] = "",
        previous: Annotated[bool, Field(description="The run before the last restart.")] = False,
        include: Annotated[str, Field(description="Only lines that match this regex.")] = "",
        exclude: Annotated[str, Field(description="Not lines that match this regex.")] = "",
    ) -> ToolOutput:
        """Read a container's log, newest lines last."""
        arguments.bounded(tail, 1, 1000, "tail")
        wanted, unwanted = arguments.pattern(include, "include"), arguments.pattern(exclude, "exclude")
        back = arguments.seconds(since)
        found, note = await self._pod(arguments.prefix(pod, "pod"), arguments.namespace(namespace))
        meta = found["metadata"]
        chosen = container or _container(found, previous=previous)
        if container and container not in _containers(found):
            names = ", ".join(_containers(found))
            raise NotFound(f"Pod {meta['name']} has no container '{container}'.", hint=f"It has: {names}.")
        text = await self._resources.cluster.logs(
            meta["namespace"],
            meta["name"],
            chosen,
            previous=previous,
            tail=_MAX_FETCHED if wanted or unwanted else tail,
            since=back,
        )
        lines = text.removesuffix("\n").split("\n") if text else []
        kept = [
            _cut(line) for line in lines
            if (wanted is None or _fits(wanted, line)) and (unwanted is None or not _fits(unwanted, line))
        ][-tail:]  # fmt: skip
        source = f"{meta['namespace']}/{meta['name']} container {chosen}{' (previous run)' if previous else ''}"
        # The oldest lines give way to the cap: what happened last matters most.
        newest = kept[len(kept) - fitting(kept[::-1], _LOG_LIMIT) :]
        data = {"pod": meta["name"], "container": chosen, "lines": newest, "read": len(lines)}
        if not lines:
            return ToolOutput(f"The log of {source} is empty{f' in the last {since}' if since else ''}.{note}", data)
        head = f"Log of {source}: {len(newest)} of {len(lines)} lines shown{note}"
        if len(newest) < len(kept):
            head += " (the newest; narrow by tail, since, include or exclude)"
        return ToolOutput("\n".join([head, *newest]), data)

    async def pods_top(
        self,
        namespace: Namespace = "",
        name: Annotated[str, Field(description="Only pods whose name has this.")] = "",
        sort: Annotated[Literal["memory", "cpu"], Field(description="memory or cpu.")] = "memory",
        limit: Annotated[int, Field(description="Most rows, 1 to 500.")] = 20,
    ) -> ToolOutput:
        """Show what pods use, the largest first, against their limits."""
        arguments.bounded(limit, 1, 500, "limit")
        where = arguments.namespace(namespace)
        try:
            metrics = await self._resources.list_all("pods.metrics.k8s.io", where)
        except NotFound as error:
            raise NotFound(
                "This cluster serves no pod metrics (metrics.k8s.io).", hint="Install metrics-server."
            ) from error
        specs = {_key(p): p for p in await self._resources.list_all("pods", where)}
        used = [_usage(m, specs.get(_key(m))) for m in metrics if name.lower() in m["metadata"]["name"]]
        used.sort(key=lambda u: float(u[sort]), reverse=True)
        rows = [
            (
                u["namespace"],
                u["pod"],
                quantities.cores(u["cpu"]),
                _limit(u["cpu_limit"], quantities.cores),
                quantities.mebibytes(u["memory"]),
                _limit(u["memory_limit"], quantities.mebibytes),
            )
            for u in used[:limit]
        ]
        if not rows:
            if where:
                await self._resources.check_namespace(where)
            return ToolOutput("No pod metrics match.", {"pods": []})
        header = ("NAMESPACE", "POD", "CPU", "CPU LIMIT", "MEMORY", "MEMORY LIMIT")
        lines = table(header, rows)
        text = fit_lines(lines, "pods", "namespace or name", head=1, total=len(used))
        return ToolOutput(text, {"pods": used[: fitting(lines) - 1]})

    async def events_list(
        self,
        namespace: Namespace = "",
        name: Annotated[str, Field(description="Only of objects whose name has this.")] = "",
        kind: Annotated[str, Field(description="Only of this kind, e.g. Pod.")] = "",
        type: Annotated[Literal["", "Warning", "Normal"], Field(description="Warning or Normal.")] = "",
        reason: Annotated[str, Field(description="Only this reason.")] = "",
        since: Annotated[str, Field(description="Only the last, e.g. 1h.")] = "",
        limit: Annotated[int, Field(description="Most rows, 1 to 500.")] = 40,
    ) -> ToolOutput:
        """List events, the newest first."""
        arguments.bounded(limit, 1, 500, "limit")
        back = arguments.seconds(since)
        now = datetime.now(UTC)
        where = arguments.namespace(namespace)
        wanted = (await self._kind(kind)).lower() if kind else ""
        events = await self._resources.list_all("events", where)
        if where and not events:
            await self._resources.check_namespace(where)
        kept = [
            e
            for e in events
            if name.lower() in str((e.get("involvedObject") or {}).get("name", "")).lower()
            and (not wanted or str((e.get("involvedObject") or {}).get("kind", "")).lower() == wanted)
            and (not type or e.get("type") == type)
            and (not reason or str(e.get("reason", "")).lower() == reason.lower())
            and (not back or _seconds_ago(e, now) <= back)
        ]
        kept.sort(key=lambda e: _seconds_ago(e, now))
        if not kept:
            return ToolOutput(f"No events match (of {len(events)} read).", {"events": []})
        header = ("LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE")
        rows = [_event_row(e, now, spread=not where) for e in kept[:limit]]
        lines = _long_table(header, rows)
        advice = "namespace, name, type, reason or since"
        text = fit_lines(lines, "events", advice, head=1, total=len(kept))
        return ToolOutput(text, {"events": [list(r) for r in rows[: max(0, fitting(lines) - 1)]]})

    async def _kind(self, kind: str) -> str:
        """The Kind that a plural or short name stands for. Events may be about kinds that are gone."""
        try:
            return (await self._resources.find(kind)).kind
        except NotFound:
            return kind

    async def _pod(self, pod: str, namespace: str) -> tuple[Mapping[str, Any], str]:
        """The pod of that name, else the one whose name begins so: with several, the least healthy."""
        found = await self._resources.list_all("pods", namespace)
        exact = [p for p in found if p["metadata"]["name"] == pod]
        starts = [p for p in found if p["metadata"]["name"].startswith(pod)]
        matches = exact or starts or [p for p in found if pod in p["metadata"]["name"]]
        if not matches:
            if namespace:
                await self._resources.check_namespace(namespace)
            raise NotFound(
                f"No pod is named '{pod}'{f' in namespace {namespace}' if namespace else ''}, nor begins so.",
                hint="pods_list shows those there are.",
            )
        names = sorted(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in matches)
        if exact and len(exact) > 1:
            raise InvalidInput(f"Several namespaces have a pod '{pod}': {', '.join(names[:8])}.", hint="Name one.")
        if len(matches) == 1 or _one_owner(matches):
            chosen = sorted(matches, key=_health)[0]
            others = len(matches) - 1
            return chosen, f" (one of {others + 1} pods of its owner)" if others else ""
        raise InvalidInput(f"'{pod}' fits several pods: {', '.join(names[:8])}.", hint="Name one.")


def _one_owner(pods: Sequence[Mapping[str, Any]]) -> bool:
    owners = {
        (p["metadata"]["namespace"], tuple(o.get("uid") for o in p["metadata"].get("ownerReferences") or ()))
        for p in pods
    }
    return len(owners) == 1 and next(iter(owners))[1] != ()


def _statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _health(pod: Mapping[str, Any]) -> tuple[bool, int]:
    """Sorts the least healthy first. A pod that ran to its end is not ready, and healthy."""
    statuses = _statuses(pod)
    phase = (pod.get("status") or {}).get("phase")
    healthy = phase == "Succeeded" or (phase != "Failed" and all(s.get("ready") for s in statuses))
    return healthy, -sum(int(s.get("restartCount") or 0) for s in statuses)


def _containers(pod: Mapping[str, Any]) -> list[str]:
    spec = pod.get("spec") or {}
    return [c["name"] for field in _CONTAINERS for c in spec.get(field) or ()]


def _container(pod: Mapping[str, Any], *, previous: bool) -> str:
    """The container to read: the one that fails (or, for the previous run, one that had one), else the first that
    runs without being ready, else the annotated default, else the first."""
    statuses = _statuses(pod)
    failing = [s for s in statuses if _fails(s.get("state") or {})]
    if previous:
        had_one = [s for s in statuses if (s.get("lastState") or {}).get("terminated")]
        failing = [s for s in had_one if s in failing] or had_one or failing
    unready = [s for s in statuses if (s.get("state") or {}).get("running") is not None and not s.get("ready")]
    for status in (*failing, *unready):
        return str(status["name"])
    preferred = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
    names = _containers(pod)
    return preferred if preferred in names else names[0]


def _fails(state: Mapping[str, Any]) -> bool:
    waiting = (state.get("waiting") or {}).get("reason") not in (None, "PodInitializing", "ContainerCreating")
    return waiting or int((state.get("terminated") or {}).get("exitCode") or 0) != 0


def _fits(expression: Any, line: str) -> bool:
    """Whether a log line matches, with its timestamp or without: an anchor means the message."""
    return bool(expression.search(line) or expression.search(line.partition(" ")[2]))


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _usage(metric: Mapping[str, Any], pod: Mapping[str, Any] | None) -> dict[str, Any]:
    measured = {str(c.get("name")): c.get("usage") or {} for c in metric.get("containers") or ()}
    spec = (pod or {}).get("spec") or {}
    # Only of the containers that are measured: init containers that have ended use nothing.
    limits = [
        (c.get("resources") or {}).get("limits") or {}
        for field in _CONTAINERS
        for c in spec.get(field) or ()
        if c["name"] in measured
    ]
    return {
        "namespace": metric["metadata"].get("namespace", ""),
        "pod": metric["metadata"]["name"],
        "cpu": sum(quantities.parse(str(u.get("cpu", "0"))) for u in measured.values()),
        "memory": sum(quantities.parse(str(u.get("memory", "0"))) for u in measured.values()),
        "cpu_limit": _sum_of_limits(limits, "cpu"),
        "memory_limit": _sum_of_limits(limits, "memory"),
    }


def _sum_of_limits(limits: Sequence[Mapping[str, Any]], resource: str) -> float:
    """0 when one container has no limit: then the pod has none."""
    if not all(c.get(resource) for c in limits):
        return 0.0
    return sum(quantities.parse(str(c[resource])) for c in limits)


def _limit(value: float, write: Any) -> str:
    return str(write(value)) if value else "-"


def _last_seen(event: Mapping[str, Any]) -> str | None:
    series = event.get("series") or {}
    for time in (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")):
        if time:
            return str(time)
    return (event.get("metadata") or {}).get("creationTimestamp")


def _seconds_ago(event: Mapping[str, Any], now: datetime) -> float:
    when = parse_time(_last_seen(event))
    return (now - when).total_seconds() if when else float("inf")


def _event_row(event: Mapping[str, Any], now: datetime, *, spread: bool) -> tuple[str, ...]:
    about = event.get("involvedObject") or {}
    where = f"{about.get('namespace')}/" if spread and about.get("namespace") else ""
    count = (event.get("series") or {}).get("count") or event.get("count") or 1
    return (
        age(_last_seen(event), now),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"{about.get('kind', '')} {where}{about.get('name', '')}",
        str(count),
        str(event.get("message", "")),
    )


def _long_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose last column may be long: messages matter to their end."""
    lines = table(header[:-1], [r[:-1] for r in rows])
    width = max(len(line) for line in lines) + 2
    last = [header[-1], *(" ".join(clean(r[-1]).split())[:400] for r in rows)]
    return [f"{line.ljust(width)}{text}" for line, text in zip(lines, last, strict=True)]
