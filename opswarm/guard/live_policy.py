"""The policy in force: its file, followed while a tool server runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from opswarm.errors import PolicyInvalid, Unavailable
from opswarm.guard.policy import DEFAULT, Policy
from opswarm.guard.policy_file import policy_path, read_policy
from opswarm.reload import LiveFile
from opswarm.settings import Settings

log = logging.getLogger(__name__)


class LivePolicy:
    """Calling it gives the policy of the moment. A changed file counts within a second of the next call.

    Without a file at start the defaults count, until there is one. A file that is changed to something that can't be
    used, or that goes away, changes nothing: the policy that was read last stays, and `trouble` says so.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `PolicyInvalid` when there is a file that can't be used: what it forbids is not known."""
        self.path = path
        self._begun = False
        self._file = LiveFile("policy is", lambda: path, self._read, clock=clock)
        self._begun = True

    def __call__(self) -> Policy:
        return self._file()

    @property
    def trouble(self) -> str:
        """Why the file as it is now is not what counts, or ""."""
        self._file()
        return self._file.trouble

    async def check(self) -> None:
        """A readiness check. Raises `Unavailable` while there is trouble."""
        if trouble := self.trouble:
            raise Unavailable(trouble)

    def _read(self) -> Policy:
        # A link to nothing is a file that went away, not one that never was.
        if not self._begun and not os.path.lexists(self.path):
            log.info("there is no policy at %s: the defaults count", self.path)
            return DEFAULT
        return read_policy(self.path).policy


def live_policy(settings: Settings) -> LivePolicy:
    """The policy of this installation, followed. Raises `PolicyInvalid` when it can't be used, or when the settings
    name a file that is not there."""
    if settings.policy_file is not None and not settings.policy_file.exists():
        raise PolicyInvalid(
            f"policy_file names {settings.policy_file}, which is not there.",
            hint="Without policy_file, and without a file in OPSWARM_HOME, the defaults count.",
        )
    return LivePolicy(policy_path(settings))
