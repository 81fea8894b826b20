"""Tools that read what Flux does: its controllers, its objects, one of them, and what hangs together with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.finding import one_line
from mcp_servers.cluster.objects import Found
from mcp_servers.cluster.ownership import owner_of
from mcp_servers.flux.fields import (
    Obj,
    Ref,
    address,
    ago,
    event_time,
    inventory,
    label,
    mapping,
    name_of,
    rows,
    safe,
    short,
    text,
    to_yaml,
    whole,
)
from mcp_servers.flux.kinds import APPLIERS, BY_KIND, KINDS, kind_named, kinds_named
from mcp_servers.flux.snapshot import Flux, Snapshot, chart_ref, depends_on, source_ref, unreadable
from mcp_servers.flux.state import Health, State, state_of
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp import arguments
from opswarm.mcp.pages import paged
from opswarm.mcp.text import counted, fit_text, table
from opswarm.mcp.tools import ToolOutput

Kind = Annotated[str, Field(description="Such as Kustomization or HelmRelease.")]
Name = Annotated[str, Field(description="Exact name.")]
Namespace = Annotated[str, Field(description="Namespace; empty: all.")]

_MOST_BROKEN = 12
_MOST_EVENTS = 8
_MOST_INVENTORY = 60
_DEEPEST = 6
_STATES = tuple(str(h) for h in Health)


def now() -> datetime:
    return datetime.now(UTC)


class Reading:
    """What one cluster's Flux does."""

    def __init__(self, flux: Flux, clock: Callable[[], datetime] = now) -> None:
        self._flux = flux
        self._clock = clock

    async def flux_report(self) -> ToolOutput:
        """Say how Flux is: its controllers with their versions, its objects by state, and what fails."""
        at = self._clock()
        shot = await self._flux.snapshot()
        states = _states(shot, at)
        controllers: list[Obj] = []
        try:
            controllers = await self._flux.controllers()
            ready = [f"{whole(c, 'status', 'readyReplicas')}/{_replicas(c)}" for c in controllers]
            rows_of = [(name_of(c), n, _version(c)) for c, n in zip(controllers, ready, strict=True)]
            lines = table(("CONTROLLER", "READY", "VERSION"), rows_of)
        except OpswarmError as error:
            if not states:
                raise  # There is nothing of Flux's here, or nothing that may be seen.
            lines = [f"The controllers could not be looked at: {unreadable(error)}"]
        counts: dict[str, Counter[str]] = {}
        for state in states:
            counts.setdefault(state.ref[0], Counter())[str(state.health)] += 1
        lines.append("")
        for kind in (k.kind for k in KINDS):
            if kind in counts:
                told = ", ".join(f"{n} {h}" for h, n in sorted(counts[kind].items(), key=lambda c: _STATES.index(c[0])))
                lines.append(f"{kind}: {told}")
        broken = [s for s in states if s.health.broken]
        lines += ["", f"{len(broken)} broken of {len(states)}"] if states else ["", "Flux has no objects here."]
        lines += [f"- {_sentence(s, at)}" for s in broken[:_MOST_BROKEN]]
        if len(broken) > _MOST_BROKEN:
            lines.append(f"- and {len(broken) - _MOST_BROKEN} more: flux_list state=failing")
        down = [name_of(c) for c in controllers if whole(c, "status", "readyReplicas") < _replicas(c)]
        data = {
            "controllers": [
                {"name": name_of(c), "version": _version(c), "ready": name_of(c) not in down} for c in controllers
            ],
            "counts": {kind: dict(found) for kind, found in counts.items()},
            "broken": [s.data() for s in broken[:50]],
        }
        return ToolOutput(fit_text("\n".join([*lines, *shot.notes()]), "flux_list"), data)

    async def flux_list(
        self,
        kind: Annotated[str, Field(description="A kind, or sources, images, notifications, apply; empty: all.")] = "",
        namespace: Namespace = "",
        state: Annotated[str, Field(description=f"Only {', '.join(_STATES)}.")] = "",
        limit: Annotated[int, Field(description="Most rows, to 500.")] = 50,
        cursor: Annotated[str, Field(description="From the page before.")] = "",
    ) -> ToolOutput:
        """List objects of Flux with state, age in it, revision and message; what is broken comes first."""
        arguments.bounded(limit, 1, 500, "limit")
        if state and state not in _STATES:
            raise InvalidInput(f"state: {arguments.shown(state)} is none of {', '.join(_STATES)}.")
        chosen = kinds_named(kind)
        if len(chosen) == 1:
            await self._flux.resource(chosen[0])
        at = self._clock()
        shot = await self._flux.snapshot(chosen, arguments.namespace(namespace))
        states = _states(shot, at)
        kept = [s for s in states if state in ("", str(s.health))]
        return paged(
            kept,
            ("KIND", "NAME", "STATE", "FOR", "REVISION", "MESSAGE"),
            lambda s: (s.ref[0], f"{s.ref[1]}/{s.ref[2]}", s.health, ago(s.since, at), s.revision or "-", _why(s)),
            lambda s: s.data(),
            what="objects",
            advice="kind, namespace or state",
            limit=limit,
            cursor=cursor,
            title=f"{len(kept)} of {len(states)} objects ({sum(s.health.broken for s in states)} broken)",
            notes=shot.notes([k.kind for k in chosen] if kind else ()),
            last=160,
        )

    async def flux_get(
        self,
        kind: Kind,
        name: Name,
        namespace: Namespace = "",
        yaml: Annotated[bool, Field(description="The whole object instead.")] = False,
    ) -> ToolOutput:
        """Show one object: state, conditions, source, what it waits for, history and events."""
        at = self._clock()
        obj = await self._flux.find(kind, name, namespace)
        state = state_of(obj, at)
        if yaml:
            return ToolOutput(fit_text(to_yaml(safe(obj)), "flux_get without yaml"), {"object": safe(obj)})
        lines = [_sentence(state, at)]
        if state.health is Health.SUSPENDED:
            lines.append(f"Nothing is reconciled until it is resumed; before that it was {state.under}.")
        if state.retried:
            lines.append(f"It is tried again: the last try ended with {one_line(state.retried)}.")
        if state.attempted:
            lines.append(f"It tried {state.attempted} last, and has {state.revision or 'nothing'}.")
        lines += _facts(obj)
        lines += await self._source_lines(obj, at)
        lines += [f"waits for {told}" for told in await self._dependencies(obj, at)]
        lines += [
            f"{text(c, 'type')}={text(c, 'status')} {text(c, 'reason')} {ago(text(c, 'lastTransitionTime'), at)} ago: "
            f"{one_line(text(c, 'message'))}"
            for c in rows(obj, "status", "conditions")
        ]
        lines += _history(obj, at)
        lines += await self._events(obj, at)
        return ToolOutput(fit_text("\n".join(lines), "yaml"), {**state.data(), "object": safe(obj)})

    async def flux_tree(self, kind: Kind, name: Name, namespace: Namespace = "") -> ToolOutput:
        """Show what a Kustomization or HelmRelease waits for, what waits for it, and what it applied, with states."""
        chosen = kind_named(kind)
        if chosen.kind not in APPLIERS:
            raise InvalidInput(f"A {chosen.kind} applies nothing.", hint="Ask for a Kustomization or HelmRelease.")
        at = self._clock()
        obj = await self._flux.find(kind, name, namespace)
        shot = await self._flux.snapshot([BY_KIND[k] for k in APPLIERS])
        states = {s.ref: s for s in _states(shot, at)}
        root = state_of(obj, at).ref
        needs: dict[Ref, list[Ref]] = {ref: depends_on(o) for ref, o in shot.objects.items()}
        needed: dict[Ref, list[Ref]] = {}
        for ref, wanted in needs.items():
            for one in wanted:
                needed.setdefault(one, []).append(ref)
        lines = [_short(root, states)]
        lines += ["waits for:", *_branches(root, needs, states)] if needs.get(root) else ["waits for nothing"]
        lines += ["awaited by:", *_branches(root, needed, states)] if needed.get(root) else []
        applied = [ref for ref, _ in inventory(obj)]
        lines.append(f"applied {counted(len(applied), 'object')}" + (":" if applied else " (or does not tell which)"))
        lines += [f"  {_short(ref, states)}" for ref in sorted(applied)[:_MOST_INVENTORY]]
        if len(applied) > _MOST_INVENTORY:
            lines.append(f"  and {len(applied) - _MOST_INVENTORY} more")
        data = {
            "needs": [label(r) for r in needs.get(root, ())],
            "needed_by": [label(r) for r in needed.get(root, ())],
            "applied": [{"kind": k, "namespace": ns, "name": n} for k, ns, n in sorted(applied)],
        }
        return ToolOutput(fit_text("\n".join([*lines, *shot.notes()]), "flux_get"), data)

    async def flux_owner(self, kind: Kind, name: Name, namespace: Namespace = "") -> ToolOutput:
        """Say what applies an object of any kind, and where in Git that is: owners, repository, path, revision."""
        resource = await self._flux.resources.find(kind)
        where = arguments.namespace(namespace) if resource.namespaced else ""
        if resource.namespaced and not where:
            raise InvalidInput(f"A {resource.kind} is in a namespace, and none was given.", hint="Name it.")
        body = (await self._flux.cluster.get(resource.path(where, arguments.name(name)))).json()
        found = Found(resource, {"kind": resource.kind, **body})
        lines: list[str] = []
        chain: list[str] = []
        seen: set[str] = set()
        owner = owner_of(found)
        if owner is None:
            return ToolOutput(
                f"{found} carries no mark of Flux or Argo CD: it was made by hand, by a controller, or by a program.",
                {"owners": [], "source": None},
            )
        while owner is not None and str(owner) not in seen:
            seen.add(str(owner))
            chain.append(str(owner))
            if owner.by != "Flux":
                return ToolOutput(f"{found} is applied by {owner} (Argo CD).", {"owners": chain, "source": None})
            obj = await self._flux.find(owner.kind, owner.name, owner.namespace)
            lines.append(f"{'which is ' if lines else f'{found} is '}applied by {owner}")
            source = await self._source(obj)
            above = owner_of(Found(await self._flux.resource(BY_KIND[owner.kind]), obj))
            if owner.kind == "Kustomization":
                lines.append(f"  from {source['told']}, path {source['path']}")
                if above is None or str(above) in seen:
                    lines.append("  whose own manifest is applied by nothing that it is marked with (the bootstrap)")
                return ToolOutput("\n".join(lines), {"owners": chain, "source": source})
            lines.append(f"  a chart from {source['told']}")
            owner = above
        return ToolOutput("\n".join(lines), {"owners": chain, "source": None})

    async def _source(self, obj: Obj) -> dict[str, str]:
        """Of a Kustomization or HelmRelease: its source in words, its URL, reference, path and revision."""
        ref = source_ref(obj)
        path = text(obj, "spec", "path") or "./"
        if ref is None:
            return {"told": "a source that it does not name", "url": "", "ref": "", "path": path, "revision": ""}
        try:
            source = await self._flux.find(ref[0], ref[2], ref[1])
        except OpswarmError as error:
            why = unreadable(error)
            return {"told": f"{label(ref)} ({why})", "url": "", "ref": "", "path": one_line(path), "revision": ""}
        url, at = address(text(source, "spec", "url")), _reference(source)
        revision = short(text(source, "status", "artifact", "revision"))
        told = f"{label(ref)}, {url or text(source, 'spec', 'bucketName')}{f' at {at}' if at else ''}"
        told += f", now {revision}" if revision else ""
        return {"told": told, "url": url, "ref": at, "path": one_line(path), "revision": revision}

    async def _source_lines(self, obj: Obj, at: datetime) -> list[str]:
        lines = []
        for ref in (source_ref(obj), chart_ref(obj)):
            if ref is None:
                continue
            try:
                lines.append(f"source: {_sentence(state_of(await self._flux.find(ref[0], ref[2], ref[1]), at), at)}")
            except OpswarmError as error:
                lines.append(f"source: {label(ref)}: {unreadable(error)}")
        return lines

    async def _dependencies(self, obj: Obj, at: datetime) -> list[str]:
        told = []
        for ref in depends_on(obj):
            try:
                told.append(_sentence(state_of(await self._flux.find(ref[0], ref[2], ref[1]), at), at))
            except NotFound as error:
                told.append(f"{label(ref)}, which is not there: {unreadable(error)}")
        return told

    async def _events(self, obj: Obj, at: datetime) -> list[str]:
        selector = f"involvedObject.name={name_of(obj)},involvedObject.kind={text(obj, 'kind')}"
        try:
            found = await self._flux.resources.list_all(
                "events", text(obj, "metadata", "namespace"), field_selector=selector
            )
        except OpswarmError as error:
            return [f"(events: {unreadable(error)})"]
        newest = sorted(found, key=event_time)[-_MOST_EVENTS:]
        return [
            f"event {ago(event_time(e), at)} ago {text(e, 'type')} {text(e, 'reason')}: {one_line(text(e, 'message'))}"
            for e in newest
        ]


def _states(shot: Snapshot, at: datetime) -> list[State]:
    """Of all objects, the worst first."""
    return sorted((state_of(o, at) for o in shot.objects.values()), key=lambda s: (s.health.rank, s.ref))


def _sentence(state: State, at: datetime) -> str:
    since = f" for {ago(state.since, at)}" if state.since else ""
    revision = f" at {state.revision}" if state.revision else ""
    return f"{label(state.ref)} is {state.health}{since}{revision}{f': {_why(state)}' if _why(state) else ''}"


def _why(state: State) -> str:
    if state.health in (Health.READY, Health.STATIC):
        return ""
    return one_line(f"{state.reason}: {state.message}" if state.reason else state.message)


def _short(ref: Ref, states: dict[Ref, State]) -> str:
    state = states.get(ref)
    if state is None:
        return label(ref) + (" (not there)" if ref[0] in APPLIERS else "")
    return f"{label(ref)} is {state.health}" + (f": {one_line(_why(state), 160)}" if state.health.broken else "")


def _branches(root: Ref, edges: dict[Ref, list[Ref]], states: dict[Ref, State]) -> list[str]:
    lines: list[str] = []

    def add(ref: Ref, depth: int, above: frozenset[Ref]) -> None:
        for one in edges.get(ref, ()):
            told = f"{'  ' * depth}{_short(one, states)}"
            if one in above:
                lines.append(f"{told} (a cycle: none of them can ever begin)")
            elif depth > _DEEPEST:
                lines.append(f"{'  ' * depth}…")
                return
            else:
                lines.append(told)
                add(one, depth + 1, above | {one})

    add(root, 1, frozenset({root}))
    return lines


def _facts(obj: Obj) -> list[str]:
    """What its spec says that a reader asks for first."""
    spec = mapping(obj, "spec")
    facts = []
    if url := text(spec, "url"):
        facts.append(f"{address(url)}{f' at {_reference(obj)}' if _reference(obj) else ''}")
    if text(obj, "kind") == "Kustomization":
        facts.append(f"path {one_line(text(spec, 'path') or './')}")
    if chart := mapping(spec, "chart", "spec"):
        facts.append(f"chart {one_line(text(chart, 'chart'))} {one_line(text(chart, 'version') or '(newest)')}")
    if target := text(spec, "targetNamespace"):
        facts.append(f"into the namespace {one_line(target)}")
    facts += [f"every {one_line(text(spec, 'interval'))}"] if text(spec, "interval") else []
    if failures := [f"{k} {whole(obj, 'status', k)}" for k in ("installFailures", "upgradeFailures", "failures")
                    if whole(obj, "status", k)]:  # fmt: skip
        facts.append(", ".join(failures))
    count = sum(1 for _ in inventory(obj))
    facts += [f"applied {counted(count, 'object')}"] if count else []
    return [", ".join(facts)] if facts else []


def _history(obj: Obj, at: datetime) -> list[str]:
    lines = []
    for one in rows(obj, "status", "history")[:5]:
        if text(one, "chartVersion"):
            chart = one_line(f"{text(one, 'chartName')}@{text(one, 'chartVersion')} {text(one, 'status')}")
            lines.append(f"release v{whole(one, 'version')} {chart}, {ago(text(one, 'lastDeployed'), at)} ago")
        elif text(one, "lastReconciledStatus"):
            lines.append(f"{one_line(text(one, 'lastReconciledStatus'))}, {ago(text(one, 'lastReconciled'), at)} ago")
    return lines


def _reference(source: Obj) -> str:
    """The branch, tag, version or commit that a source follows."""
    ref = mapping(source, "spec", "ref")
    return next(
        (
            f"{k} {one_line(text(ref, k))}"
            for k in ("commit", "digest", "name", "semver", "tag", "branch")
            if text(ref, k)
        ),
        "",
    )


def _replicas(deployment: Obj) -> int:
    wanted = mapping(deployment, "spec").get("replicas")
    return wanted if isinstance(wanted, int) else 1


def _version(deployment: Obj) -> str:
    containers: Sequence[Any] = rows(deployment, "spec", "template", "spec", "containers")
    image = text(containers[0], "image") if containers else ""
    return one_line(image.partition("@")[0].rpartition(":")[2] or "?", 60)
