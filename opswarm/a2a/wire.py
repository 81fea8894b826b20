"""How the one vocabulary of events is spelt on the A2A wire, both ways.

Text goes out as the artifact `answer`. Everything else rides on a `working` status update, in its metadata under
the URI below, where clients that don't know it pass over it.
"""

from __future__ import annotations

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
from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError

from opswarm.agent.events import EVENT, Event, Failed, Finished, TextDelta

EVENTS_URI = "https://opswarm.dev/a2a/events/v1"
"""The A2A extension that carries tool, delegation and usage events; `docs/a2a.md` describes it."""

AGENT_KEY = "opswarm/agent"
"""In a request's metadata: the agent that the request is for."""

ANSWER = "answer"

_STATES = {
    TaskState.TASK_STATE_COMPLETED: "completed",
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_CANCELED: "canceled",
    TaskState.TASK_STATE_REJECTED: "rejected",
}


def text_update(task_id: str, context_id: str, text: str, *, first: bool) -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(
        task_id=task_id,
        context_id=context_id,
        artifact=Artifact(artifact_id=ANSWER, name=ANSWER, parts=[Part(text=text)]),
        append=not first,
    )


def event_update(task_id: str, context_id: str, event: Event) -> TaskStatusUpdateEvent:
    """An event other than text, `Finished` or `Failed`."""
    update = TaskStatusUpdateEvent(
        task_id=task_id, context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_WORKING)
    )
    update.status.timestamp.GetCurrentTime()
    update.metadata.update({EVENTS_URI: event.model_dump(mode="json")})
    return update


def state_update(
    task_id: str, context_id: str, state: TaskState, text: str = "", *, code: str = ""
) -> TaskStatusUpdateEvent:
    """A change of state, with a sentence for a person where `text` is given."""
    update = TaskStatusUpdateEvent(task_id=task_id, context_id=context_id, status=TaskStatus(state=state))
    update.status.timestamp.GetCurrentTime()
    if text:
        message = Message(
            message_id=f"{task_id}-{TaskState.Name(state).lower()}",
            task_id=task_id,
            context_id=context_id,
            role=Role.ROLE_AGENT,
            parts=[Part(text=text)],
        )
        update.status.message.CopyFrom(message)
    if code:
        update.metadata.update({f"{EVENTS_URI}/code": code})
    return update


def read(response: StreamResponse) -> Event | None:
    """The event that a frame carries; None for frames that only say that work goes on.

    Any A2A agent's frames can be read: of one that does not know the extension, text and end are understood.
    """
    match response.WhichOneof("payload"):
        case "artifact_update":
            text = _text(response.artifact_update.artifact.parts)
            return TextDelta(text=text) if text else None
        case "message":
            return TextDelta(text=_text(response.message.parts))
        case "status_update":
            update = response.status_update
            return _status(update.status, MessageToDict(update.metadata))
        case "task":
            return _status(response.task.status, {})
    return None


def _status(status: TaskStatus, metadata: dict[str, Any]) -> Event | None:
    said = _text(status.message.parts)
    match _STATES.get(status.state):
        case "completed":
            return Finished(notice=said)
        case "failed":
            code = str(metadata.get(f"{EVENTS_URI}/code") or "internal")
            return Failed(code=code, message=said or "The agent failed without saying why.")
        case "canceled":
            return Failed(code="canceled", message=said or "The task was canceled.")
        case "rejected":
            return Failed(code="rejected", message=said or "The agent rejected the request.")
    carried = metadata.get(EVENTS_URI)
    if carried is None:
        return None
    try:
        return EVENT.validate_python(carried)
    except ValidationError:
        return None


def _text(parts: Any) -> str:
    return "".join(p.text for p in parts if p.HasField("text"))
