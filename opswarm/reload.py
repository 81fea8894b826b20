"""Settings that follow their file while a service runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

from opswarm.errors import SettingsInvalid
from opswarm.settings import Settings, config_file, load

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class LiveSettings:
    """The settings a service was started with, of which the sections `follow` are read anew when the file changes.

    A file that can't be used changes nothing: what was read last stays in force, the log says so, and `trouble` says
    it for readiness. Calling it gives the settings of the moment.
    """

    def __init__(
        self,
        settings: Settings,
        follow: Sequence[str],
        *,
        read: Callable[[], Settings] = load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._follow = tuple(follow)
        self._read = read
        self._clock = clock
        self._seen = self._stamp()
        self._looked = clock()
        self.trouble = ""

    def __call__(self) -> Settings:
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                self._reload()
        return self._settings

    def _stamp(self) -> tuple[int, int, int]:
        """What tells one version of the file from another, and from none; a ConfigMap's are links to new files."""
        try:
            path = config_file()
            found = os.stat(path) if path is not None else None
        except (OSError, SettingsInvalid):
            found = None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else (0, 0, 0)

    def _reload(self) -> None:
        try:
            fresh = self._read()
        except SettingsInvalid as error:
            self.trouble = f"The changed settings are not used: {error}"
            log.error("%s", self.trouble)
            return
        self._settings = self._settings.updated({name: getattr(fresh, name) for name in self._follow})
        self.trouble = ""
        log.warning("the settings were read anew: %s", ", ".join(self._follow))
