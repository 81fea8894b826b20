"""The kill switch: one state with an epoch, kept where it outlives restarts and the database.

The orchestrator owns it (`services/orchestrator/control.py`), and every service follows it (`opswarm.guard.follower`).
What can't be read is unknown, and unknown means paused for actions. Only a store that is not there at all means that
nobody ever paused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from opswarm.errors import ControlUnknown, InvalidInput, PermissionDenied, SettingsInvalid, Unavailable
from opswarm.guard.keys import write_private
from opswarm.guard.principal import Principal
from opswarm.guard.standing import is_operator
from opswarm.guard.untrusted import clean

log = logging.getLogger(__name__)

MOST_REASON = 500
MOST_BYTES = 8_192
"""Of a state as it is kept or sent."""

_MOST_BY = 256
_READ_SECONDS = 2.0


class ControlState(BaseModel):
    """Whether actions are paused. `epoch` grows with each change; `at` is when it was made, in Unix seconds."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    epoch: int = Field(0, ge=0, le=2**62)
    paused: bool = False
    reason: str = Field("", max_length=MOST_REASON)
    by: str = Field("", max_length=_MOST_BY)
    at: float = Field(0.0, ge=0)

    @property
    def sentence(self) -> str:
        """What a person is told of it."""
        if not self.paused:
            return "Actions are not paused."
        return f"Actions are paused by {self.by or 'somebody'}: {self.reason or 'no reason was given'}."


NEVER_PAUSED = ControlState()


class ControlStore(Protocol):
    """Where the state is kept."""

    async def read(self) -> ControlState:
        """The state; `NEVER_PAUSED` where there is none yet.

        Raises `ControlUnknown` for what can't be understood, and `Unavailable` where nobody answers.
        """
        ...

    async def change(self, *, paused: bool, reason: str, by: str) -> ControlState:
        """Keeps a new state, whatever the old one is, and gives it. Raises `InvalidInput` for what is no reason and
        `Unavailable` when it is not kept."""
        ...

    async def aclose(self) -> None: ...


def read_state(raw: bytes | str) -> ControlState:
    """The state in a text. Raises `ControlUnknown`."""
    try:
        if len(raw) > MOST_BYTES:
            raise ValueError
        return ControlState.model_validate_json(raw)
    except ValueError:  # Pydantic's is one, too.
        raise ControlUnknown(
            "What says whether actions are paused can't be understood.",
            hint="`opswarm pause` or `opswarm resume` writes it anew.",
        ) from None


def plain_reason(reason: object) -> str:
    """A reason as it is kept: one line without invisible characters. Raises `InvalidInput` for what is no reason."""
    if not isinstance(reason, str):
        raise InvalidInput("The reason must be text.")
    plain = " ".join(clean(reason).split())
    if len(reason) > MOST_REASON or len(plain) > MOST_REASON:
        raise InvalidInput(f"The reason is longer than {MOST_REASON} characters.", hint="Say it shorter.")
    return plain


def changed(old: ControlState, *, paused: bool, reason: str, by: str, now: float) -> ControlState:
    """The state after `old`.

    The epoch is the time in milliseconds, or one more than the old one where that is more: it grows even over a store
    that was lost.
    """
    epoch = max(old.epoch + 1, int(now * 1_000))
    who = " ".join(clean(by).split())[:_MOST_BY]
    return ControlState(epoch=epoch, paused=paused, reason=plain_reason(reason), by=who, at=now)


def audited(state: ControlState) -> ControlState:
    """Tells the log what was kept."""
    verb = "paused" if state.paused else "resumed"
    log.warning("control: actions %s by %s, epoch %d: %s", verb, state.by, state.epoch, state.reason or "no reason")
    return state


def refuse_change(principal: Principal | None) -> None:
    """Raises `PermissionDenied` for whoever may not pause and resume: that is for people themselves."""
    if principal is None or not principal.is_direct_person:
        raise PermissionDenied(
            "Only a person who acts directly can pause or resume actions.", rule="control.person"
        )
    if not is_operator(principal):
        raise PermissionDenied(
            f"{principal.subject} may not pause or resume actions.",
            hint="That takes the role operator or admin.",
            rule="control.role",
        )


class FileControl:
    """The state in a file on this machine that only its owner can read."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._writing = threading.Lock()

    async def read(self) -> ControlState:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await asyncio.to_thread(self.read_now)
        except TimeoutError:
            raise ControlUnknown(f"The disk with {self.path} does not answer.") from None

    async def change(self, *, paused: bool, reason: str, by: str) -> ControlState:
        # Not cancelled with its caller: what was begun is finished, and told to the log.
        return await asyncio.to_thread(self.change_now, paused=paused, reason=reason, by=by)

    async def aclose(self) -> None:
        """There is nothing to close."""

    def read_now(self) -> ControlState:
        """As `read`, for a caller that may wait for the disk."""
        try:
            # Looked at first: a named pipe in its place would be waited on for ever.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ControlUnknown(f"{self.path} is no file.")
            with open(self.path, "rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            if os.path.lexists(self.path):
                raise ControlUnknown(f"{self.path} leads nowhere.") from None
            return NEVER_PAUSED
        except OSError as error:
            raise ControlUnknown(f"{self.path} can't be read: {error.strerror}.") from error
        return read_state(raw)

    def change_now(self, *, paused: bool, reason: str, by: str) -> ControlState:
        """As `change`, for a caller that may wait for the disk.

        Two processes that write at the same instant may give one epoch to two states; followers take that for unknown.
        """
        with self._writing:
            try:
                old = self.read_now()
            except ControlUnknown:
                old = NEVER_PAUSED
            state = changed(old, paused=paused, reason=reason, by=by, now=self._clock())
            try:
                write_private(self.path, state.model_dump_json().encode())
            except SettingsInvalid as error:
                raise Unavailable(error.message, hint=error.hint) from error
        return audited(state)
