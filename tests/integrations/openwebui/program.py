"""What Open WebUI does with a function's source: its imports rewritten, then run as a module."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

from integrations.openwebui.install import PIPE

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded" / "calls.json").read_text(encoding="utf-8")
)
"""What Open WebUI 0.12.4 called a pipe with: a chat in a browser, its own tasks, and plain API requests."""

REWRITTEN = ("utils", "apps", "main", "config")
"""`from NAME` gains the prefix `open_webui.`, wherever in the text it stands."""

WAITING = 60
"""Seconds: longer than any test waits."""


def loaded() -> types.ModuleType:
    """The pipe's module, as Open WebUI would have it."""
    source = PIPE.read_text(encoding="utf-8")
    for name in REWRITTEN:
        source = source.replace(f"from {name}", f"from open_webui.{name}")
    module = types.ModuleType("function_opswarm")
    sys.modules[module.__name__] = module
    exec(compile(source, "<function_opswarm>", "exec"), module.__dict__)
    return module


class Program:
    """One installed pipe, called as Open WebUI calls it. `events` are what it said through the emitter."""

    def __init__(self, url: str, token: str, **valves: Any) -> None:
        self.module = loaded()
        self.pipe = self.module.Pipe()
        self.pipe.valves = self.module.Pipe.Valves(url=url, token=token, **valves)
        self.events: list[dict[str, Any]] = []

    async def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event["data"])

    @property
    def statuses(self) -> list[str]:
        return [e["description"] for e in self.events]

    def arguments(self, text: str = "", recorded: str = "new_chat", **changed: Any) -> dict[str, Any]:
        """A recorded call's arguments, with another last message and what else is named.

        `user`, `chat`, `agent`, `stream` and `valves` (the user's) are short for where they stand.
        """
        kept: dict[str, Any] = json.loads(json.dumps(RECORDED[recorded]))
        emits = kept.pop("has_emitter")
        if text:
            kept["body"]["messages"][-1]["content"] = text
            if kept["__metadata__"]["user_message"]:
                kept["__metadata__"]["user_message"]["content"] = text
        if "agent" in changed:
            kept["body"]["model"] = f"opswarm.{changed.pop('agent')}"
        if "stream" in changed:
            kept["body"]["stream"] = changed.pop("stream")
        if "messages" in changed:
            kept["body"]["messages"] = changed.pop("messages")
        if "user" in changed:
            kept["__user__"]["id"] = changed.pop("user")
        if "chat" in changed:
            kept["__chat_id__"] = changed.pop("chat")
        kept["__user__"]["valves"] = self.module.Pipe.UserValves(**changed.pop("valves", {}))
        return {**kept, "__event_emitter__": self.emit if emits else None, **changed}

    async def open(self, text: str = "", **changed: Any) -> Any:
        """The pipe's answer: a generator of chunks, or what it gave at once."""
        return await self.pipe.pipe(**self.arguments(text, **changed))

    async def chunks(self, text: str = "", **changed: Any) -> list[dict[str, Any]]:
        return [chunk async for chunk in await self.open(text, **changed)]


def content(chunks: list[dict[str, Any]], name: str = "content") -> str:
    return "".join(c["choices"][0]["delta"].get(name, "") for c in chunks if "choices" in c)


def error(chunks: list[dict[str, Any]]) -> str:
    found = [c["error"]["message"] for c in chunks if "error" in c]
    assert len(found) == 1 and chunks[-1] == {"error": {"message": found[0]}}, chunks
    message: str = found[0]
    assert message.endswith((".", "it.")) and "Traceback" not in message
    return message
