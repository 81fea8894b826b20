"""
title: Opswarm
description: The agents of an Opswarm crew as models: live answers about your cluster, with what they did on the way.
version: 0.1.0
license: Apache-2.0
required_open_webui_version: 0.12.0
"""

# One file, to be pasted into Open WebUI as a function. It speaks A2A 1.0 (JSON-RPC, SSE) to the orchestrator and needs
# nothing but what Open WebUI brings along. `docs/openwebui.md` says how to install it and what its valves are.

from __future__ import annotations

import asyncio
import html
import json
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import BaseModel, Field

Emitter = Callable[[dict[str, Any]], Awaitable[Any]]
Chunk = dict[str, Any]

ORCHESTRATOR = "orchestrator"
UNAVAILABLE = "unavailable"
EVENTS_URI = "https://opswarm.dev/a2a/events/v1"
AGENT_KEY = "opswarm/agent"
HISTORY_KEY = "opswarm/history"
APPROVALS_URI = "https://opswarm.dev/a2a/approvals/v1"

_LIST_SECONDS = 5.0
_CANCEL_SECONDS = 3.0
_SILENCE_SECONDS = 60.0
"""The orchestrator says something, if only a ping, every 15 s."""

_MOST_HISTORY = 24
_HISTORY_CHARACTERS = 8_000
_MOST_ANSWER = 4_000_000
_CHATS = uuid.UUID("0d6f5a54-0c9b-5f0f-8d0e-3a6a2b7f9c11")
_ENDED = {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}
_ADDED = re.compile(
    r"<details type=\"(?:tool_calls|reasoning|code_interpreter)\".*?</details>\s*"
    r"|<attached_files>.*?</attached_files>\s*",
    re.DOTALL,
)
"""What was put around the text of a message: folded tool calls, and Open WebUI's list of its files."""

_ID = re.compile(r"[a-z0-9]{1,32}")
_MOST_PREVIEW = 16_000
_USER = re.compile(r"[!-~]{1,128}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Problem(Exception):
    """What went wrong, as a sentence for the person in the chat."""


class Late(Problem):
    """The time was up. The task may have begun, even where nothing was heard of it."""


@dataclass(frozen=True)
class Call:
    """One question: who asks which agent what, with the conversation before it. `chat` is "" where none is kept."""

    user: str
    agent: str
    chat: str
    text: str
    history: tuple[dict[str, str], ...]
    model: str
    emit: Emitter | None = None
    ask: Emitter | None = None
    show_tools: bool = True

    def message(self) -> dict[str, Any]:
        """The A2A message. Its id stays the same for this call: whoever sends it again asks for the same task."""
        metadata: dict[str, Any] = {HISTORY_KEY: list(self.history)}
        if self.agent != ORCHESTRATOR:
            metadata[AGENT_KEY] = self.agent
        return {
            "role": "ROLE_USER",
            "messageId": uuid.uuid4().hex,
            "contextId": context_id(self.user, self.agent, self.chat),
            "parts": [{"text": self.text}],
            "metadata": metadata,
        }


def context_id(user: str, agent: str, chat: str) -> str:
    """The conversation of a chat with one agent. The user is part of it: a client may choose its chat ids."""
    if not chat:
        return f"owui-{uuid.uuid4()}"
    return f"owui-{uuid.uuid5(_CHATS, json.dumps([user, agent, chat]))}"


@dataclass
class Told:
    """What the frames of one task have said so far."""

    task_id: str = ""
    ended: bool = False
    artifact: str = ""
    characters: int = 0
    tools: int = 0
    started: float = field(default_factory=time.monotonic)
    arguments: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)
    waits: list[dict[str, str]] = field(default_factory=list)


class Pipe:
    """Lists the agents as models, and answers as the one that was chosen."""

    class Valves(BaseModel):
        """What the administrator sets."""

        url: str = Field("http://127.0.0.1:8700", description="Where the orchestrator of Opswarm answers.")
        token: str = Field(
            "",
            description="A front's token; `opswarm token --front openwebui` makes one.",
            json_schema_extra={"input": {"type": "password"}},
        )
        timeout_seconds: float = Field(300.0, gt=0, le=3600, description="The longest that one answer may take.")

    class UserValves(BaseModel):
        """What each user sets."""

        show_status: bool = Field(True, description="Say above the answer which agent and tool is at work.")
        show_tools: bool = Field(True, description="Put each tool call, folded, into the answer.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.name = "Opswarm: "
        self._cancelling: set[asyncio.Task[None]] = set()

    async def pipes(self) -> list[dict[str, str]]:
        """One entry an agent; when they can't be listed, one whose name says why."""
        valves = self.valves
        try:
            async with asyncio.timeout(_LIST_SECONDS), _connected(valves) as http:
                response = await http.get(_address(valves, "/v1/models"), headers=_headers(valves, ""))
            if response.status_code != 200:
                raise _refused(valves, response.status_code, response.headers, response.text)
            names = [str(entry["id"]) for entry in response.json()["data"]]
        except Problem as problem:
            return [{"id": UNAVAILABLE, "name": str(problem)}]
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL):
            return [{"id": UNAVAILABLE, "name": str(_down(valves))}]
        except (ValueError, KeyError, TypeError):
            return [{"id": UNAVAILABLE, "name": f"What answers at {valves.url} is not Opswarm. Check the valve url."}]
        return [{"id": name, "name": name} for name in names]

    async def pipe(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __chat_id__: str | None = None,
        __message_id__: str | None = None,
        __files__: list[Any] | None = None,
        __task__: str | None = None,
        __event_emitter__: Emitter | None = None,
        __event_call__: Emitter | None = None,
    ) -> AsyncGenerator[Chunk, None] | str | Chunk:
        """The answer to the last message of `body`: chunks as they come, or whole where `stream` is not asked for."""
        streamed = bool(body.get("stream"))
        if __task__:
            # Titles, tags and the like are Open WebUI's own questions: no agent is woken for them.
            said = _own_answer(str(__task__), body)
            return _one(_chunk(str(body.get("model", "")), content=said)) if streamed else said
        valves = self.valves.model_copy()
        try:
            call = _call(body, __user__ or {}, __metadata__ or {}, __chat_id__ or "", __files__ or [])
            if __chat_id__ and __message_id__ and _wants(__user__, "show_status"):
                call = replace(call, emit=__event_emitter__)
            if __chat_id__ and __message_id__:
                call = replace(call, ask=__event_call__)
        except Problem as problem:
            error = _error(str(problem))
            return _one(error) if streamed else error
        source = self._answer(call, valves)
        return source if streamed else await _joined(source)

    async def _answer(self, call: Call, valves: Pipe.Valves) -> AsyncGenerator[Chunk, None]:
        """The task's events as chunks. Whoever stops reading, or takes too long, has the task cancelled."""
        told = Told()
        message = call.message()
        try:
            while True:
                told.ended = False
                async with aclosing(self._frames(call, valves, message)) as frames:
                    async for frame in frames:
                        async for chunk in _rendered(frame, told, call):
                            yield chunk
                        if told.ended:
                            break
                waits, told.waits = told.waits, []
                if not told.ended or not waits:
                    break
                if not (answered := await _answers(waits, call)):
                    yield _chunk(call.model, content=_how_to_answer(waits))
                    break
                message = _answering(told.task_id, answered)
            if not told.ended:
                raise Problem("The answer broke off before its end. Ask again.")
            if told.usage:
                yield {**_chunk(call.model), "usage": told.usage}
            await _status(call, _summary(told), done=True)
        except Problem as problem:
            told.ended = told.ended or not (told.task_id or isinstance(problem, Late))
            await _status(call, "It failed.", done=True)
            yield _error(str(problem))
        finally:
            if not told.ended:
                await self._cancelled(call, valves, message, told.task_id)

    async def _frames(self, call: Call, valves: Pipe.Valves, message: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """The results of the stream that answers `message`. Raises `Problem` for everything that can go wrong."""
        until = time.monotonic() + valves.timeout_seconds
        request = _request("SendStreamingMessage", {"message": message})
        try:
            async with _connected(valves) as http:
                sending = http.stream("POST", _address(valves, "/"), json=request, headers=_headers(valves, call.user))
                async with asyncio.timeout(valves.timeout_seconds):
                    response = await sending.__aenter__()
                try:
                    if response.status_code != 200:
                        async with asyncio.timeout(_LIST_SECONDS):
                            await response.aread()
                        raise _refused(valves, response.status_code, response.headers, response.text)
                    async with aclosing(_events(response)) as events:
                        while True:
                            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                                event = await anext(events, None)
                            if event is None:
                                return
                            yield _result(event)
                finally:
                    await sending.__aexit__(None, None, None)
        except TimeoutError:
            raise Late(
                f"No end within {valves.timeout_seconds:.0f} s, so it was stopped. Ask for less, or raise the valve "
                "timeout_seconds."
            ) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise _down(valves) from None
        except httpx.ReadTimeout:
            raise Problem(f"Opswarm said nothing for {_SILENCE_SECONDS:.0f} s. Ask again.") from None
        except httpx.HTTPError:
            raise Problem("The connection to Opswarm broke before the answer's end. Ask again.") from None

    async def _cancelled(self, call: Call, valves: Pipe.Valves, message: dict[str, Any], task_id: str) -> None:
        """Cancels the task, within 3 s, on a task of its own: the caller is being cancelled itself."""
        task = asyncio.create_task(_cancel(call, valves, message, task_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)
        await asyncio.shield(task)


async def _answers(waits: list[dict[str, str]], call: Call) -> list[dict[str, Any]]:
    """What the person says in a dialog to each thing that waits. With no browser there Open WebUI answers with an
    error, which is truthy: only True is a yes, only False a no, and everything else no answer."""
    found: list[dict[str, Any]] = []
    if call.ask is None:
        return found
    for one in waits:
        message = "\n\n".join(t for t in (one["summary"], one["preview"]) if t)
        said = await call.ask({"type": "confirmation", "data": {"title": "Approve this?", "message": message}})
        if said is True or said is False:
            reason = "" if said else "Declined in the dialog."
            found.append({"id": one["id"], "approve": said, "reason": reason, "digest": one.get("digest", "")})
    return found


def _answering(task_id: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that answers what a task waits for."""
    return {
        "role": "ROLE_USER",
        "messageId": uuid.uuid4().hex,
        "taskId": task_id,
        "parts": [{"text": "(answered in a dialog)"}],
        "metadata": {APPROVALS_URI: {"answers": answers}},
    }


def _how_to_answer(waits: list[dict[str, str]]) -> str:
    parts = []
    for one in waits:
        preview = f"\n\n```\n{one['preview']}\n```" if one["preview"] else ""
        known = f"`approve {one['id']}` or `reject {one['id']}`"
        parts.append(f"**Needs your approval:** {one['summary']}{preview}\n\nAnswer with exactly {known}.")
    return "\n\n" + "\n\n".join(parts)


async def _cancel(call: Call, valves: Pipe.Valves, message: dict[str, Any], task_id: str) -> None:
    headers = _headers(valves, call.user)
    try:
        async with asyncio.timeout(_CANCEL_SECONDS), _connected(valves) as http:
            if not task_id:
                # Left before the task had a name: the same message, sent again, asks which it is.
                params = {"message": message, "configuration": {"returnImmediately": True}}
                asked = await http.post(_address(valves, "/"), json=_request("SendMessage", params), headers=headers)
                task_id = str(asked.json()["result"]["task"]["id"])
            await http.post(_address(valves, "/"), json=_request("CancelTask", {"id": task_id}), headers=headers)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, Problem):
        return  # It can't be reached, or has no such task: there is nothing to cancel.


# What is asked.


def _call(
    body: Mapping[str, Any], user: Mapping[str, Any], metadata: Mapping[str, Any], chat: str, files: list[Any]
) -> Call:
    asker = str(user.get("id") or "")
    if not _USER.fullmatch(asker):
        raise Problem("Open WebUI did not say who is asking, so nobody was asked.")
    model = str(body.get("model", ""))
    agent = model.partition(".")[2] or ORCHESTRATOR
    if agent == UNAVAILABLE:
        raise Problem("The agents could not be listed; the name of this entry says why. Reload the page to try again.")
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    newest = max((n for n, m in enumerate(messages) if m.get("role") == "user"), default=None)
    if newest is None:
        raise Problem("There is no question in this chat.")
    typed = metadata.get("user_message")
    typed = typed if isinstance(typed, dict) else None
    _refuse_files(messages[newest], typed, files)
    text = _text(messages[newest].get("content"))
    if files and typed is not None:
        # With files in the chat the last message has become a template around what was typed.
        text = _text(typed.get("content")) or text
    if not text.strip():
        raise Problem("The message has no text.")
    earlier = (m for m in messages[:newest] if m.get("role") in ("user", "assistant"))
    said = ({"role": str(m["role"]), "content": _ADDED.sub("", _text(m.get("content"))).strip()} for m in earlier)
    kept = [{**m, "content": m["content"][:_HISTORY_CHARACTERS]} for m in said if m["content"]]
    return Call(asker, agent, chat, text, tuple(kept[-_MOST_HISTORY:]), model, show_tools=_wants(user, "show_tools"))


def _refuse_files(message: Mapping[str, Any], typed: Mapping[str, Any] | None, files: list[Any]) -> None:
    """Raises `Problem` for a message with files of its own; those of earlier messages are passed over."""
    own = typed.get("files") if typed is not None else files
    content = message.get("content")
    parts = [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []
    if own or any(p.get("type") != "text" for p in parts):
        raise Problem("Opswarm reads text only, no files or images. Take them out and paste what matters as text.")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict) and p.get("type") == "text")
    return ""


def _wants(user: Mapping[str, Any] | None, valve: str) -> bool:
    return bool(getattr((user or {}).get("valves"), valve, True))


def _own_answer(task: str, body: Mapping[str, Any]) -> str:
    """What Open WebUI makes a title of: the first words of the chat. For everything else, nothing."""
    if task != "title_generation":
        return ""
    prompt = "\n".join(_text(m.get("content")) for m in body.get("messages") or [] if isinstance(m, dict))
    found = re.search(r"USER: (.+)", prompt)
    words = " ".join(found[1].split()[:6])[:60] if found else "Cluster chat"
    return json.dumps({"title": words}, ensure_ascii=False)


# What is sent and received.


def _address(valves: Pipe.Valves, path: str) -> str:
    return f"{valves.url.strip().rstrip('/')}{path}"


def _headers(valves: Pipe.Valves, user: str) -> dict[str, str]:
    token = valves.token.strip()
    if not token:
        raise Problem("The valve token is empty. `opswarm token --front openwebui` makes one.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Problem("What the valve token holds is not a token. `opswarm token --front openwebui` makes one.")
    headers = {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"}
    return {**headers, "X-Opswarm-User": user} if user else headers


def _request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": method, "params": params}


@asynccontextmanager
async def _connected(valves: Pipe.Valves) -> AsyncIterator[httpx.AsyncClient]:
    timeout = httpx.Timeout(10.0, connect=5.0, read=_SILENCE_SECONDS)
    # Certificates are only read where they are needed: that takes longer than a question does.
    secure = valves.url.strip().lower().startswith("https:")
    async with httpx.AsyncClient(timeout=timeout, trust_env=False, verify=secure) as http:
        yield http


async def _events(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The data of each server-sent event. Lines end at a line feed only: JSON may hold what else ends lines."""
    kept = b""
    data: list[bytes] = []
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        yield (await response.aread()).decode("utf-8", errors="replace")
        return
    async for piece in response.aiter_bytes():
        *lines, kept = (kept + piece).split(b"\n")
        if len(kept) > _MOST_ANSWER:
            raise Problem("The answer has no end and was cut off.")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", errors="replace")
                data = []


def _result(event: str) -> Mapping[str, Any]:
    """The result in a JSON-RPC response. Raises `Problem` for an error, or for what is none."""
    try:
        body = json.loads(event)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem("Opswarm sent what is not an answer. Check that the valve url is the orchestrator's.")
    error, result = body.get("error"), body.get("result")
    if error or not isinstance(result, dict):
        said = error.get("message") if isinstance(error, dict) else ""
        raise Problem(_safe(said) or "Opswarm refused without saying why; its log has more.")
    return result


def _refused(valves: Pipe.Valves, status: int, headers: Mapping[str, str], text: str) -> Problem:
    """What an HTTP status means to the person, with the server's own sentence where it has one."""
    try:
        said = _safe(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = ""
    if status == 401:
        return Problem(
            f"Opswarm does not accept the token of this pipe. {said} An administrator sets a new one as the valve "
            "token: `opswarm token --front openwebui` makes it."
        )
    if status == 403:
        return Problem(f"Opswarm does not allow this. {said}".strip())
    if status == 404:
        return Problem(f"There is no orchestrator at {valves.url}. Check the valve url.")
    if status == 429:
        wait = headers.get("retry-after", "")
        return Problem(f"Opswarm is busy. Try again {f'in {wait} s' if wait.isdigit() else 'soon'}.")
    return Problem(f"Opswarm answered HTTP {status}. {said or 'Its log says why.'}")


def _down(valves: Pipe.Valves) -> Problem:
    return Problem(f"Opswarm does not answer at {valves.url}. Check that it runs, and the valve url.")


def _safe(said: Any) -> str:
    """Someone else's sentence, fit to be shown."""
    return _CONTROL.sub("", said)[:500].strip() if isinstance(said, str) else ""


def _plain(said: Any) -> str:
    """What a person is to judge: whole, or not at all."""
    text = _CONTROL.sub("", said).strip() if isinstance(said, str) else ""
    return text if len(text) <= _MOST_PREVIEW else "(too long to be shown here; look with `opswarm approvals`)"


# What is shown.


async def _rendered(frame: Mapping[str, Any], told: Told, call: Call) -> AsyncGenerator[Chunk, None]:
    """The chunks of one frame. Raises `Problem` when the task ended badly."""
    metadata: Mapping[str, Any] = {}
    status: Any = None
    artifacts: list[Any] = []
    if isinstance(task := frame.get("task"), dict):
        told.task_id = told.task_id or str(task.get("id") or "")
        artifacts = task.get("artifacts") or [] if not told.artifact else []
        status = task.get("status")
    elif isinstance(update := frame.get("artifactUpdate"), dict):
        told.task_id = told.task_id or str(update.get("taskId") or "")
        artifacts = [update.get("artifact")]
    elif isinstance(update := frame.get("statusUpdate"), dict):
        told.task_id = told.task_id or str(update.get("taskId") or "")
        status, metadata = update.get("status"), update.get("metadata") or {}
    elif isinstance(message := frame.get("message"), dict):
        status = {"state": "TASK_STATE_COMPLETED"}
        yield _chunk(call.model, content=_said(message))
    else:
        return
    for artifact in artifacts:
        if isinstance(artifact, dict) and (text := _said(artifact)):
            yield _chunk(call.model, content=_next_text(text, str(artifact.get("artifactId")), told))
    if isinstance(event := metadata.get(EVENTS_URI), dict):
        async for chunk in _on_the_way(event, told, call):
            yield chunk
    if isinstance(status, dict) and (last := _ending(status, told)):
        yield _chunk(call.model, content=last)


def _next_text(text: str, artifact: str, told: Told) -> str:
    told.characters += len(text)
    if told.characters > _MOST_ANSWER:
        raise Problem("The answer has no end and was cut off.")
    apart = bool(told.artifact) and told.artifact != artifact
    told.artifact = artifact
    return f"\n\n{text}" if apart else text


def _ending(status: Mapping[str, Any], told: Told) -> str:
    """What is left to say when the state is the last one; "" for others. Raises `Problem` when it is a bad one."""
    state = str(status.get("state") or "")
    said = _said(status.get("message"))
    if state in _ENDED or state in ("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"):
        told.ended = True
    match state:
        case "TASK_STATE_COMPLETED":
            quoted = "\n> ".join(said.splitlines())
            return f"\n\n> {quoted}" if said else ""
        case "TASK_STATE_INPUT_REQUIRED":
            return "" if told.waits else f"\n\n{said or 'The agent waits for your answer.'}"
        case "TASK_STATE_AUTH_REQUIRED":
            raise Problem(said or "The agent wants credentials that it was not given.")
        case "TASK_STATE_CANCELED":
            raise Problem(said or "The task was cancelled.")
        case "TASK_STATE_FAILED" | "TASK_STATE_REJECTED":
            raise Problem(said or "The agent failed without saying why.")
    return ""


async def _on_the_way(event: Mapping[str, Any], told: Told, call: Call) -> AsyncGenerator[Chunk, None]:
    """What happens before the answer: a status line, a folded tool call, an approval that somebody waits for."""
    tool = _safe(event.get("tool"))
    match event.get("kind"):
        case "delegated":
            because = _safe(event.get("because"))
            await _status(call, f"{_safe(event.get('agent'))} is asked" + (f" ({because})" if because else ""))
        case "tool_started":
            told.arguments[str(event.get("call_id"))] = event.get("arguments") or {}
            await _status(call, f"{tool} …")
        case "tool_finished":
            told.tools += 1
            arguments = told.arguments.pop(str(event.get("call_id")), {})
            if call.show_tools:
                yield _tool(call, tool, arguments, event, told)
        case "approval_needed":
            listed = event.get("approvals")
            told.waits = [
                {k: _plain(a.get(k)) for k in ("id", "summary", "preview", "digest")}
                for a in (listed if isinstance(listed, list) else [])
                if isinstance(a, dict) and _ID.fullmatch(str(a.get("id")))
            ]
        case "usage":
            _count(told, event)


def _tool(call: Call, tool: str, arguments: Any, event: Mapping[str, Any], told: Told) -> Chunk:
    """A tool call that is over: folded in a chat that Open WebUI shows, a line of reasoning for a plain API client."""
    well, summary = bool(event.get("ok")), _safe(event.get("summary"))
    if not call.chat:
        given = ", ".join(f"{k}={v}" for k, v in arguments.items()) if isinstance(arguments, dict) else ""
        return _chunk(call.model, reasoning_content=f"{'✓' if well else '✗'} {tool}({given}) {summary}\n")
    marks = {
        "type": "tool_calls",
        "done": "true",
        "id": f"{told.task_id}-{told.tools}",
        "name": tool,
        "arguments": json.dumps(arguments, ensure_ascii=False),
        "result": json.dumps(summary, ensure_ascii=False),
    }
    if not well:
        marks["status"] = "failed"
    opening = " ".join(f'{name}="{html.escape(value)}"' for name, value in marks.items())
    folded = f"<details {opening}>\n<summary>{html.escape(tool)}</summary>\n</details>"
    return _chunk(call.model, content=f"\n\n{folded}\n\n")


def _count(told: Told, event: Mapping[str, Any]) -> None:
    for name, key in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        number = event.get(key)
        told.usage[name] = told.usage.get(name, 0) + (int(number) if isinstance(number, int | float) else 0)
    told.usage["total_tokens"] = told.usage["prompt_tokens"] + told.usage["completion_tokens"]


def _said(message: Any) -> str:
    parts = message.get("parts") if isinstance(message, dict) else None
    return "".join(str(p["text"]) for p in parts or [] if isinstance(p, dict) and isinstance(p.get("text"), str))


def _summary(told: Told) -> str:
    calls = f", {told.tools} tool call{'' if told.tools == 1 else 's'}" if told.tools else ""
    return f"Done in {time.monotonic() - told.started:.1f} s{calls}"


async def _status(call: Call, description: str, *, done: bool = False) -> None:
    if call.emit is not None:
        await call.emit({"type": "status", "data": {"description": description, "done": done}})


def _chunk(model: str, **delta: str) -> Chunk:
    """A chunk of a completion. Always an object: of a text that begins with `data:` Open WebUI makes something else."""
    return {
        "id": "chatcmpl-opswarm",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


def _error(message: str) -> Chunk:
    return {"error": {"message": message}}


async def _one(chunk: Chunk) -> AsyncGenerator[Chunk, None]:
    yield chunk


async def _joined(source: AsyncGenerator[Chunk, None]) -> str | Chunk:
    """The whole answer, or the error instead of it."""
    said: list[str] = []
    async with aclosing(source) as chunks:
        async for chunk in chunks:
            if "error" in chunk:
                return chunk
            said.append(chunk["choices"][0]["delta"].get("content", ""))
    return "".join(said).strip()
