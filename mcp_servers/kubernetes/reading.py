"""Tools that list and get: any kind, and the everyday ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_servers.cluster.connection import JSON, TABLE
from mcp_servers.cluster.masking import shown
from mcp_servers.cluster.resources import Page, Resource, Resources
from mcp_servers.kubernetes import quantities
from mcp_servers.kubernetes.rendering import age, cell, fit_lines, fit_text, fitting, server_table, table, to_yaml
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp import arguments
from opswarm.mcp.tools import ToolOutput

Namespace = Annotated[str, Field(description="Namespace; empty for all.")]
Labels = Annotated[str, Field(description="Label selector, e.g. app=sonarr.")]
Fields = Annotated[str, Field(description="Field selector, e.g. status.phase=Running.")]
Limit = Annotated[int, Field(description="Most rows, 1 to 500.")]
Cursor = Annotated[str, Field(description="Where the last page said to continue.")]
Kind = Annotated[str, Field(description="Kind, plural or short name; CRDs too.")]
Output = Annotated[Literal["table", "yaml"], Field(description="table or yaml.")]

_NARROW = "namespace, label_selector, field_selector or limit"


class Reading:
    """Listing and getting, against one cluster."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def resources_list(
        self,
        kind: Kind,
        namespace: Namespace = "",
        label_selector: Labels = "",
        field_selector: Fields = "",
        limit: Limit = 50,
        cursor: Cursor = "",
        output: Output = "table",
    ) -> ToolOutput:
        """List objects of any kind as a table, or as YAML (Secret values masked)."""
        resource = await self._resources.find(kind)
        return await self._list(resource, namespace, label_selector, field_selector, limit, cursor, output)

    async def resources_get(
        self, kind: Kind, name: Annotated[str, Field(description="Exact name.")], namespace: Namespace = "",
        output: Output = "yaml",
    ) -> ToolOutput:  # fmt: skip
        """Get one object of any kind as YAML (Secret values masked) or as a table row."""
        resource = await self._resources.find(kind)
        arguments.name(name)
        where = arguments.namespace(namespace)
        if resource.namespaced and not where:
            where = await self._namespace_of(resource, name)
        if output == "table":
            selector = f"metadata.name={name}"
            row = await self._list(resource, where, "", selector, 1, "", "table")
            if not (row.data or {}).get("rows"):
                raise _no_such(resource, name, where)
            return row
        try:
            item = (await self._resources.cluster.get(resource.path(where, name))).json()
        except NotFound as error:
            # The API server says `pods "x" not found` in a namespace that does not exist, too.
            if where and resource.namespaced:
                await self._resources.check_namespace(where)
            raise _no_such(resource, name, where) from error
        safe = shown({**item, "kind": item.get("kind") or resource.kind})
        return ToolOutput(fit_text(to_yaml(safe), "asking for output=table"), _identity(safe))

    async def pods_list(
        self,
        namespace: Namespace = "",
        label_selector: Labels = "",
        field_selector: Fields = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> ToolOutput:
        """List pods with readiness, status, restarts and age."""
        resource = await self._resources.find("pods")
        return await self._list(resource, namespace, label_selector, field_selector, limit, cursor, "table")

    async def namespaces_list(self, limit: Limit = 100, cursor: Cursor = "") -> ToolOutput:
        """List namespaces."""
        resource = await self._resources.find("namespaces")
        return await self._list(resource, "", "", "", limit, cursor, "table")

    async def nodes_list(self, limit: Limit = 100, cursor: Cursor = "") -> ToolOutput:
        """List nodes: readiness, roles, version, conditions, and usage where metrics are served."""
        arguments.bounded(limit, 1, 500, "limit")
        resource = await self._resources.find("nodes")
        page = await self._resources.list_page(resource, limit=limit, cursor=cursor)
        usage, note = await self._node_usage()
        now = datetime.now(UTC)
        nodes = page.body.get("items") or ()
        header = ("NAME", "STATUS", "ROLES", "VERSION", "ARCH", "CPU", "MEMORY", "CONDITIONS", "AGE")
        text, fit = _paged(table(header, [_node_row(n, usage, now) for n in nodes]), "nodes", "limit", page)
        names = [n["metadata"]["name"] for n in nodes[:fit]]
        data = {"nodes": names, "cursor": page.cursor if fit == len(nodes) else ""}
        return ToolOutput(f"{text}\n{note}" if note else text, data)

    async def _node_usage(self) -> tuple[dict[str, dict[str, str]], str]:
        try:
            items = await self._resources.list_all("nodes.metrics.k8s.io")
        except NotFound:
            return {}, "(no usage: this cluster serves no metrics.k8s.io)"
        except OpswarmError as error:
            return {}, f"(no usage: {error})"
        return {i["metadata"]["name"]: dict(i.get("usage") or {}) for i in items}, ""

    async def _namespace_of(self, resource: Resource, name: str) -> str:
        page = await self._resources.list_page(resource, field_selector=f"metadata.name={name}", limit=10)
        homes = [str(i["metadata"].get("namespace", "")) for i in page.body.get("items") or ()]
        if not homes:
            raise NotFound(f"No {resource.kind} is named '{name}' in any namespace.", hint="`find` searches by word.")
        if len(homes) > 1:
            raise InvalidInput(
                f"{resource.kind} '{name}' is in several namespaces: {', '.join(homes)}.", hint="Name one."
            )
        return homes[0]

    async def _list(
        self, resource: Resource, namespace: str, labels: str, fields: str, limit: int, cursor: str, output: str
    ) -> ToolOutput:
        arguments.bounded(limit, 1, 500, "limit")
        where = arguments.namespace(namespace) if resource.namespaced else ""
        page = await self._resources.list_page(
            resource, where, label_selector=labels, field_selector=fields, limit=limit, cursor=cursor,
            accept=TABLE if output == "table" else JSON,
        )  # fmt: skip
        if where and not _count(page):
            await self._resources.check_namespace(where)
        scope = f" in namespace {where}" if where else ""
        if not _count(page):
            return ToolOutput(f"No {resource.plural} match{scope}.", {"items": [], "cursor": ""})
        if output == "yaml":
            return _as_yaml(resource, page)
        return self._as_table(resource, page, where)

    def _as_table(self, resource: Resource, page: Page, namespace: str) -> ToolOutput:
        spread = resource.namespaced and not namespace
        if page.body.get("kind") == "Table":
            header, rows = server_table(page.body, with_namespace=spread)
        else:
            header, rows = _plain_rows(page.body.get("items") or (), spread)
        text, fit = _paged(table(header, rows), resource.plural, _NARROW, page)
        cursor = page.cursor if fit == len(rows) else ""
        return ToolOutput(
            text, {"columns": header, "rows": [[cell(c) for c in r] for r in rows[:fit]], "cursor": cursor}
        )


def _as_yaml(resource: Resource, page: Page) -> ToolOutput:
    """The objects as text. The data names those that the text shows, be the last cut, and carries none again."""
    items = [shown({"kind": resource.kind, **i}) for i in page.body.get("items") or ()]
    documents = [to_yaml(i) for i in items]
    whole = "---\n".join(documents)
    text = fit_text(whole, f"{_NARROW}, or read page by page with a lower limit")
    if text == whole:
        return ToolOutput(text + _continuation(page), {"items": [_identity(i) for i in items], "cursor": page.cursor})
    begun = min(len(items), fitting(["---", *(d.removesuffix("\n") for d in documents)]) or 1)
    return ToolOutput(text, {"items": [_identity(i) for i in items[:begun]], "cursor": ""})


def _no_such(resource: Resource, name: str, namespace: str) -> NotFound:
    where = f" in namespace {namespace}" if namespace and resource.namespaced else ""
    return NotFound(f"No {resource.kind} is named '{name}'{where}.", hint="`find` searches by word.")


def _identity(item: Mapping[str, Any]) -> dict[str, str]:
    meta = item.get("metadata") or {}
    return {
        "kind": str(item.get("kind", "")),
        "namespace": str(meta.get("namespace", "")),
        "name": str(meta.get("name", "")),
    }


def _count(page: Page) -> int:
    return len(page.body.get("rows") or page.body.get("items") or ())


def _paged(lines: Sequence[str], what: str, advice: str, page: Page) -> tuple[str, int]:
    """A table with its header, within the cap, and where to continue; and how many of its rows that shows.

    A page of which only a part fits gets no cursor, which would skip the rest of it.
    """
    rows = len(lines) - 1
    total = rows + (page.remaining or 0)
    shown = fitting(lines) - 1
    if shown < rows:
        advice += f", or read page by page with limit={shown}"
        return fit_lines(lines, what, advice, head=1, total=total), shown
    return fit_lines(lines, what, advice, head=1, total=total) + _continuation(page), rows


def _continuation(page: Page) -> str:
    if not page.cursor:
        return ""
    more = f"{page.remaining} more" if page.remaining is not None else "more"
    return f"\n({more}; continue with cursor={page.cursor})"


def _plain_rows(items: Sequence[Any], spread: bool) -> tuple[list[str], list[list[str]]]:
    now = datetime.now(UTC)
    header = ["NAMESPACE"] if spread else []
    rows = []
    for item in items:
        meta = item.get("metadata") or {}
        row = [str(meta.get("namespace", ""))] if spread else []
        rows.append([*row, str(meta.get("name", "")), age(meta.get("creationTimestamp"), now)])
    return [*header, "NAME", "AGE"], rows


def _amount(quantity: str | None, write: Callable[[float], str]) -> str:
    return write(quantities.parse(quantity)) if quantity else "?"


def _node_row(node: Any, usage: dict[str, dict[str, str]], now: datetime) -> list[str]:
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    conditions = {c["type"]: c.get("status") for c in status.get("conditions") or ()}
    ready = {"True": "Ready", "False": "NotReady"}.get(str(conditions.get("Ready")), "Unknown")
    if spec.get("unschedulable"):
        ready += ",SchedulingDisabled"
    roles = [k.rpartition("/")[2] for k in meta.get("labels") or {} if k.startswith("node-role.kubernetes.io/")]
    raised = [k for k, v in conditions.items() if k != "Ready" and v == "True"]
    info = status.get("nodeInfo") or {}
    used, room = usage.get(meta["name"], {}), status.get("allocatable") or {}
    return [
        meta["name"],
        ready,
        ",".join(sorted(r for r in roles if r)) or "-",
        str(info.get("kubeletVersion", "?")),
        str(info.get("architecture", "?")),
        f"{_amount(used.get('cpu'), quantities.cores)} of {_amount(room.get('cpu'), quantities.cores)}",
        f"{_amount(used.get('memory'), quantities.mebibytes)} of {_amount(room.get('memory'), quantities.mebibytes)}",
        ",".join(raised) or "-",
        age(meta.get("creationTimestamp"), now),
    ]
