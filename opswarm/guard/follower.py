"""Following the kill switch: what every service asks before an action, and a turn before its next step.

```python
async with service_follower(settings, "kubernetes", Kind.SERVICE, url=orchestrator).following() as control:
    await control.check_action()      # raises PermissionDenied while paused, or while that can't be known
```

Of several sources (the orchestrator, and the file on the same machine) the strictest counts.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from opswarm.errors import ControlUnknown, OpswarmError, PermissionDenied, Unavailable
from opswarm.fetch import Fetcher, FetchFailed
from opswarm.guard.control import MOST_BYTES, ControlState, ControlStore, FileControl, read_state
from opswarm.guard.keys import ServiceToken
from opswarm.guard.principal import Kind
from opswarm.settings import Settings

log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0
"""Longest wait for one answer. A pause has to be known everywhere within a second."""

_ACTION_SECONDS = 1.0
"""How old a word on it may be for an action to begin: whoever is cut off from it may not go on for longer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source says, and how many seconds ago it was so."""

    state: ControlState
    age: float = 0.0


class Source(Protocol):
    """Where a follower looks. Raises `ControlUnknown` for what can't be trusted, another error for silence."""

    async def read(self) -> Reading: ...

    async def aclose(self) -> None: ...


class StoreSource:
    """The store itself, where this process can read it."""

    def __init__(self, store: ControlStore) -> None:
        self._store = store

    async def read(self) -> Reading:
        return Reading(await self._store.read())

    async def aclose(self) -> None:
        await self._store.aclose()


class OrchestratorSource:
    """`GET /control` of the orchestrator at `url`, with this service's own token, on one connection that is kept."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = f"{url.rstrip('/')}/control"
        self._token = token
        self._fetch = Fetcher(connect_seconds=_ASK_SECONDS)

    async def read(self) -> Reading:
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            async with self._fetch.post(self._url, b"", headers, silence=_ASK_SECONDS, method="GET") as answer:
                status, raw = answer.status, await answer.read(MOST_BYTES)
        except (FetchFailed, ValueError) as error:
            raise Unavailable("The orchestrator does not answer.") from error
        if status == 200:
            return Reading(read_state(raw), _age(raw))
        if _code(raw) == ControlUnknown.code:
            raise ControlUnknown("The orchestrator itself can't tell whether actions are paused.")
        raise Unavailable(f"The orchestrator answers HTTP {status}.")

    async def aclose(self) -> None:
        await self._fetch.aclose()


class _Age(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    age: float = Field(ge=0)


class _Error(BaseModel):
    code: str


class _Refusal(BaseModel):
    error: _Error


def _age(raw: bytes) -> float:
    try:
        return _Age.model_validate_json(raw).age
    except ValueError:
        raise ControlUnknown("The orchestrator does not say how old its word on a pause is.") from None


def _code(raw: bytes) -> str:
    try:
        return _Refusal.model_validate_json(raw).error.code
    except ValueError:
        return ""


class _Heard:
    """What one source said last, and whether that still counts."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self.source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._taken = -math.inf
        self.asked = -math.inf
        self.state: ControlState | None = None
        self.at = -math.inf
        self.trouble = ""
        self.silence = "Nothing was heard of it yet."

    async def ask(self, older_than: float) -> None:
        """Asks, unless that was done in the last `older_than` seconds."""
        async with self._lock:
            began = self._clock()
            if began - self.asked < older_than:
                return
            self.asked = began
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    reading = await self.source.read()
            except ControlUnknown as error:
                self._doubt(str(error))
            except OpswarmError as error:
                self.silence = str(error)
            except TimeoutError:
                self.silence = f"Nobody answered within {_ASK_SECONDS:.0f} s."
            else:
                self.take(reading, began)

    def take(self, reading: Reading, began: float) -> None:
        """Believes a reading that was begun at `began`, unless the state in it is older than one that was seen."""
        state, last = reading.state, self.state
        if last is not None and (state.epoch < last.epoch or (state.epoch == last.epoch and state != last)):
            if began >= self._taken:  # Else it was overtaken by a newer one, which is no wonder.
                self._doubt(f"It went back from epoch {last.epoch} to {state.epoch}.")
            return
        if last is None or state.epoch > last.epoch:
            log.info("control: epoch %d heard: %s", state.epoch, state.sentence)
        self.state, self.trouble, self.silence = state, "", ""
        self._taken = self._clock()
        self.at = began - reading.age

    def _doubt(self, why: str) -> None:
        if why != self.trouble:
            log.warning("control: unknown: %s", why)
        self.trouble = why

    def unknown(self, stale: float) -> str:
        """Why it can't be told whether actions are paused, or ""."""
        if self.trouble:
            return self.trouble
        if self.state is None:
            return self.silence
        silent = self._clock() - self.at
        return f"Nothing was heard of it for {silent:.0f} s. {self.silence}".strip() if silent > stale else ""


class Follower:
    """Knows whether actions are paused. It asks by itself in `following`, and whoever asks it after a silence waits
    for at most a second."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        refresh_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heard = [_Heard(source, clock) for source in sources]
        self._refresh = refresh_seconds
        self._stale = stale_seconds
        self._clock = clock

    async def check_action(self) -> None:
        """Raises `PermissionDenied` while actions are paused (`control.paused`) and while that can't be known
        (`control.unknown`)."""
        await self.look(self._refresh)
        if self._unknown():
            await self.look()  # It may have been restarted a moment ago.
        if (state := self._pause()) is not None:
            raise PermissionDenied(
                state.sentence, hint="An operator can resume them: `opswarm resume`.", rule="control.paused"
            )
        if why := self._unknown():
            raise PermissionDenied(
                f"Whether actions are paused can't be told, so they are. {why}",
                hint="Check the orchestrator, and `opswarm status`.",
                rule="control.unknown",
            )

    def paused(self) -> str:
        """Why a turn has to stop, or "" while no pause is known of."""
        state = self._pause()
        return state.sentence if state is not None else ""

    async def look(self, older_than: float = 0.0) -> None:
        """Asks every source that was not asked in the last `older_than` seconds."""
        await asyncio.gather(*(h.ask(older_than) for h in self._heard))

    def reading(self) -> Reading:
        """The strictest that is known. Raises `ControlUnknown`."""
        if why := self._unknown(self._stale):
            raise ControlUnknown(f"Whether actions are paused can't be told. {why}")
        states = [h.state for h in self._heard if h.state is not None]
        strictest = max(states, key=lambda s: (s.paused, s.epoch))
        return Reading(strictest, max(0.0, self._clock() - min(h.at for h in self._heard)))

    def note(self, state: ControlState) -> None:
        """Takes note of what this process itself has just written."""
        for heard in self._heard:
            heard.take(Reading(state), self._clock())

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Follower]:
        """Looks now, and again and again for the length of the block; closes the sources at its end."""
        task = asyncio.create_task(self._follow())
        try:
            await self.look(self._refresh)
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.aclose()

    async def aclose(self) -> None:
        for heard in self._heard:
            await heard.source.aclose()

    async def _follow(self) -> None:
        while True:
            await self.look()
            # Not all at the same instant, and never later than was promised.
            await asyncio.sleep(self._refresh * random.uniform(0.8, 1.0))

    def _pause(self) -> ControlState | None:
        return next((h.state for h in self._heard if h.state is not None and h.state.paused), None)

    def _unknown(self, stale: float = _ACTION_SECONDS) -> str:
        whys = (h.unknown(stale) for h in self._heard)
        return next((why for why in whys if why), "" if self._heard else "Nothing says so.")


def control_store(settings: Settings) -> ControlStore:
    """Where the settings keep the pause. Raises `SettingsInvalid` for a ConfigMap outside of a cluster."""
    if settings.control.kind == "file":
        return FileControl(settings.control_file())
    from opswarm.guard.control_map import ConfigMapControl  # Here, as most processes have none.

    return ConfigMapControl(settings.control.namespace, settings.control.configmap)


def follower(settings: Settings, source: Source, *more: Source) -> Follower:
    """A follower of these sources, as closely as the settings say."""
    control = settings.control
    return Follower((source, *more), refresh_seconds=control.refresh_seconds, stale_seconds=control.stale_seconds)


def service_follower(settings: Settings, name: str, kind: Kind, *, url: str) -> Follower:
    """The kill switch as the service `name` follows it: at the orchestrator's `url`, and in the file on this machine.

    With no `url` the store itself is followed. Raises `SettingsInvalid` when there is an orchestrator, and nothing to
    prove oneself to it with.
    """
    sources: list[Source] = []
    if url:
        sources.append(OrchestratorSource(url, ServiceToken(settings, name, kind)))
    if not url or settings.control.kind == "file":
        sources.append(StoreSource(control_store(settings)))
    return follower(settings, *sources)
