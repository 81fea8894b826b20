"""One reader of a task's frames: it may be slow, and may leave; the work minds neither."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from opswarm.a2a.frames import Frame, StateFrame, TextFrame

MOST_WAITING = 256
"""Frames that wait for a reader as they are; past that, text is joined and the oldest news are left out."""

_NEWS_KEPT = 32


class Listener:
    """Frames in order. What waits stays bounded: it is never more than the answer and a few news."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def put(self, frame: Frame) -> None:
        self._frames.append(frame)
        if len(self._frames) > MOST_WAITING:
            self._frames = _shrunk(self._frames)
        self._wake()

    def end(self) -> None:
        """Says that no frame follows."""
        self._ended = True
        self._wake()

    async def next(self, seconds: float | None = None) -> Sequence[Frame] | None:
        """All frames that wait, at least one; none of them after `seconds` of silence; None at the end."""
        if not self._frames and not self._ended:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake) if seconds is not None else None
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        if not self._frames:
            return None if self._ended else ()
        found, self._frames = self._frames, deque()
        return found

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _shrunk(frames: deque[Frame]) -> deque[Frame]:
    """The same with neighbouring texts joined, and without the oldest news."""
    spare = sum(isinstance(f, StateFrame) and f.passing for f in frames) - _NEWS_KEPT
    kept: deque[Frame] = deque()
    for frame in frames:
        last = kept[-1] if kept else None
        if spare > 0 and isinstance(frame, StateFrame) and frame.passing:
            spare -= 1
        elif isinstance(frame, TextFrame) and isinstance(last, TextFrame):
            kept[-1] = TextFrame(last.task_id, last.context_id, last.text + frame.text, first=last.first)
        else:
            kept.append(frame)
    return kept
