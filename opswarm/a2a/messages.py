"""What a message to an agent may be, and what it says."""

from __future__ import annotations

import uuid
from typing import Any

from a2a.types import Message, Part, Role
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf.json_format import MessageToJson

from opswarm.a2a import wire
from opswarm.guard.untrusted import clean
from opswarm.models.chat import Message as Said
from opswarm.store.tasks import CONTEXT_LENGTH, ID_LENGTH


def question(text: str, context_id: str = "") -> Message:
    """A new message of a user's, in a context of its own where none is named."""
    return Message(
        message_id=uuid.uuid4().hex,
        role=Role.ROLE_USER,
        parts=[Part(text=text)],
        context_id=context_id or f"ctx-{uuid.uuid4()}",
    )


def text_of(message: Message) -> str:
    """What a message says: its text parts, and its data parts as JSON."""
    said: list[str] = []
    for part in message.parts:
        if part.HasField("text"):
            said.append(part.text)
        elif part.HasField("data"):
            said.append(MessageToJson(part.data))
    return clean("\n".join(said)).strip()


def check(message: Message) -> None:
    """Raises `InvalidParamsError`, or `ContentTypeNotSupportedError`, for a message that no turn could be made of."""
    if not message.message_id or len(message.message_id) > CONTEXT_LENGTH:
        raise InvalidParamsError(f"messageId must have 1 to {CONTEXT_LENGTH} characters.")
    if len(message.context_id) > CONTEXT_LENGTH:
        raise InvalidParamsError(f"contextId must have at most {CONTEXT_LENGTH} characters.")
    if len(message.task_id) > ID_LENGTH:
        raise InvalidParamsError(f"taskId must have at most {ID_LENGTH} characters.")
    if message.role == Role.ROLE_AGENT:
        raise InvalidParamsError("A message to an agent must have the role of a user.")
    if not message.parts:
        raise InvalidParamsError("The message has no parts.")
    if any(p.HasField("url") or p.HasField("raw") for p in message.parts):
        raise ContentTypeNotSupportedError("Files are not supported; send text.")
    if not text_of(message):
        raise InvalidParamsError("The message has no text.")


def brought(given: Any) -> list[Said] | None:
    """The conversation that the caller brought along, the newest of it; None when it brought none."""
    if not isinstance(given, list):
        return None
    found = []
    for item in given[-wire.MOST_HISTORY :]:
        role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
        if role in ("user", "assistant") and isinstance(content, str):
            found.append(Said(role, clean(content)))
    return found


def plain_message(given: Any) -> Message | None:
    """A message of nothing but text from its JSON, without the cost of reading any JSON; None for any other.

    What this gives is what protobuf's own reader gives; what it leaves, that one reads or refuses.
    """
    if not isinstance(given, dict) or not given.keys() <= _PLAIN or given.get("role") != "ROLE_USER":
        return None
    ids = given.get("messageId"), given.get("contextId", ""), given.get("taskId", "")
    parts = given.get("parts")
    if not all(isinstance(i, str) for i in ids) or not ids[0] or not isinstance(parts, list) or not parts:
        return None
    if not all(isinstance(p, dict) and p.keys() == {"text"} and isinstance(p["text"], str) for p in parts):
        return None
    message = Message(message_id=ids[0], role=Role.ROLE_USER, parts=[Part(text=p["text"]) for p in parts])
    if ids[1]:
        message.context_id = ids[1]
    if ids[2]:
        message.task_id = ids[2]
    metadata = given.get("metadata", {})
    if not isinstance(metadata, dict):
        return None
    if metadata:
        message.metadata.update(metadata)
    return message


_PLAIN = {"messageId", "contextId", "taskId", "role", "parts", "metadata"}
