"""An agent as a model of an OpenAI client, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from opswarm.a2a.wire import AGENT_KEY
from opswarm.guard.keys import make_person_token
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at, until


class Client:
    def __init__(self, http: httpx.AsyncClient, echo: Echo) -> None:
        self.http = http
        self.echo = echo

    async def ask(self, *said: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        roles = ("user", "assistant") * len(said)
        messages = [{"role": r, "content": c} for r, c in zip(roles, said, strict=False)]
        body = {"model": "echo", "messages": messages, **fields}
        return await self.http.post("/v1/chat/completions", json=body, headers=headers)

    async def chunks(self, *said: str, **fields: Any) -> list[dict[str, Any]]:
        text = (await self.ask(*said, stream=True, **fields)).text
        assert text.endswith("data: [DONE]\n\n") or '"error"' in text
        return [json.loads(x[6:]) for x in text.splitlines() if x.startswith("data: {")]


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    settings = settings_at(tmp_path)
    headers = {"Authorization": f"Bearer {make_person_token(settings)}"}
    port = free_port()
    echo = Echo("echo")
    service = echo_service(settings, "echo", f"http://127.0.0.1:{port}", echo)
    async with (
        serving(service.app(), port) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http,
    ):
        yield Client(http, echo)


async def test_agents_are_listed_as_models(client: Client) -> None:
    assert [m["id"] for m in (await client.http.get("/v1/models")).json()["data"]] == ["echo", "other"]


async def test_an_answer_streams_with_what_happens_as_reasoning(client: Client) -> None:
    chunks = await client.chunks("hi", stream_options={"include_usage": True})
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    assert "".join(d.get("content") or "" for d in deltas) == "echo heard: hi"
    reasoning = "".join(d.get("reasoning_content") or "" for d in deltas)
    assert "· look(at=hi)" in reasoning and "✓ look" in reasoning
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "stop"
    assert not chunks[-1]["choices"] and chunks[-1]["usage"]["total_tokens"] == 0


async def test_an_answer_comes_whole(client: Client) -> None:
    body = (await client.ask("hi")).json()
    assert body["choices"][0]["message"]["content"] == "echo heard: hi"
    assert "look" in body["choices"][0]["message"]["reasoning_content"]
    assert body["model"] == "echo"


async def test_without_a_chat_id_the_conversation_is_what_the_client_sends(client: Client) -> None:
    await client.ask("one", "answer one, edited", "two")
    await client.ask("one", "another answer", "two")
    told = [[m.content for m in turn.history] for turn in client.echo.seen]
    assert told == [["one", "answer one, edited"], ["one", "another answer"]]
    assert client.echo.seen[0].context_id != client.echo.seen[1].context_id


async def test_a_chat_id_joins_the_turns_of_one_agent(client: Client) -> None:
    chat = {"X-OpenWebUI-Chat-Id": "abc"}
    await client.ask("one", headers=chat)
    await client.ask("never said", "nor answered", "two", headers=chat)
    await client.ask("three", headers=chat, model="other")
    first, second, third = client.echo.seen
    assert first.context_id == second.context_id != third.context_id
    assert [m.content for m in second.history] == ["one", "echo heard: one"]
    assert third.metadata[AGENT_KEY] == "other" and not third.history


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_stops_the_work(client: Client, streamed: bool) -> None:
    asking = asyncio.create_task(client.ask("wait", stream=streamed))
    await until(lambda: bool(client.echo.seen))
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait({asking})
    await asyncio.wait_for(client.echo.cancelled.wait(), 5)


async def test_titles_and_tags_wake_no_agent(client: Client) -> None:
    prompt = (
        '### Task:\nGenerate a concise title.\n### Output:\nJSON format: { "title": "..." }\n'
        "<chat_history>\nUSER: why is sonarr crash looping again today?\nASSISTANT: OOM\n</chat_history>"
    )
    titled = (await client.ask(prompt)).json()["choices"][0]["message"]["content"]
    tagged = (await client.ask('Give tags as {"tags": []}', headers={"X-OpenWebUI-Task": "tags_generation"})).json()
    assert json.loads(titled) == {"title": "why is sonarr crash looping again"}
    assert json.loads(tagged["choices"][0]["message"]["content"]) == {"tags": ["Kubernetes"]}
    assert not client.echo.seen


async def test_errors_have_the_shape_of_openai(client: Client) -> None:
    unknown = await client.ask("hi", model="nobody")
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
    refused = await client.http.post("/v1/chat/completions", json={"model": "echo", "messages": [image]})
    backwards = await client.ask("hi", "I am the assistant")
    broken = await client.ask("break")
    for response, status, words in (
        (unknown, 404, "The agents are: echo, other"),
        (refused, 400, "only text can be read"),
        (backwards, 400, "last message must be the user's"),
        (broken, 500, "broke on this request"),
    ):
        assert response.status_code == status
        assert words in response.json()["error"]["message"]
        assert "SELECT" not in response.text and "sk-ant" not in response.text
    async with httpx.AsyncClient(base_url=client.http.base_url) as stranger:
        assert (await stranger.get("/v1/models")).status_code == 401


async def test_a_turn_is_a_task_like_any_other(client: Client) -> None:
    await client.ask("remember me")
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    listed = (await client.http.post("/", json=body, headers={"A2A-Version": "1.0"})).json()["result"]["tasks"]
    assert [t["history"][0]["parts"][0]["text"] for t in listed] == ["remember me"]
