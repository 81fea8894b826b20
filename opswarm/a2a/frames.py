"""What a task tells whoever listens, one frame at a time, spelt once for all of them.

A frame is JSON as A2A 1.0 has it (ProtoJSON of `StreamResponse`) and the protobuf message of the same; the first is
built without the second, since that is what most of a streamed token used to cost. A test holds the two together.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from a2a.types import Message, Role, Task, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent
from google.protobuf.json_format import MessageToDict

from opswarm.a2a import wire
from opswarm.agent.events import ApprovalNeeded, Event, Failed, Finished, TextDelta

Update = Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent

_EXACT = 2**53
_ENCODER = json.JSONEncoder(allow_nan=False)


class Frame:
    """One frame. `event` is what it tells in the one vocabulary, or None for a mere change of state."""

    __slots__ = ("_json", "context_id", "event", "task_id")

    def __init__(self, task_id: str, context_id: str, event: Event | None = None) -> None:
        self.task_id = task_id
        self.context_id = context_id
        self.event = event
        self._json = ""

    def json(self) -> str:
        """ASCII, so that nothing in a text can end a line of the stream."""
        if not self._json:
            self._json = _ENCODER.encode(self._dict())
        return self._json

    def proto(self) -> Update:
        raise NotImplementedError

    def _dict(self) -> dict[str, Any]:
        raise NotImplementedError


class TaskFrame(Frame):
    """The task itself, as it is when the frame is made."""

    __slots__ = ("_task",)

    @property
    def task(self) -> Task:
        return self._task

    def __init__(self, task: Task) -> None:
        super().__init__(task.id, task.context_id)
        self._task = Task()
        self._task.CopyFrom(task)

    def proto(self) -> Task:
        return self._task

    def _dict(self) -> dict[str, Any]:
        return {"task": _fresh(self._task) or MessageToDict(self._task)}


class TextFrame(Frame):
    """More of the answer."""

    __slots__ = ("first", "text")

    def __init__(self, task_id: str, context_id: str, text: str, *, first: bool) -> None:
        super().__init__(task_id, context_id, TextDelta.model_construct(text=text))
        self.text = text
        self.first = first

    def proto(self) -> TaskArtifactUpdateEvent:
        return wire.text_update(self.task_id, self.context_id, self.text, first=self.first)

    def _dict(self) -> dict[str, Any]:
        artifact = {"artifactId": wire.ANSWER, "name": wire.ANSWER, "parts": [{"text": self.text}]}
        update: dict[str, Any] = {"taskId": self.task_id, "contextId": self.context_id, "artifact": artifact}
        if not self.first:
            update["append"] = True
        return {"artifactUpdate": update}


class StateFrame(Frame):
    """A state, with a sentence for a person where `text` is given."""

    __slots__ = ("metadata", "nanoseconds", "state", "text")

    def __init__(
        self,
        task_id: str,
        context_id: str,
        state: TaskState,
        event: Event | None = None,
        *,
        text: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(task_id, context_id, event)
        self.state = state
        self.text = whole(text)
        self.metadata = metadata or {}
        # Whole microseconds, as the SDKs send them.
        self.nanoseconds = time.time_ns() // 1000 * 1000

    @property
    def passing(self) -> bool:
        """Whether it only tells what happens on the way: an answer is whole without it."""
        return self.state == TaskState.TASK_STATE_WORKING and self.event is not None

    def proto(self) -> TaskStatusUpdateEvent:
        return wire.state_update(self.task_id, self.context_id, self.state, self.text, self.metadata, self.nanoseconds)

    def _dict(self) -> dict[str, Any]:
        name = TaskState.Name(self.state)
        status: dict[str, Any] = {"state": name}
        if self.text:
            status["message"] = {
                "messageId": f"{self.task_id}-{name.lower()}",
                "contextId": self.context_id,
                "taskId": self.task_id,
                "role": "ROLE_AGENT",
                "parts": [{"text": self.text}],
            }
        status["timestamp"] = stamp(self.nanoseconds)
        update: dict[str, Any] = {"taskId": self.task_id, "contextId": self.context_id, "status": status}
        if self.metadata:
            update["metadata"] = self.metadata
        return {"statusUpdate": update}


def event_frame(task_id: str, context_id: str, event: Event) -> StateFrame:
    """What happens on the way: it rides on the state of being at work."""
    return StateFrame(task_id, context_id, TaskState.TASK_STATE_WORKING, event, metadata=_carried(event))


def parked_frame(task_id: str, context_id: str, waits_for: ApprovalNeeded) -> StateFrame:
    """The last frame until the task is answered."""
    state, request = TaskState.TASK_STATE_INPUT_REQUIRED, {wire.APPROVALS_URI: plain(waits_for.model_dump())}
    return StateFrame(
        task_id, context_id, state, waits_for, text=waits_for.text(), metadata={**_carried(waits_for), **request}
    )


def end_of(task_id: str, context_id: str, outcome: Finished | Failed) -> StateFrame:
    """The last frame of a turn that ended by itself."""
    if isinstance(outcome, Failed):
        code = {wire.CODE_KEY: outcome.code}
        state = TaskState.TASK_STATE_FAILED
        return StateFrame(task_id, context_id, state, outcome, text=outcome.message, metadata=code)
    return StateFrame(task_id, context_id, TaskState.TASK_STATE_COMPLETED, outcome, text=outcome.notice)


def told(frame: Frame) -> list[Event]:
    """What a frame tells in the one vocabulary, as `wire.Reader` reads it at the other end."""
    match frame:
        case TaskFrame():
            return []
        case StateFrame(state=TaskState.TASK_STATE_INPUT_REQUIRED, text=text, event=event):
            return [event or TextDelta(text=text), Finished(notice=wire.WAITS)]
        case Frame(event=event) if event is not None:
            return [event]
    return []


def stamp(nanoseconds: int) -> str:
    """A time as ProtoJSON spells it: with 0, 3, 6 or 9 digits after the second."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    start = _until_seconds(seconds)
    if rest == 0:
        return f"{start}Z"
    if rest % 1_000_000 == 0:
        return f"{start}.{rest // 1_000_000:03}Z"
    return f"{start}.{rest // 1000:06}Z" if rest % 1000 == 0 else f"{start}.{rest:09}Z"


@lru_cache(maxsize=4)
def _until_seconds(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def whole(text: str) -> str:
    """The text without half characters (lone surrogates), which neither UTF-8 nor protobuf holds."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()


def plain(value: Any) -> Any:
    """A JSON value that a protobuf struct holds as it is: no number that a double can't, no half character."""
    match value:
        case str():
            return whole(value)
        case bool() | None:
            return value
        case int() if abs(value) > _EXACT:
            return float(value) if abs(value) < 10**300 else str(value)[:64]
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {plain(str(k)): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
    return value


def _carried(event: Event) -> dict[str, Any]:
    return {wire.EVENTS_URI: plain(event.model_dump())}


def _fresh(task: Task) -> dict[str, Any] | None:
    """A task that has just begun with one message of text; None for any other."""
    if task.artifacts or len(task.history) != 1 or task.status.state != TaskState.TASK_STATE_SUBMITTED:
        return None
    said = _said(task.history[0])
    if said is None or task.metadata.fields or task.status.HasField("message") or task.status.HasField("timestamp"):
        return None
    return {"id": task.id, "contextId": task.context_id, "status": {"state": "TASK_STATE_SUBMITTED"}, "history": [said]}


def _said(message: Message) -> dict[str, Any] | None:
    parts = []
    for part in message.parts:
        if not part.HasField("text") or part.metadata.fields or part.filename or part.media_type:
            return None
        parts.append({"text": part.text})
    if message.metadata.fields or message.extensions or message.reference_task_ids:
        return None
    ids = {"messageId": message.message_id, "contextId": message.context_id, "taskId": message.task_id}
    return {**{k: v for k, v in ids.items() if v}, "role": Role.Name(message.role), "parts": parts}
