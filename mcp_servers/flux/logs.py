"""The `flux_logs` tool: what a controller wrote about one object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.finding import one_line
from mcp_servers.flux.fields import Obj, label, mapping, name_of, namespace_of, ref_of, text
from mcp_servers.flux.kinds import kind_named
from mcp_servers.flux.reading import Kind, Name, Namespace
from mcp_servers.flux.snapshot import Flux, unreadable
from opswarm.errors import NotFound, OpswarmError
from opswarm.mcp import arguments
from opswarm.mcp.text import counted, fitting
from opswarm.mcp.tools import ToolOutput

_READ = 5_000
"""Lines of one pod's log that are looked through, the newest. Controllers write some tens for an object in an hour."""

_MOST_PODS = 4
_LINE = 600
_ROOM = 14_000
_NOT_TOLD = frozenset(
    {"ts", "level", "msg", "error", "logger", "caller", "stacktrace", "controller", "controllerGroup", "controllerKind"}
    | {"namespace", "name", "reconcileID"}
)
"""Said already, or the same for every line."""


class FluxLogs:
    """Logs of one cluster's controllers."""

    def __init__(self, flux: Flux) -> None:
        self._flux = flux

    async def flux_logs(
        self,
        kind: Kind,
        name: Name,
        namespace: Namespace = "",
        since: Annotated[str, Field(description="Only the last, e.g. 15m or 2h.")] = "1h",
        errors: Annotated[bool, Field(description="Only errors.")] = False,
        limit: Annotated[int, Field(description="Most lines, 1 to 200.")] = 30,
    ) -> ToolOutput:
        """Read what the controller wrote about one object, newest lines last."""
        arguments.bounded(limit, 1, 200, "limit")
        back = arguments.seconds(since)
        chosen = kind_named(kind)
        obj = await self._flux.find(kind, name, namespace)
        pods = await self._pods(chosen.controller)
        read = await asyncio.gather(*(self._log(pod, back) for pod in pods[:_MOST_PODS]), return_exceptions=True)
        found: list[dict[str, Any]] = []
        notes = [f"(only {_MOST_PODS} of {len(pods)} pods are read)"] if len(pods) > _MOST_PODS else []
        failures: list[OpswarmError] = []
        looked = 0
        for pod, result in zip(pods, read, strict=False):
            if isinstance(result, OpswarmError):
                failures.append(result)
                notes.append(f"(the log of {name_of(pod)} could not be read: {unreadable(result)})")
            elif isinstance(result, BaseException):
                raise result
            else:
                looked += len(result)
                if len(result) >= _READ:
                    notes.append(f"(of {name_of(pod)} only the newest {_READ} lines are looked through)")
                found += [told for line in result if (told := _about(line, obj)) is not None]
        if len(failures) == len(pods):
            raise failures[0]
        found.sort(key=lambda one: str(one["time"]))
        kept = [one for one in found if not errors or one["level"] == "error"]
        lines = [_line(one) for one in kept[-limit:]]
        shown = lines[len(lines) - fitting(lines[::-1], _ROOM) :]
        of = f"{label(ref_of(obj))} in the log of {chosen.controller}"
        head = f"{of}: {len(shown)} of {counted(len(kept), 'line')}, last {since or 'of all'}"
        if not kept:
            what = "no error" if errors else "nothing"
            head = f"{of}: {what} in the last {since or 'of all'} (of {counted(looked, 'line')} read)"
        data = {"controller": chosen.controller, "lines": kept[len(kept) - len(shown) :], "total": len(kept)}
        return ToolOutput("\n".join([head, *shown, *notes]), data)

    async def _pods(self, controller: str) -> list[Obj]:
        deployment = next((d for d in await self._flux.controllers() if name_of(d) == controller), None)
        if deployment is None:
            raise NotFound(f"This cluster has no {controller}.", hint="flux_report shows the controllers there are.")
        labels = mapping(deployment, "spec", "selector", "matchLabels")
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        resource = await self._flux.resources.find("pods")
        where = namespace_of(deployment)
        page = await self._flux.resources.list_page(resource, where, label_selector=selector) if selector else None
        found: list[Obj] = list(page.body.get("items") or ()) if page else []
        if not found:
            raise NotFound(
                f"{controller} has no pods, so it reconciles nothing.", hint="flux_report shows its replicas."
            )
        return sorted(found, key=lambda pod: text(pod, "metadata", "creationTimestamp"), reverse=True)

    async def _log(self, pod: Obj, back: int) -> list[str]:
        said = await self._flux.cluster.logs(namespace_of(pod), name_of(pod), "manager", tail=_READ, since=back)
        return said.removesuffix("\n").split("\n") if said else []


def _about(line: str, obj: Obj) -> dict[str, Any] | None:
    """A line of a controller's JSON log, where it is about `obj`; None for any other."""
    if name_of(obj) not in line:
        return None
    stamp, _, rest = line.partition(" ")
    try:
        entry = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, Mapping) or not _names(entry, obj):
        return None
    more = {k: v for k, v in entry.items() if k not in _NOT_TOLD and k != ref_of(obj)[0] and isinstance(v, (str, int))}
    changed = {k: v for k, v in mapping(entry, "output").items() if v != "unchanged"}
    more |= {"output": ", ".join(f"{k} {v}" for k, v in changed.items())} if changed else {}
    return {
        "time": text(entry, "ts") or f"{stamp[:19]}Z",
        "level": text(entry, "level"),
        "message": one_line(text(entry, "msg"), _LINE),
        "error": one_line(text(entry, "error"), _LINE),
        "more": {one_line(str(k), 60): one_line(str(v), 200) for k, v in list(more.items())[:6]},
    }


def _names(entry: Mapping[str, Any], obj: Obj) -> bool:
    """Whether it is of this object: controller-runtime names the kind, and the object under its kind and at the top."""
    kind, namespace, name = ref_of(obj)
    if text(entry, "controllerKind") != kind and kind not in entry:
        return False
    of = mapping(entry, kind) or entry
    return (text(of, "name"), text(of, "namespace")) == (name, namespace)


def _line(one: Mapping[str, Any]) -> str:
    parts = [one_line(f"{one['time']} {one['level']} {one['message']}", _LINE + 80)]
    parts += [str(one["error"])] if one["error"] else []
    more = " ".join(f"{key}={value}" for key, value in one["more"].items())
    return ": ".join(parts) + (f" ({more})" if more else "")
