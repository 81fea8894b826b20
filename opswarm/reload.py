"""Files that are followed while a service runs: the settings here, the policy in `opswarm.guard.live_policy`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from opswarm.errors import SettingsInvalid
from opswarm.settings import Settings, config_file, load

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0

T = TypeVar("T")


class LiveFile(Generic[T]):
    """What a file says, read anew when it changes. Calling it gives what counts at the moment.

    Looked at when it is asked for, at most once a second. A file that can't be used changes nothing: what was read last
    stays in force, the log says so once, and `trouble` says it for readiness.
    """

    def __init__(
        self,
        what: str,
        path: Callable[[], Path | None],
        read: Callable[[], T],
        *,
        value: T | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` is its name in a sentence. `read` raises `SettingsInvalid`; it is called at once unless there is a
        `value` already."""
        self._what = what
        self._path = path
        self._read = read
        self._clock = clock
        # In this order: what changes in between is seen at the next look.
        self._seen = self._stamp()
        self._looked = clock()
        self._value = read() if value is None else value
        self.trouble = ""

    def __call__(self) -> T:
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._reload()
        return self._value

    def _stamp(self) -> tuple[int, int, int, int]:
        """What tells one version of the file from another, and from none; a ConfigMap's are links to new files."""
        try:
            path = self._path()
            found = os.stat(path) if path is not None else None
        except (OSError, SettingsInvalid):
            found = None
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino) if found else (0, 0, 0, 0)

    def _reload(self) -> None:
        try:
            self._value = self._read()
        except SettingsInvalid as error:
            self.trouble = f"The changed {self._what} not used: {error}"
            log.error("%s", self.trouble)
            return
        self.trouble = ""
        log.warning("the %s read anew", self._what)


class LiveSettings:
    """The settings a service was started with, of which the sections `follow` are read anew when the file changes.

    Calling it gives the settings of the moment; `trouble` says why a changed file is not used, or is "".
    """

    def __init__(
        self,
        settings: Settings,
        follow: Sequence[str],
        *,
        read: Callable[[], Settings] = load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def fresh() -> Settings:
            found = read()
            return settings.updated({name: getattr(found, name) for name in follow})

        self._file = LiveFile("settings are", config_file, fresh, value=settings, clock=clock)

    def __call__(self) -> Settings:
        return self._file()

    @property
    def trouble(self) -> str:
        return self._file.trouble
