"""The kill switch's state in a ConfigMap, written by compare-and-swap over its resourceVersion."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from opswarm import incluster
from opswarm.errors import ControlUnknown, SettingsInvalid, Unavailable
from opswarm.guard.control import NEVER_PAUSED, ControlState, audited, changed, read_state

KEY = "state"

_MOST_BYTES = 1_048_576
_TRIES = 5
_SECONDS = 3.0


class ConfigMapControl:
    """The state under the key `state` of a ConfigMap. What else is in it stays as it is.

    The account needs get, update and (unless the ConfigMap is there from the start) create.
    """

    def __init__(
        self,
        namespace: str,
        name: str,
        *,
        api: str = "",
        token_file: Path = incluster.ACCOUNT / "token",
        ca_file: Path | None = incluster.ACCOUNT / "ca.crt",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`namespace` and `api` are the pod's own where they are "". Raises `SettingsInvalid` outside of a pod."""
        space = namespace or incluster.own_namespace()
        self._folder = f"{api or incluster.api_url()}/api/v1/namespaces/{space}/configmaps"
        self._name = name
        self._where = f"{space}/{name}"
        self._space = space
        self._token_file = token_file
        self._clock = clock
        self._http = incluster.client(ca_file, most=_MOST_BYTES)

    async def read(self) -> ControlState:
        return _state(await self._get())

    async def change(self, *, paused: bool, reason: str, by: str) -> ControlState:
        for _ in range(_TRIES):
            there = await self._get()
            try:
                old = _state(there)
            except ControlUnknown:
                old = NEVER_PAUSED
            state = changed(old, paused=paused, reason=reason, by=by, now=self._clock())
            if await self._put(there, state):
                return audited(state)
        raise Unavailable(f"The ConfigMap {self._where} changes too often to be written.", hint="Try again.")

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _get(self) -> dict[str, Any] | None:
        """The ConfigMap, or None where there is none."""
        response = await self._ask("GET", f"{self._folder}/{self._name}")
        if _is_missing(response):
            return None
        return self._map(response)

    async def _put(self, there: dict[str, Any] | None, state: ControlState) -> bool:
        """Writes over what is `there`; False where something else is there by now."""
        text = state.model_dump_json()
        if there is None:
            fresh = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": self._name, "namespace": self._space},
                "data": {KEY: text},
            }
            response = await self._ask("POST", self._folder, fresh)
        else:
            data = there.get("data")
            kept = data if isinstance(data, dict) else {}
            response = await self._ask("PUT", f"{self._folder}/{self._name}", {**there, "data": {**kept, KEY: text}})
        if response.status_code == 409 or (there is not None and _is_missing(response)):
            return False
        self._map(response)
        return True

    def _map(self, response: httpx.Response) -> dict[str, Any]:
        """The ConfigMap in an answer. Without a resourceVersion a write would not notice another one."""
        body: Any = None
        if response.status_code in (200, 201):
            try:
                body = response.json()
            except ValueError:
                body = None
        metadata = body.get("metadata") if isinstance(body, dict) else None
        if not isinstance(metadata, dict) or not metadata.get("resourceVersion") or metadata.get("name") != self._name:
            hint = "Its account needs get, update and create on it." if response.status_code in (401, 403) else ""
            raise Unavailable(
                f"The API server answers HTTP {response.status_code} for the ConfigMap {self._where}.", hint=hint
            )
        assert isinstance(body, dict)
        return body

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {incluster.read_small(self._token_file)}"}
            async with asyncio.timeout(_SECONDS):
                return await self._http.request(method, url, json=body, headers=headers)
        except SettingsInvalid as error:
            raise Unavailable(error.message) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable("The API server does not answer, which keeps the pause.") from error


def _state(there: dict[str, Any] | None) -> ControlState:
    data = there.get("data") if there is not None else None
    if data is None:
        return NEVER_PAUSED
    if not isinstance(data, dict):
        raise ControlUnknown("What the ConfigMap says of a pause can't be understood.")
    return read_state(str(data[KEY])) if KEY in data else NEVER_PAUSED


def _is_missing(response: httpx.Response) -> bool:
    """Whether it is the API server that says so: a 404 of anything else says nothing of a pause."""
    if response.status_code != 404:
        return False
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("kind") == "Status" and body.get("reason") == "NotFound"
