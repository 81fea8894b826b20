"""A circuit breaker: a provider that keeps failing is left alone for a while, then tried by one call.

Libraries were looked at: purgatory counts a call that its client cancelled as a success, so that impatience would
keep a dead provider's circuit closed, and lets every waiting call through at once when the time is over; pybreaker
knows no asyncio streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opswarm.errors import ModelBusy, ModelFailed, ModelUnreachable


class Breaker:
    """The circuit of the provider `name`."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @contextmanager
    def call(self, seconds: float, most: int) -> Iterator[None]:
        """One call of the provider: how the block ends tells what there is to know of it. Raises as `enter` does."""
        self.enter(seconds)
        try:
            yield
        except (ModelBusy, ModelUnreachable):
            self.failed(most)
            raise
        except ModelFailed:
            self.succeeded()  # It answered, if only with a refusal.
            raise
        except BaseException:
            self.left()
            raise
        self.succeeded()

    def enter(self, seconds: float) -> None:
        """Raises `ModelUnreachable` while the provider is left alone, which is for `seconds`."""
        if self._opened is None:
            return
        left = self._opened + seconds - self._clock()
        if left > 0 or self._trying:
            raise ModelUnreachable(
                f"{self._name} failed {self._failures} times in a row and is left alone for a while.",
                hint=f"It is tried again in {max(1, round(left))} s.",
            )
        self._trying = True

    def succeeded(self) -> None:
        self._failures, self._opened, self._trying = 0, None, False

    def failed(self, most: int) -> None:
        """Opens the circuit at the `most`th failure in a row, and when the one call that tried it failed too."""
        self._failures += 1
        if self._trying or self._failures >= most:
            self._opened = self._clock()
        self._trying = False

    def left(self) -> None:
        """The call ended and told nothing of the provider, such as one whose client went away."""
        self._trying = False
