"""Who is there: the agents of the settings, by the cards they serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from opswarm.a2a.client import RemoteAgent
from opswarm.errors import AgentDown, NotFound, SettingsInvalid
from opswarm.fetch import Fetcher
from opswarm.guard.untrusted import cap_bytes, clean
from opswarm.settings import OutsideAgent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent as last seen. `agent` is None while it is dead, and `error` says why. `seen` is Unix seconds."""

    name: str
    url: str
    agent: RemoteAgent | None = None
    error: str = "not looked at yet"
    seen: float | None = None

    def shown(self) -> dict[str, Any]:
        """The entry as JSON for people and programs."""
        card = self.agent.card if self.agent else None
        return {
            "name": self.name,
            "url": self.url,
            "state": "alive" if self.agent else "dead",
            "error": "" if self.agent else self.error,
            "seen": self.seen,
            "description": cap_bytes(clean(card.description), 400) if card else "",
            "skills": [{"id": s.id, "name": clean(s.name)} for s in card.skills] if card else [],
        }


class Directory:
    """The agents of this swarm, and those of others. `addresses` maps our agents' names to base URLs."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        http: httpx.AsyncClient,
        fetch: Fetcher,
        *,
        refresh_seconds: float,
        outside: Mapping[str, OutsideAgent] | None = None,
    ) -> None:
        self._http = http
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._outside = dict(outside or {})
        urls = {**addresses, **{name: agent.url for name, agent in self._outside.items()}}
        self._entries = {name: Entry(name, url) for name, url in urls.items()}
        self._watchers: list[Callable[[str], Awaitable[None]]] = []

    def names(self) -> list[str]:
        return list(self._entries)

    def outside(self, name: str) -> OutsideAgent | None:
        """What is set of the agent where it is another's; None for one of ours."""
        return self._outside.get(name)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def alive(self) -> list[RemoteAgent]:
        return [e.agent for e in self._entries.values() if e.agent is not None]

    async def get(self, name: str) -> RemoteAgent:
        """The agent of that name; one that was dead is looked for again first.

        Raises `NotFound` for a name that no agent has, `AgentDown` for one that does not answer.
        """
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(self._entries) or "none"
            raise NotFound(f"There is no agent '{cap_bytes(clean(name), 60)}'.", hint=f"The agents are: {known}.")
        if entry.agent is None:
            entry = await self._look(entry)
        if entry.agent is None:
            raise AgentDown(entry.error)
        return entry.agent

    async def refresh(self) -> None:
        """Looks at every agent's card now."""
        await asyncio.gather(*(self._look(e) for e in self.entries()))

    def lost(self, name: str) -> None:
        """Called when an agent stopped answering, so that nobody is sent there before it is seen again."""
        if entry := self._entries.get(name):
            self._entries[name] = Entry(name, entry.url, None, f"The {name} agent stopped answering.", entry.seen)

    @contextmanager
    def watched(self, watcher: Callable[[str], Awaitable[None]]) -> Iterator[None]:
        """Tells `watcher` the name of each agent that comes, goes, or changes its card, for the length of the block."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Refreshes in the background for the length of the block."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        delay = 0.2
        while True:
            await self.refresh()
            # Until everyone was seen once the looks are frequent: agents that start together find each other soon.
            delay = self._refresh_seconds if len(self.alive()) == len(self._entries) else min(delay * 2, 10.0)
            await asyncio.sleep(min(delay, self._refresh_seconds))

    async def _look(self, entry: Entry) -> Entry:
        try:
            outside = self._outside.get(entry.name)
            if outside is None:
                agent = await RemoteAgent.connect(entry.name, entry.url, self._http, self._fetch)
            else:
                agent = await RemoteAgent.connect(entry.name, entry.url, self._http, token=outside.bearer())
            seen = Entry(entry.name, entry.url, agent, "", time.time())
        except (AgentDown, SettingsInvalid) as error:
            if entry.agent is not None:
                log.warning("agent %s is dead: %s", entry.name, error)
            seen = Entry(entry.name, entry.url, None, str(error), entry.seen)
        before = self._entries[entry.name]
        self._entries[entry.name] = seen
        if _known_by(before) != _known_by(seen):
            for watcher in self._watchers:
                await watcher(entry.name)
        return seen


def _known_by(entry: Entry) -> tuple[object, ...]:
    """What others would notice."""
    return (entry.agent is not None, entry.error, entry.agent.card.SerializeToString() if entry.agent else b"")
