"""How the one vocabulary of events is spelt on the A2A wire, both ways.

Text goes out as the artifact `answer`. Everything else rides on a `working` status update, in its metadata under
the URI below, where clients that don't know it pass over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from a2a.types import (
    Artifact,
    Message,
    Part,
    Role,
    StreamResponse,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from pydantic import ValidationError

from opswarm.agent.events import EVENT, Event, Failed, Finished, TextDelta

EVENTS_URI = "https://opswarm.dev/a2a/events/v1"
"""The A2A extension that carries tool, delegation and usage events; `docs/a2a.md` describes it."""

APPROVALS_URI = "https://opswarm.dev/a2a/approvals/v1"
"""The A2A extension for approvals: in the metadata of an `input-required` update what waits, in that of a message to
the task its answers, as `{"answers": [{"id", "approve", "reason"}]}`."""

AGENT_KEY = "opswarm/agent"
"""In a request's metadata: the agent that the request is for."""

MODEL_KEY = "opswarm/model"
"""In a request's metadata: the tier or LiteLLM name of the model that is to answer it."""

HISTORY_KEY = "opswarm/history"
"""In a request's metadata: the conversation before it, where the caller keeps it, as `{role, content}` objects."""

MODEL_ASKS_KEY = "opswarm/model_asks"
"""In a request's metadata, set by a door of ours: a model wrote the text, so it can't be a person's answer."""

MOST_HISTORY = 24
"""Messages of such a conversation that are read, the newest."""

ANSWER = "answer"

WAITS = "The agent waits for an answer."
"""Noted at the end of a stream whose task is not at its end."""

CODE_KEY = f"{EVENTS_URI}/code"
"""In the metadata of a failed task and of its last update: the error's code."""


def text_update(task_id: str, context_id: str, text: str, *, first: bool) -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(
        task_id=task_id,
        context_id=context_id,
        artifact=Artifact(artifact_id=ANSWER, name=ANSWER, parts=[Part(text=text)]),
        append=not first,
    )


def state_update(
    task_id: str, context_id: str, state: TaskState, text: str, metadata: Mapping[str, Any], nanoseconds: int
) -> TaskStatusUpdateEvent:
    """A state, since `nanoseconds` after 1970, with a sentence for a person where `text` is given."""
    update = TaskStatusUpdateEvent(task_id=task_id, context_id=context_id, status=TaskStatus(state=state))
    update.status.timestamp.FromNanoseconds(nanoseconds)
    if text:
        message = Message(
            message_id=f"{task_id}-{TaskState.Name(state).lower()}",
            task_id=task_id,
            context_id=context_id,
            role=Role.ROLE_AGENT,
            parts=[Part(text=text)],
        )
        update.status.message.CopyFrom(message)
    if metadata:
        update.metadata.update(metadata)
    return update


class Reader:
    """Reads the frames of one request to any A2A agent as events.

    Of an agent that does not know the extension, text and end are understood.
    """

    def __init__(self, *, resumed: bool = False) -> None:
        """With `resumed` the request goes on with a task: what it had said before is not said again."""
        self._artifact: str | None = None
        self._resumed = resumed

    def read(self, frame: StreamResponse) -> list[Event]:
        """The events that a frame carries; none for frames that only say that work goes on."""
        match frame.WhichOneof("payload"):
            case "artifact_update":
                return self._artifacts([frame.artifact_update.artifact])
            case "message":
                return [*_said(_text(frame.message.parts)), Finished()]
            case "status_update":
                update = frame.status_update
                return _status(update.status, MessageToDict(update.metadata))
            case "task":
                # Artifacts that were streamed already come again in a task that ends; they are not said twice.
                news = self._artifacts(frame.task.artifacts) if self._artifact is None else []
                if self._resumed and frame.task.status.state == TaskState.TASK_STATE_WORKING:
                    news = []
                return [*news, *_status(frame.task.status, MessageToDict(frame.task.metadata))]
        return []

    def read_json(self, frame: Mapping[str, Any]) -> list[Event]:
        """The same of a frame as JSON. Text and what happens on the way, which is most of it, take a short way.

        Raises `google.protobuf.json_format.ParseError` for what is no frame.
        """
        match frame:
            case {"artifactUpdate": {"artifact": {"artifactId": str(name), "parts": [{"text": str(text), **more}]}}}:
                if text and not more:
                    return [self._text(name, text)]
            case {"statusUpdate": {"status": {"state": "TASK_STATE_WORKING", **rest}, "metadata": dict(metadata)}} if (
                "message" not in rest
            ):
                return _event(metadata.get(EVENTS_URI))
        return self.read(ParseDict(frame, StreamResponse(), ignore_unknown_fields=True))

    def _text(self, artifact: str, text: str) -> TextDelta:
        apart = self._artifact is not None and self._artifact != artifact
        self._artifact = artifact
        return TextDelta(text=f"\n\n{text}" if apart else text)

    def _artifacts(self, artifacts: Iterable[Artifact]) -> list[Event]:
        events: list[Event] = []
        for artifact in artifacts:
            if text := _text(artifact.parts):
                events.append(self._text(artifact.artifact_id, text))
        return events


def _status(status: TaskStatus, metadata: dict[str, Any]) -> list[Event]:
    said = _text(status.message.parts)
    match status.state:
        case TaskState.TASK_STATE_COMPLETED:
            return [Finished(notice=said)]
        case TaskState.TASK_STATE_FAILED:
            code = str(metadata.get(CODE_KEY) or "internal")
            return [Failed(code=code, message=said or "The agent failed without saying why.")]
        case TaskState.TASK_STATE_CANCELED:
            return [Failed(code="canceled", message=said or "The task was canceled.")]
        case TaskState.TASK_STATE_REJECTED:
            return [Failed(code="rejected", message=said or "The agent rejected the request.")]
        case TaskState.TASK_STATE_INPUT_REQUIRED:
            return [*(_event(metadata.get(EVENTS_URI)) or _said(said)), Finished(notice=WAITS)]
        case TaskState.TASK_STATE_AUTH_REQUIRED:
            return [Failed(code="auth_required", message=said or "The agent wants credentials that it was not given.")]
    return _event(metadata.get(EVENTS_URI))


def _event(carried: Any) -> list[Event]:
    if carried is None:
        return []
    try:
        return [EVENT.validate_python(carried)]
    except ValidationError:
        return []


def _said(text: str) -> list[Event]:
    return [TextDelta(text=text)] if text else []


def _text(parts: Any) -> str:
    return "".join(p.text for p in parts if p.HasField("text"))
