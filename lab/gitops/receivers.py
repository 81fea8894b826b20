"""notification-controller's receivers: a webhook that GitHub signed has the sources of a Receiver fetched at once."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lab.gitops.marks import REQUESTED, is_suspended, spec_of, status_of
from lab.objects import Obj, meta, namespace_of
from lab.registry import RESOURCES
from lab.store import Store
from lab.times import rfc3339, rfc3339_nano

RECEIVERS = "receivers.notification.toolkit.fluxcd.io"
_MOST_BYTES = 3 * 2**20


def receiver(name: str, namespace: str, token: str, resources: list[Obj], now: datetime) -> Obj:
    """A Receiver of GitHub's pushes, as its controller leaves it: the path of its hook is in its status."""
    path = f"/hook/{hashlib.sha256(f'{token}{name}{namespace}'.encode()).hexdigest()}"
    ready = {
        "type": "Ready", "status": "True", "observedGeneration": 1, "lastTransitionTime": rfc3339(now),
        "reason": "Succeeded", "message": f"Receiver initialized for path: {path}",
    }  # fmt: skip
    return {
        "apiVersion": "notification.toolkit.fluxcd.io/v1",
        "kind": "Receiver",
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": rfc3339(now)},
        "spec": {
            "type": "github", "events": ["ping", "push"], "secretRef": {"name": f"{name}-webhook"},
            "resources": resources,
        },
        "status": {"conditions": [ready], "observedGeneration": 1, "webhookPath": path},
    }  # fmt: skip


class Receivers:
    """The HTTP side of a cluster's receivers. `tokens` are what each hook path is signed with."""

    def __init__(self, store: Store, tokens: dict[str, str], clock: Callable[[], datetime]) -> None:
        self._store, self._tokens, self._clock = store, tokens, clock
        self.app = Starlette(routes=[Route("/hook/{id}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        path = request.url.path
        found = next((r for r in self._store.all(RECEIVERS) if status_of(r).get("webhookPath") == path), None)
        if found is None or path not in self._tokens or is_suspended(found):
            return PlainTextResponse("", 404)
        body = await request.body()
        signed = f"sha256={hmac.new(self._tokens[path].encode(), body, hashlib.sha256).hexdigest()}"
        given = request.headers.get("x-hub-signature-256", "")
        if len(body) > _MOST_BYTES or not hmac.compare_digest(signed, given):
            return PlainTextResponse("", 400)
        event = request.headers.get("x-github-event", "")
        try:
            json.loads(body)
        except ValueError:
            return PlainTextResponse("", 400)
        if event not in (spec_of(found).get("events") or [event]):
            return PlainTextResponse("", 400)
        for named in spec_of(found).get("resources") or ():
            self._request(named, namespace_of(found))
        return PlainTextResponse("", 200)

    def _request(self, named: Obj, home: str) -> None:
        resource = next(
            (r for r in RESOURCES if r.kind == named.get("kind") and r.group.endswith("toolkit.fluxcd.io")), None
        )
        obj = resource and self._store.get(resource.storage, named.get("namespace") or home, str(named.get("name")))
        if resource is not None and obj:
            marks = {**(meta(obj).get("annotations") or {}), REQUESTED: rfc3339_nano(self._clock())}
            self._store.replace(resource.storage, {**obj, "metadata": {**obj["metadata"], "annotations": marks}})
