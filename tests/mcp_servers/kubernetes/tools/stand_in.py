"""A stand-in API server for what a healthy one never says: it knows pods and one log, or only how to fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.mcp_servers.kubernetes.tools.bench import Tools

Handler = Callable[[Request], Awaitable[Response]]


def kind(plural: str, singular: str, kind: str, *, namespaced: bool = True) -> dict[str, Any]:
    """An entry of aggregated discovery."""
    return {
        "resource": plural,
        "singularResource": singular,
        "responseKind": {"kind": kind},
        "scope": "Namespaced" if namespaced else "Cluster",
        "verbs": ["get", "list", "watch"],
    }


def discovery(*groups: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {"metadata": {"name": group}, "versions": [{"version": version, "resources": resources}]}
            for group, version, resources in groups
        ],
    }


def pod(name: str = "web", containers: tuple[str, ...] = ("app",), **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "annotations": more.pop("annotations", {})},
        "spec": {"containers": [{"name": c} for c in containers], **more.pop("spec", {})},
        "status": more.pop("status", {}),
    }


class StandIn:
    """Serves `objects` by path; `log` for every pod's log. Remembers the requests it saw."""

    def __init__(self, objects: dict[str, list[dict[str, Any]]] | None = None, log: str = "") -> None:
        self.objects = objects or {}
        self.log = log
        self.table: dict[str, Any] | None = None
        self.tools: Tools
        self.seen: list[Request] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        self.seen.append(request)
        path = request.url.path
        core = [kind("pods", "pod", "Pod"), kind("namespaces", "namespace", "Namespace", namespaced=False)]
        apps = [kind(p, k.lower(), k) for p, k in _APPS.items()]
        if path == "/api":
            return JSONResponse(discovery(("", "v1", core)))
        if path == "/apis":
            return JSONResponse(discovery(("apps", "v1", apps)))
        if path.endswith("/log"):
            lines = self.log.splitlines(keepends=True)
            text = "".join(lines[-int(request.query_params["tailLines"]) :])
            # The kubelet stops after limitBytes, counted from the oldest of the wanted lines.
            raw = text.encode()[: int(request.query_params.get("limitBytes", len(text) * 4))]
            return PlainTextResponse(raw)
        if self.table is not None:
            return JSONResponse(self.table)
        name = request.query_params.get("fieldSelector", "").removeprefix("metadata.name=")
        found = self.objects.get(path.rpartition("/")[2], [])
        items = [o for o in found if name in ("", o["metadata"]["name"])]
        return JSONResponse({"kind": "List", "metadata": {}, "items": items})


_APPS = {
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "replicasets": "ReplicaSet",
    "controllerrevisions": "ControllerRevision",
}


def always(answer: Handler) -> Starlette:
    """An app that gives every request the same answer."""
    return Starlette(routes=[Route("/{path:path}", answer)])


def hanging() -> Starlette:
    async def hang(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response()

    return always(hang)
