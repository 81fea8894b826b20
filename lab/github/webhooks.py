"""Webhooks: each event is signed as GitHub does, and delivered in order until it is taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from lab.github.state import Hook, Hub, Json, Pull, User

log = logging.getLogger(__name__)

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event, as it was sent. `status` is 0 where nobody answered."""

    id: str
    event: str
    body: bytes
    status: int


def signature(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class Webhooks:
    """Sends what happens in a hub to its hooks. As on GitHub, what fails is not sent again but can be redelivered."""

    def __init__(self, hub: Hub, http: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self.deliveries: list[Delivery] = []
        self._hub, self._http, self._loop = hub, http, loop
        self._waiting: asyncio.Queue[tuple[Hook, str, str, bytes]] = asyncio.Queue()
        hub.tell = self.tell

    def tell(self, event: str, payload: Mapping[str, object]) -> None:
        """Puts an event in line; may be called from any thread."""
        body = json.dumps(self._whole(dict(payload))).encode()
        for hook in self._hub.hooks:
            if not hook.events or event in hook.events:
                given = (hook, event, str(uuid.uuid4()), body)
                self._loop.call_soon_threadsafe(self._waiting.put_nowait, given)

    def _whole(self, payload: Json) -> Json:
        hub = self._hub
        owner = {"login": hub.owner, "type": "User"}
        repository = {"id": 1, "name": hub.name, "full_name": hub.full_name, "owner": owner, "default_branch": "main"}
        found = hub.issues.get(int(payload.get("number") or 0))
        if isinstance(found, Pull):
            payload["pull_request"] = {
                "number": found.number,
                "title": found.title,
                "state": found.state,
                "merged": found.merged,
                "draft": found.draft,
                "user": _user(found.user),
                "labels": [{"name": name} for name in found.labels],
                "head": {"ref": found.head, "sha": found.head_sha, "repo": {"full_name": hub.full_name}},
                "base": {"ref": found.base, "sha": found.base_sha, "repo": {"full_name": hub.full_name}},
            }
        return {**payload, "repository": repository, "sender": owner}

    async def run(self) -> None:
        """Delivers for ever; to be cancelled."""
        while True:
            await self._send(*await self._waiting.get())

    async def redeliver(self, delivery: Delivery, hook: Hook) -> None:
        await self._send(hook, delivery.event, delivery.id, delivery.body)

    async def _send(self, hook: Hook, event: str, id: str, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/lab",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": id,
            "X-Hub-Signature-256": signature(hook.secret, body),
        }
        try:
            status = (await self._http.post(hook.url, content=body, headers=headers, timeout=_SECONDS)).status_code
        except httpx.HTTPError as error:
            log.warning("the webhook %s was not taken: %s", event, type(error).__name__)
            status = 0
        self.deliveries.append(Delivery(id, event, body, status))


def _user(user: User) -> Json:
    return {"login": user.login, "type": user.kind}
