"""The HTTP API: each request authenticated, read, authorised and answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from lab import discovery, openapi, protobuf, reviews
from lab.access import Access, RbacUser, authorize, authorize_path
from lab.events import as_served
from lab.lists import Page, list_body, partial, partial_list, read_filter, read_page, typed
from lab.logs import choose_container, find_run, follow_log, read_log, read_log_query
from lab.metrics import Metrics
from lab.negotiation import JSON, Form, read_accept
from lab.objects import Obj, name_of
from lab.patches import APPLY
from lab.requests import ResourceRequest, read_request
from lab.simulation.cluster import Cluster
from lab.status import ApiError, bad_request, method_not_allowed
from lab.subresources import evict, scale_of, write_scale
from lab.tables import table
from lab.watches import Watch
from lab.writes import WriteOptions, Writer, read_write_options

_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")


def _json(body: Obj, code: int = 200, content_type: str = JSON) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), code, media_type=content_type)


@dataclass
class Api:
    """Answers requests from one cluster. `closing` ends every stream."""

    cluster: Cluster
    access: Access
    clock: Callable[[], datetime]
    closing: bool = False
    writer: Writer = field(init=False)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.writer = Writer(self.cluster.store, self.cluster.rng)
        self.metrics = Metrics(self.cluster.store, self.cluster.kubelets)

    async def handle(self, request: Request) -> Response:
        """The one entry: every error leaves as a Status."""
        try:
            return await self._answer(request)
        except ApiError as error:
            headers = {"WWW-Authenticate": 'Bearer realm="kubernetes"'} if error.code == 401 else None
            response = _json(error.status(), error.code)
            if headers:
                response.headers.update(headers)
            if error.code == 429:
                response.headers["Retry-After"] = "10"
            return response

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.rstrip("/") or "/"
        if path.startswith(_OPEN_PATHS):
            return self._public(path)
        user = self.access.authenticate(request.headers.get("authorization"))
        parts = [part for part in path.split("/") if part]
        if not parts or parts[0] not in ("api", "apis"):
            authorize_path(user, request.method.lower(), path)
            return self._other(path, request.headers.get("accept", ""))
        if len(parts) <= (2 if parts[0] == "api" else 3):
            return self._discover(request, parts)
        wanted = read_request(request.method, path, request.query_params)
        if "reviews" not in wanted.resource.plural:
            authorize(user, wanted)
        return await self._resource(request, wanted, user)

    def _public(self, path: str) -> Response:
        if path == "/version":
            return _json(discovery.SERVER_VERSION)
        return PlainTextResponse("ok")

    def _other(self, path: str, accept: str) -> Response:
        if path == "/openapi/v2" and openapi.V2_PROTOBUF in accept:
            return Response(openapi.v2_protobuf(), media_type=openapi.V2_PROTOBUF)
        if path == "/openapi/v2":
            return _json(openapi.v2())
        if path == "/openapi/v3":
            return _json(openapi.v3_index())
        if path.startswith("/openapi/v3/"):
            return _json(openapi.v3(path.removeprefix("/openapi/v3/")))
        if path == "/":
            return _json(
                {
                    "paths": [
                        "/api",
                        "/api/v1",
                        "/apis",
                        "/healthz",
                        "/livez",
                        "/openapi/v2",
                        "/openapi/v3",
                        "/readyz",
                        "/version",
                    ]
                }
            )
        return PlainTextResponse("404 page not found\n", 404)

    def _discover(self, request: Request, parts: list[str]) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        form = read_accept(request.headers.get("accept", ""))
        core = parts[0] == "api"
        if len(parts) == 1:
            if form.kind == "APIGroupDiscoveryList":
                return _json(discovery.aggregated(form.version, core=core), content_type=form.content_type)
            return _json(discovery.core_versions() if core else discovery.group_list())
        if core:
            return _json(discovery.resource_list("", parts[1]))
        return _json(
            discovery.group(parts[1]) if len(parts) == 2 else discovery.resource_list(parts[1], parts[2])
        )

    async def _resource(self, request: Request, wanted: ResourceRequest, user: RbacUser) -> Response:
        resource, now = wanted.resource, self.clock()
        if resource.plural.startswith("selfsubject"):
            body = await self._body(request)
            return _json(reviews.answer(user, resource.plural, body), 201)
        form = read_accept(request.headers.get("accept", ""))
        if resource.group == "metrics.k8s.io":
            return self._metrics(request, wanted, form, now)
        if wanted.subresource == "log":
            return self._log(request, wanted, now)
        match wanted.verb:
            case "get":
                found = self.writer.get(resource, wanted.namespace, wanted.name)
                if wanted.subresource == "scale":
                    return _json(scale_of(found))
                return self._one(request, wanted, form, found)
            case "list":
                return self._list(request, wanted, form, now)
            case "watch":
                return self._watch(request, wanted, form)
            case _:
                return await self._write(request, wanted, user, form, now)

    def _one(
        self, request: Request, wanted: ResourceRequest, form: Form, found: Obj, code: int = 200
    ) -> Response:
        if found.get("kind") in ("Status", "Scale"):
            return _json(found, code)
        if form.kind == "Table":
            include = request.query_params.get("includeObject", "")
            version = {"resourceVersion": found["metadata"].get("resourceVersion", "")}
            return _json(table([found], wanted.resource, self.clock(), version, include=include), code)
        served = as_served(found, wanted.resource)
        return _json(
            partial(served) if form.kind.startswith("Partial") else typed(served, wanted.resource), code
        )

    def _list(self, request: Request, wanted: ResourceRequest, form: Form, now: datetime) -> Response:
        page = read_page(self.cluster.store, wanted, request.query_params)
        return self._page(request, wanted, form, page, now)

    def _page(
        self, request: Request, wanted: ResourceRequest, form: Form, page: Page, now: datetime
    ) -> Response:
        if form.kind == "Table":
            include = request.query_params.get("includeObject", "")
            return _json(table(page.items, wanted.resource, now, page.metadata(), include=include))
        if form.kind.startswith("Partial"):
            return _json(partial_list(page))
        return _json(list_body(page, wanted.resource))

    def _metrics(self, request: Request, wanted: ResourceRequest, form: Form, now: datetime) -> Response:
        self.metrics.require_server()
        if wanted.verb == "get":
            found = self.metrics.one(wanted.resource, wanted.namespace, wanted.name, now)
            return _json(typed(found, wanted.resource))
        chosen = read_filter(wanted, request.query_params)
        items = self.metrics.pods("", now) if wanted.resource.namespaced else self.metrics.nodes(now)
        kept = [item for item in items if chosen.matches(item)]
        body = list_body(Page(kept, self.cluster.store.revision, "", None), wanted.resource)
        body["metadata"] = {}
        return _json(body)

    def _log(self, request: Request, wanted: ResourceRequest, now: datetime) -> Response:
        if wanted.verb != "get":
            raise method_not_allowed()
        pod = self.writer.get(wanted.resource, wanted.namespace, wanted.name)
        query = read_log_query(request.query_params, now)
        container = choose_container(pod, request.query_params.get("container", ""))
        _, run = find_run(self.cluster.kubelets, pod, container, previous=query.previous)
        if query.follow:
            lines = follow_log(run, query, self.clock, lambda: self.closing)
            return StreamingResponse(lines, media_type="text/plain")
        return Response(read_log(run, query, now), media_type="text/plain")

    def _watch(self, request: Request, wanted: ResourceRequest, form: Form) -> Response:
        watch = Watch(
            self.cluster.store, wanted, request.query_params, form, self.clock, lambda: self.closing
        )
        lines: AsyncIterator[bytes] = watch.lines()
        return StreamingResponse(lines, media_type=form.content_type)

    async def _write(
        self, request: Request, wanted: ResourceRequest, user: RbacUser, form: Form, now: datetime
    ) -> Response:
        content_type = request.headers.get("content-type", "")
        media = content_type if wanted.verb == "patch" else ""
        options = read_write_options(request.query_params, request.headers.get("user-agent", ""), media)
        body = await self._body(request)
        if wanted.subresource == "eviction":
            if wanted.verb != "create":
                raise method_not_allowed()
            dry = options.dry or "All" in ((body.get("deleteOptions") or {}).get("dryRun") or [])
            return _json(
                evict(self.cluster.store, self.writer, wanted, body, WriteOptions(dry, options.manager), now), 201
            )
        if wanted.subresource == "scale":
            return _json(write_scale(self.writer, wanted, content_type, body, options, now))
        match wanted.verb:
            case "create":
                return self._one(request, wanted, form, self.writer.create(wanted, body, options, now), 201)
            case "update":
                return self._one(request, wanted, form, self.writer.update(wanted, body, options, now))
            case "patch" if options.apply and not wanted.subresource:
                if self.cluster.store.get(wanted.resource.storage, wanted.namespace, wanted.name) is None:
                    authorize(user, replace(wanted, verb="create"))
                made, new = self.writer.apply(wanted, body, options, now)
                return self._one(request, wanted, form, made, 201 if new else 200)
            case "patch":
                changed = self.writer.patch(wanted, content_type, body, options, now)
                return self._one(request, wanted, form, changed)
        dry = options.dry or "All" in (body.get("dryRun") or [])
        grace = request.query_params.get("gracePeriodSeconds")
        body = {**body, **({"gracePeriodSeconds": int(grace)} if grace and grace.isdigit() else {})}
        if policy := request.query_params.get("propagationPolicy"):
            body["propagationPolicy"] = policy
        options = WriteOptions(dry, options.manager)
        if wanted.verb == "delete":
            return self._one(request, wanted, Form(), self.writer.delete(wanted, body, options, now))
        return self._delete_all(request, wanted, body, options, now)

    def _delete_all(
        self, request: Request, wanted: ResourceRequest, body: Obj, options: WriteOptions, now: datetime
    ) -> Response:
        page = read_page(self.cluster.store, wanted, request.query_params)
        for obj in page.items:
            namespace = obj["metadata"].get("namespace", "")
            one = ResourceRequest("delete", wanted.resource, namespace, name_of(obj), "")
            self.writer.delete(one, body, options, now)
        return _json(list_body(page, wanted.resource))

    async def _body(self, request: Request) -> Any:
        """The decoded body: JSON, or YAML where it says so. Raises 400 and 415."""
        raw = await request.body()
        media = request.headers.get("content-type", JSON).split(";")[0].strip()
        if not raw:
            return {}
        if media == protobuf.MEDIA:
            return protobuf.decode(raw)
        try:
            found = yaml.safe_load(raw) if media in ("application/yaml", APPLY) else json.loads(raw)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(
                f"the object provided is unrecognized (must be of type json): {error}"
            ) from None
        if not isinstance(found, dict | list):
            raise bad_request("the body of the request must be an object")
        return found
