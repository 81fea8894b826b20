"""The `flux_changes` tool: what differs between two revisions of what a Kustomization or HelmRelease applies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import Field

from mcp_servers.cluster.finding import one_line
from mcp_servers.flux.fields import Obj, Ref, address, ago, inventory, label, ref_of, rows, short, text, when, whole
from mcp_servers.flux.kinds import APPLIERS, kind_named
from mcp_servers.flux.reading import Kind, Name, Namespace, now
from mcp_servers.flux.snapshot import Flux, source_ref, unreadable
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp.text import cell, counted, fit_text
from opswarm.mcp.tools import ToolOutput

_ONE = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
_MOST_READ = 200
"""Objects of an inventory that are looked at."""

_AT_ONCE = 6
_MOST_SHOWN = 40
_MOST_KNOWN = 5
_NEVER_READ = frozenset({"Secret"})

Revision = Annotated[str, Field(description="Revision, sha, or release number; empty: the one before, and the newest.")]


@dataclass(frozen=True, slots=True)
class Applied:
    """A revision that an object has had. `began` and `ended` are when it was first and last reconciled."""

    revision: str
    began: str
    ended: str
    status: str

    def is_meant_by(self, asked: str) -> bool:
        return asked in (self.revision, short(self.revision)) or (
            len(asked) >= 6 and self.revision.rpartition(":")[2].startswith(asked.rpartition(":")[2])
        )


class Changes:
    """Comparing revisions in one cluster."""

    def __init__(self, flux: Flux, clock: Callable[[], datetime] = now) -> None:
        self._flux, self._clock = flux, clock

    async def flux_changes(
        self,
        kind: Kind,
        name: Name,
        namespace: Namespace = "",
        from_revision: Revision = "",
        to_revision: Revision = "",
    ) -> ToolOutput:
        """Compare two revisions of a Kustomization or HelmRelease: what was written, and where in Git to read it."""
        chosen = kind_named(kind)
        if chosen.kind not in APPLIERS:
            raise InvalidInput(f"A {chosen.kind} applies nothing.", hint="Ask for a Kustomization or HelmRelease.")
        obj = await self._flux.find(kind, name, namespace)
        if chosen.kind == "HelmRelease":
            return self._release(obj, from_revision.strip(), to_revision.strip())
        return await self._kustomization(obj, from_revision.strip(), to_revision.strip())

    # -- releases ----------------------------------------------------------------------------------------------

    def _release(self, obj: Obj, asked_from: str, asked_to: str) -> ToolOutput:
        known = rows(obj, "status", "history")
        told = label(ref_of(obj))
        if not known:
            raise NotFound(f"{told} has no history: it was never released.", hint="flux_get says why.")
        new = _one_release(known, asked_to, told) if asked_to else known[0]
        older = known[known.index(new) + 1 :]
        old = _one_release(known, asked_from, told) if asked_from else next(iter(older), None)
        at = self._clock()
        if old is None:
            only = f"{told} has only one release, {_version(new)}, deployed {_deployed(new, at)}: nothing to compare."
            return ToolOutput(only, {"from": None, "to": _release_data(new), "changed": {}})
        lines = [f"{told} from {_version(old)} to {_version(new)}, deployed {_deployed(new, at)}"]
        changed: dict[str, Any] = {}
        for what, field in (("chart", "chartName"), ("chart version", "chartVersion"), ("app version", "appVersion")):
            before, after = one_line(text(old, field)), one_line(text(new, field))
            if before != after:
                changed[what] = {"from": before, "to": after}
                lines.append(f"  {what} {before or '-'} -> {after or '-'}")
        if text(old, "configDigest") != text(new, "configDigest"):
            changed["values"] = True
            lines.append("  values changed (which ones, Git says: flux_owner names the file's repository and path)")
        if not changed:
            lines.append("  same chart, same versions, same values")
        lines.append(
            "releases: "
            + "; ".join(f"{_version(r)} {one_line(text(r, 'status'))} {_deployed(r, at)}" for r in known[:_MOST_KNOWN])
        )
        return ToolOutput("\n".join(lines), {"from": _release_data(old), "to": _release_data(new), "changed": changed})

    # -- kustomizations ----------------------------------------------------------------------------------------

    async def _kustomization(self, obj: Obj, asked_from: str, asked_to: str) -> ToolOutput:
        known = _applied(obj)
        told = label(ref_of(obj))
        if not known:
            raise NotFound(f"{told} has applied nothing yet.", hint="flux_get says why.")
        new = _one_applied(known, asked_to, told) if asked_to else known[0]
        older = known[known.index(new) + 1 :]
        old = _one_applied(known, asked_from, told) if asked_from else next(iter(older), None)
        at = self._clock()
        begin = when(old.ended) if old else None
        newer = next((one for one in reversed(known) if when(one.began) and _after(one, new)), None)
        end = when(newer.began) if newer else None
        written, notes, looked = await self._written(obj, begin, end)
        lines = [f"{told} {f'from {short(old.revision)} ' if old else ''}to {short(new.revision)}"]
        if new.began:
            lines[0] += f", {'applied' if 'Succeeded' in new.status else one_line(new.status)} {ago(new.began, at)} ago"
        if old is None:
            lines.append("  (Flux remembers no other resources of it than these; when each was last written is shown)")
        lines.append(f"wrote {len(written)} of {counted(looked, 'object')} that it applies:")
        lines += [f"  {label(ref)} {ago(stamp, at)} ago" for ref, stamp in written[:_MOST_SHOWN]]
        if len(written) > _MOST_SHOWN:
            lines.append(f"  and {len(written) - _MOST_SHOWN} more")
        if not written:
            lines[-1] = f"wrote none of {counted(looked, 'object')} that it applies"
        where = await self._in_git(obj, old, new)
        lines += [f"in Git: {where}"] if where else []
        lines.append("revisions: " + "; ".join(_told(one, at) for one in known[:_MOST_KNOWN]))
        data = {
            "from": old.revision if old else None, "to": new.revision, "compare": where,
            "written": [{"kind": k, "namespace": ns, "name": n, "at": stamp} for (k, ns, n), stamp in written],
            "looked_at": looked,
        }  # fmt: skip
        return ToolOutput(fit_text("\n".join([*lines, *notes]), "two revisions that are closer"), data)

    async def _written(
        self, obj: Obj, begin: datetime | None, end: datetime | None
    ) -> tuple[list[tuple[Ref, str]], list[str], int]:
        """The objects that kustomize-controller last wrote after `begin` and before `end`, newest first; what could not
        be looked at; and how many were."""
        all_of = list(inventory(obj))
        chosen = [one for one in all_of if one[0][0] not in _NEVER_READ][:_MOST_READ]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def read(ref: Ref, group: str) -> str:
            async with limit:
                kind, namespace, name = ref
                resource = await self._flux.resources.find(f"{kind}.{group}" if group else kind)
                found = (await self._flux.cluster.get(resource.path(namespace, name), accept=_ONE)).json()
                return _last_applied(found)

        results = await asyncio.gather(*(read(*one) for one in chosen), return_exceptions=True)
        written, gone, unread = [], [], []
        for (ref, _), result in zip(chosen, results, strict=True):
            if isinstance(result, NotFound):
                gone.append(label(ref))
            elif isinstance(result, BaseException):
                unread.append(f"{label(ref)}: {unreadable(result)}")
            elif (stamp := when(result)) and (begin is None or stamp > begin) and (end is None or stamp < end):
                written.append((ref, result))
        if unread and len(unread) == len(chosen):
            raise next(r for r in results if isinstance(r, OpswarmError))
        notes = [f"(not there any more: {', '.join(gone[:5])})"] if gone else []
        notes += [f"({len(unread)} could not be read; {unread[0]})"] if unread else []
        secrets = sum(ref[0] in _NEVER_READ for ref, _ in all_of)
        notes += [f"({counted(secrets, 'Secret')} not looked at)"] if secrets else []
        left = len(all_of) - secrets - len(chosen)
        notes += [f"(only {_MOST_READ} looked at, {left} left out)"] if left > 0 else []
        return sorted(written, key=lambda one: one[1], reverse=True), notes, len(chosen) - len(unread)

    async def _in_git(self, obj: Obj, old: Applied | None, new: Applied) -> str:
        """Where the difference can be read: a page of GitHub or the like, or the commits to compare."""
        reference = source_ref(obj)
        first = _sha(old.revision) if old else ""
        last = _sha(new.revision)
        if reference is None or not first or not last or first == last:
            return ""
        path = one_line(text(obj, "spec", "path").removeprefix("./").strip("/"), 200)
        below = f", path {path}" if path else ""
        try:
            source = await self._flux.find(reference[0], reference[2], reference[1])
        except OpswarmError as error:
            return f"{first[:8]}...{last[:8]}{below} ({label(reference)}: {unreadable(error)})"
        page = _page(address(text(source, "spec", "url")))
        if not page:
            return f"git diff {first[:12]} {last[:12]}{f' -- {path}' if path else ''}"
        return f"{page}/compare/{first}...{last}{below}"


def _applied(obj: Obj) -> list[Applied]:
    """The revisions that a Kustomization has had, newest first; of older versions of Flux only the last ones."""
    found = [
        Applied(
            text(one, "metadata", "revision"), text(one, "firstReconciled"), text(one, "lastReconciled"),
            text(one, "lastReconciledStatus"),
        )
        for one in rows(obj, "status", "history")
        if text(one, "metadata", "revision")
    ]  # fmt: skip
    if found:
        return sorted(found, key=lambda one: one.ended, reverse=True)
    last, tried = text(obj, "status", "lastAppliedRevision"), text(obj, "status", "lastAttemptedRevision")
    kept = [Applied(tried, "", "", "tried")] if tried and tried != last else []
    return [*kept, *([Applied(last, "", "", "ReconciliationSucceeded")] if last else [])]


def _one_applied(known: Sequence[Applied], asked: str, told: str) -> Applied:
    found = next((one for one in known if one.is_meant_by(asked)), None)
    if found is None:
        there = ", ".join(short(one.revision) for one in known[:_MOST_KNOWN])
        raise NotFound(f"{told} remembers no revision '{cell(asked)}'.", hint=f"It has: {there}.")
    return found


def _one_release(known: Sequence[Obj], asked: str, told: str) -> Obj:
    wanted = asked.removeprefix("v")
    fields = ("chartVersion", "appVersion")
    found = next((r for r in known if str(whole(r, "version")) == wanted), None) or next(
        (r for r in known if asked in [text(r, field) for field in fields]), None
    )
    if found is None:
        there = ", ".join(_version(one) for one in known[:_MOST_KNOWN])
        raise NotFound(f"{told} remembers no release '{cell(asked)}'.", hint=f"It has: {there}.")
    return found


def _after(one: Applied, other: Applied) -> bool:
    return one.began > other.began and one.revision != other.revision


def _last_applied(found: Obj) -> str:
    """When kustomize-controller last changed the object, as managedFields tell; an apply without effect leaves none."""
    stamps = [
        text(entry, "time")
        for entry in rows(found, "metadata", "managedFields")
        if text(entry, "manager") == "kustomize-controller" and not text(entry, "subresource")
    ]
    return max(stamps, default="")


def _sha(revision: str) -> str:
    """The commit of `main@sha1:5b1c7f0d…`; "" for what is none."""
    scheme, _, digest = revision.rpartition("@")[2].rpartition(":")
    return digest if scheme == "sha1" and digest.isalnum() else ""


def _page(url: str) -> str:
    """The web address of a repository on a host that has the path `compare`: GitHub, Gitea and Forgejo, GitLab."""
    parts = urlsplit(url if "://" in url else f"ssh://{url.replace(':', '/', 1)}")
    path = quote(parts.path.strip("/").removesuffix(".git"))
    if not parts.hostname or path.count("/") < 1:
        return ""
    return f"https://{parts.hostname}/{path}" + ("/-" if "gitlab" in parts.hostname else "")


def _told(one: Applied, at: datetime) -> str:
    if not one.began:
        return short(one.revision)
    how = "" if "Succeeded" in one.status else f" {one_line(one.status)}"
    return f"{short(one.revision)}{how} {ago(one.began, at)} ago"


def _version(release: Obj) -> str:
    return f"v{whole(release, 'version')}"


def _deployed(release: Obj, at: datetime) -> str:
    return f"{ago(text(release, 'lastDeployed') or text(release, 'firstDeployed'), at)} ago"


def _release_data(release: Obj) -> dict[str, Any]:
    names = ("chartName", "chartVersion", "appVersion", "configDigest", "lastDeployed", "status")
    return {"version": whole(release, "version"), **{name: text(release, name) for name in names}}
