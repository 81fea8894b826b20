"""One task at work: what it has said so far, and who listens."""

from __future__ import annotations

import asyncio

from a2a.types import Artifact, Part, Task

from opswarm.a2a import wire
from opswarm.a2a.frames import Frame, StateFrame, TaskFrame, TextFrame, event_frame, whole
from opswarm.a2a.listener import Listener
from opswarm.agent.events import Event, TextDelta
from opswarm.store.tasks import answer_of

WINDOW_SECONDS = 0.02
"""For how long text is held back to be joined with what follows: below what a reader notices, above the gap between
a model's tokens (the performance guide allows 25 ms). The first text of a turn never is."""


class Work:
    """A task while it is worked on. Its `task` is current but for the answer: `snapshot` has that too."""

    def __init__(self, task: Task, owner: str, *, window: float = WINDOW_SECONDS, resumed: bool = False) -> None:
        self.task = task
        self.owner = owner
        self.resumed = resumed
        self.begun: asyncio.Future[Task | None] = asyncio.get_running_loop().create_future()
        """Done when the task is stored; the result is an older task that the same message began, or None."""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the task has ended or is parked, and that is stored."""
        self.running: asyncio.Task[None] | None = None
        self.stays = False
        """Whether it could not go on: it stays in the store as it waits."""
        self._window = window
        self._listeners: set[Listener] = set()
        self._said = [answer] if (answer := answer_of(task)) else []
        self._held: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._spoke = False
        self._last: StateFrame | None = None

    @property
    def settling(self) -> bool:
        """Whether it is decided how the task ends; nothing changes that any more."""
        return self._last is not None

    def listen(self, *, from_now: bool = True) -> Listener:
        """A reader of what comes. With `from_now` the task as it is comes first."""
        listener = Listener()
        if from_now:
            self._flush()
            listener.put(TaskFrame(self.snapshot()))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def take(self, event: Event) -> None:
        """Tells an event of the turn, other than its end. Text that follows closely goes together."""
        if self._last is not None:
            return
        if not isinstance(event, TextDelta):
            self._flush()
            self.tell(event_frame(self.task.id, self.task.context_id, event))
        elif not self._spoke:
            self._spoke = True
            self._say(event.text)
        else:
            self._held.append(event.text)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._window, self._flush)

    def tell(self, frame: Frame) -> None:
        """Gives a frame to all who listen. A state in it is the task's from now on."""
        if isinstance(frame, StateFrame):
            _set(self.task, frame)
        for listener in self._listeners:
            listener.put(frame)

    def decide(self, last: StateFrame) -> None:
        """Puts down how the task ends: the answer so far is in the task, and nothing is taken any more."""
        self._flush()
        self._last = last
        _write(self.task, self._said)
        _set(self.task, last)
        self.task.ClearField("metadata")
        if last.metadata:
            self.task.metadata.update(last.metadata)

    def finish(self) -> None:
        """Tells the end to all who listen, once it is stored."""
        if self._last is not None:
            self.tell(self._last)
        for listener in self._listeners:
            listener.end()
        if not self.settled.done():
            self.settled.set_result(None)

    def snapshot(self) -> Task:
        """The task as it is now."""
        task = Task()
        task.CopyFrom(self.task)
        _write(task, self._said)
        return task

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            held, self._held = "".join(self._held), []
            self._say(held)

    def _say(self, text: str) -> None:
        text = whole(text)
        first = not self._said
        self._said.append(text)
        self.tell(TextFrame(self.task.id, self.task.context_id, text, first=first))


def _write(task: Task, said: list[str]) -> None:
    if said:
        del task.artifacts[:]
        task.artifacts.append(Artifact(artifact_id=wire.ANSWER, name=wire.ANSWER, parts=[Part(text="".join(said))]))


def _set(task: Task, frame: StateFrame) -> None:
    if frame.text:
        task.status.CopyFrom(frame.proto().status)
        return
    task.status.Clear()
    task.status.state = frame.state
    task.status.timestamp.FromNanoseconds(frame.nanoseconds)
