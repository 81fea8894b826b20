"""Bad input and bad luck at an agent's A2A endpoint, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from opswarm.guard.keys import make_person_token, signing_key
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.tokens import AUDIENCE_PERSON
from tests.support.agents import Echo, echo_service
from tests.support.hosting import free_port, serving, settings_at, until


@dataclass
class Endpoint:
    http: httpx.AsyncClient
    echo: Echo
    home: Path

    def message(self, text: str = "hello", **more: Any) -> dict[str, Any]:
        return {"message": {"role": "ROLE_USER", "messageId": uuid.uuid4().hex, "parts": [{"text": text}], **more}}

    async def rpc(self, method: str, params: Any, version: str | None = "1.0", path: str = "/") -> dict[str, Any]:
        headers = {"A2A-Version": version} if version else {}
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        response = await self.http.post(path, json=body, headers=headers)
        found: dict[str, Any] = response.json()
        return found

    async def stream(self, method: str, params: Any, version: str | None = "1.0") -> list[dict[str, Any]]:
        headers = {"A2A-Version": version} if version else {}
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        frames = []
        async with self.http.stream("POST", "/", json=body, headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    frames.append(json.loads(line[5:]))
        return frames


@pytest_asyncio.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    settings = settings_at(tmp_path)
    token = make_person_token(settings)
    port = free_port()
    echo = Echo("echo")
    service = echo_service(settings, "echo", f"http://127.0.0.1:{port}", echo)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        serving(service.app(), port) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http,
    ):
        yield Endpoint(http, echo, tmp_path)


def _text(task: dict[str, Any]) -> str:
    return "".join(p.get("text", "") for a in task.get("artifacts", ()) for p in a["parts"])


async def test_a_message_is_answered_in_protocol_1_0(endpoint: Endpoint) -> None:
    task = (await endpoint.rpc("SendMessage", endpoint.message("hi")))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert _text(task) == "echo heard: hi"


async def test_a_message_is_answered_in_protocol_0_3(endpoint: Endpoint) -> None:
    message = {"kind": "message", "role": "user", "messageId": "m-03", "parts": [{"kind": "text", "text": "hi"}]}
    frames = await endpoint.stream("message/stream", {"message": message}, version=None)
    kinds = [f["result"]["kind"] for f in frames]
    assert kinds[0] == "task" and "artifact-update" in kinds
    assert frames[-1]["result"]["final"] is True


async def test_events_ride_along_and_text_streams(endpoint: Endpoint) -> None:
    frames = await endpoint.stream("SendStreamingMessage", endpoint.message("hi"))
    results = [f["result"] for f in frames]
    carried = [v["kind"] for r in results for v in (r.get("statusUpdate", {}).get("metadata") or {}).values()]
    assert carried == ["tool_started", "tool_finished"]
    first = next(r for r in results if "artifactUpdate" in r)
    assert not first["artifactUpdate"].get("append")


async def test_the_card_and_health_need_no_token_and_the_rest_does(endpoint: Endpoint) -> None:
    async with httpx.AsyncClient(base_url=endpoint.http.base_url) as stranger:
        card = "/.well-known/agent-card.json"
        for path in (card, f"/a2a/ns/echo{card}", f"/api/a2a/ns/echo{card}", "/healthz", "/readyz"):
            assert (await stranger.get(path)).status_code == 200
        for path in ("/a2a/.well-known/agent.json", "/api/a2a/.well-known/agent-card.json", "/.well-known/", card):
            assert (await stranger.post(path, json={})).status_code == 401
        for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}):
            response = await stranger.post("/", json={}, headers=wrong)
            assert response.status_code == 401
            assert "WWW-Authenticate" in response.headers


@pytest.mark.parametrize("path", ["/a2a/kagent/echo", "/api/a2a/kagent/echo", "/api/a2a/kagent/echo/"])
async def test_clients_of_kagent_find_the_agent(endpoint: Endpoint, path: str) -> None:
    card = await endpoint.http.get(f"{path.rstrip('/')}/.well-known/agent-card.json")
    assert card.json()["name"] == "echo"
    answer = await endpoint.rpc("SendMessage", endpoint.message("hi"), path=path)
    assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_long_context_id_is_kept_as_it_is(endpoint: Endpoint) -> None:
    context = f"ctx-{uuid.uuid4()}"
    task = (await endpoint.rpc("SendMessage", endpoint.message("one", contextId=context)))["result"]["task"]
    assert task["contextId"] == context
    await endpoint.rpc("SendMessage", endpoint.message("two", contextId=context))
    assert [m.content for m in endpoint.echo.seen[-1].history] == ["one", "echo heard: one"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{not json", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"x":"\xff\xfe"}}', -32700),
        (b"[1,2]", -32600),
        (b'"text"', -32600),
        (b'{"id":1,"method":"SendMessage"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"NoSuchMethod"}', -32601),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":' + b'{"a":' * 60 + b"1" + b"}" * 61, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"metadata":{"n":NaN}}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"metadata":{"n":1e999}}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"metadata":{"n":1' + b"0" * 400 + b"}}}", -32700),
        (rb'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"metadata":{"n":"\ud800"}}}', -32700),
    ],
)
async def test_malformed_json_rpc_is_refused_with_its_code(endpoint: Endpoint, raw: bytes, code: int) -> None:
    response = await endpoint.http.post("/", content=raw, headers={"A2A-Version": "1.0"})
    assert response.json()["error"]["code"] == code
    assert not endpoint.echo.seen


async def test_an_unknown_protocol_version_is_refused(endpoint: Endpoint) -> None:
    for version in ("9.9", "banana", None):
        answer = await endpoint.rpc("SendMessage", endpoint.message(), version=version)
        assert answer["error"]["code"] == -32009


@pytest.mark.parametrize(
    "broken",
    [
        {"parts": []},
        {"parts": [{"text": ""}]},
        {"parts": [{"text": " \u200b "}]},
        {"parts": [{"text": "x"}], "contextId": "c" * 10_000},
        {"parts": [{"text": "x"}], "role": "ROLE_AGENT"},
        {"parts": [{"text": "x"}], "messageId": ""},
        {"parts": [{"text": "x"}], "messageId": "m" * 10_000},
    ],
)
async def test_a_message_no_turn_can_be_made_of_is_refused(endpoint: Endpoint, broken: dict[str, Any]) -> None:
    params = {"message": {"role": "ROLE_USER", "messageId": uuid.uuid4().hex, **broken}}
    for method in ("SendMessage", "SendStreamingMessage"):
        assert (await endpoint.rpc(method, params))["error"]["code"] == -32602
    assert not endpoint.echo.seen


@pytest.mark.parametrize("part", [{"url": "file:///etc/passwd"}, {"raw": "aGVsbG8="}])
async def test_a_file_is_refused_by_its_type(endpoint: Endpoint, part: dict[str, str]) -> None:
    params = {"message": {"role": "ROLE_USER", "messageId": "file", "parts": [{"text": "read"}, part]}}
    assert (await endpoint.rpc("SendMessage", params))["error"]["code"] == -32005
    assert not endpoint.echo.seen


async def test_a_message_of_five_megabytes_is_refused(endpoint: Endpoint) -> None:
    response = await endpoint.http.post("/", json=endpoint.message("x" * 5_000_000))
    assert response.status_code == 413
    assert "larger than" in response.json()["error"]["message"]


async def test_a_task_of_somebody_else_can_not_be_seen_or_cancelled(endpoint: Endpoint) -> None:
    task = (await endpoint.rpc("SendMessage", endpoint.message("mine")))["result"]["task"]
    settings = settings_at(endpoint.home)
    eve = Principal(kind=Kind.PERSON, subject="person:eve")
    token = signing_key(settings).mint(eve, [AUDIENCE_PERSON], seconds=60)
    endpoint.http.headers["Authorization"] = f"Bearer {token}"
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert (await endpoint.rpc(method, {"id": task["id"]}))["error"]["code"] == -32001
    listed = await endpoint.rpc("ListTasks", {})
    assert not listed["result"].get("tasks")
    follow = endpoint.message("read", contextId=task["contextId"])
    await endpoint.rpc("SendMessage", follow)
    assert endpoint.echo.seen[-1].history == ()


async def test_a_message_sent_twice_is_worked_on_once(endpoint: Endpoint) -> None:
    params = endpoint.message("once")
    first = (await endpoint.rpc("SendMessage", params))["result"]["task"]
    second = (await endpoint.rpc("SendMessage", params))["result"]["task"]
    frames = await endpoint.stream("SendStreamingMessage", params)
    assert first["id"] == second["id"] == frames[0]["result"]["task"]["id"]
    assert len(endpoint.echo.seen) == 1


async def test_a_message_sent_twice_at_the_same_time_is_worked_on_once(endpoint: Endpoint) -> None:
    params = endpoint.message("at once")
    whole, streamed, again = await asyncio.gather(
        endpoint.rpc("SendMessage", params),
        endpoint.stream("SendStreamingMessage", params),
        endpoint.rpc("SendMessage", params),
    )
    ids = {whole["result"]["task"]["id"], streamed[0]["result"]["task"]["id"], again["result"]["task"]["id"]}
    assert len(ids) == 1 and len(endpoint.echo.seen) == 1


async def test_what_an_exception_says_stays_inside(endpoint: Endpoint) -> None:
    task = (await endpoint.rpc("SendMessage", endpoint.message("break")))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    shown = json.dumps(task)
    assert "SELECT" not in shown and "sk-ant" not in shown
    assert "broke on this request" in shown


@pytest.mark.parametrize(
    ("method", "params", "version", "said"),
    [
        ("SendMessage", {"message": {"parts": [{"text": {"x": 1}}]}}, "1.0", "Look at params.message.parts"),
        ("SendMessage", {"message": 5}, "1.0", "do not fit the method"),
        ("SendMessage", [1], "1.0", "do not fit the method"),
        ("GetTask", {"id": {"a": "secret"}}, "1.0", "Look at params.id"),
        ("ListTasks", {"pageSize": "many"}, "1.0", "Look at params.pageSize"),
        ("message/send", {"message": {"role": "user", "parts": [{"kind": "what"}]}}, "0.3", "Look at params.message"),
        ("message/send", {"message": 5}, None, "Look at params.message"),
        ("tasks/get", {"id": 5}, None, "Look at params.id"),
    ],
)
async def test_what_does_not_fit_is_said_without_an_exceptions_text(
    endpoint: Endpoint, method: str, params: Any, version: str | None, said: str
) -> None:
    answer = await endpoint.rpc(method, params, version=version)
    shown = json.dumps(answer)
    assert said in answer["error"]["message"]
    for leak in ("secret", "parse", "pydantic", "protobuf", "expected", "object has no", "a2a.v1", "input_value"):
        assert leak not in shown


async def test_work_goes_on_when_the_client_is_gone_and_a_resubscribe_finds_it(endpoint: Endpoint) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": endpoint.message("wait")}
    headers = {"A2A-Version": "1.0"}
    async with endpoint.http.stream("POST", "/", json=body, headers=headers) as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                task_id = json.loads(line[5:])["result"]["task"]["id"]
                break
    assert not endpoint.echo.cancelled.is_set()
    joined = asyncio.create_task(endpoint.stream("SubscribeToTask", {"id": task_id}))
    await asyncio.wait({joined}, timeout=0.3)
    endpoint.echo.release.set()
    frames = await joined
    assert frames[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_cancel_reaches_the_work(endpoint: Endpoint) -> None:
    params = {**endpoint.message("wait"), "configuration": {"returnImmediately": True}}
    task = (await endpoint.rpc("SendMessage", params))["result"]["task"]
    await until(lambda: bool(endpoint.echo.seen))
    ended = (await endpoint.rpc("CancelTask", {"id": task["id"]}))["result"]
    assert ended["status"]["state"] == "TASK_STATE_CANCELED"
    await asyncio.wait_for(endpoint.echo.cancelled.wait(), 5)


async def test_sixty_four_clients_at_once_are_each_answered(endpoint: Endpoint) -> None:
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(
        base_url=endpoint.http.base_url, headers=endpoint.http.headers, limits=limits, timeout=30
    ) as http:
        crowd = Endpoint(http, endpoint.echo, endpoint.home)
        answers = await asyncio.gather(*(crowd.rpc("SendMessage", crowd.message(f"n{i}")) for i in range(64)))
    assert [_text(a["result"]["task"]) for a in answers] == [f"echo heard: n{i}" for i in range(64)]


async def test_a_task_left_by_a_killed_process_is_failed_at_the_next_start(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    headers = {"Authorization": f"Bearer {make_person_token(settings)}"}
    database = tmp_path / "shared.db"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = echo_service(settings, "echo", url, Echo("echo"), database=database)
    async with serving(first.app(), port), httpx.AsyncClient(base_url=url, headers=headers) as http:
        before = Endpoint(http, Echo("echo"), tmp_path)
        params = {**before.message("wait"), "configuration": {"returnImmediately": True}}
        task = (await before.rpc("SendMessage", params))["result"]["task"]
        # What a kill leaves behind: the row as it was when the turn was under way.
        left = tmp_path / "left.db"
        with sqlite3.connect(database) as now, sqlite3.connect(left) as copy:
            now.backup(copy)
    second = echo_service(settings, "echo", url, Echo("echo"), database=left)
    async with serving(second.app(), port), httpx.AsyncClient(base_url=url, headers=headers) as http:
        after = Endpoint(http, Echo("echo"), tmp_path)
        found = (await after.rpc("GetTask", {"id": task["id"]}))["result"]
        assert found["status"]["state"] == "TASK_STATE_FAILED"
        assert "restarted" in found["status"]["message"]["parts"][0]["text"]
        again = await after.rpc("SubscribeToTask", {"id": task["id"]})
        assert again["error"]["code"] == -32004


async def test_tasks_are_listed_page_by_page(endpoint: Endpoint) -> None:
    for index in range(5):
        await endpoint.rpc("SendMessage", endpoint.message(f"q{index}"))
    seen: list[str] = []
    token = ""
    while True:
        page = (await endpoint.rpc("ListTasks", {"pageSize": 2, "pageToken": token}))["result"]
        seen += [t["id"] for t in page["tasks"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert len(seen) == len(set(seen)) == 5


def _told(frames: list[dict[str, Any]]) -> list[Any]:
    """Frames without what is another one each time."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            spare = ("id", "taskId", "contextId", "messageId", "timestamp")
            return {k: "" if k in spare else plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return [plain(f) for f in frames]


@pytest.mark.parametrize("text", ["hi", "break", "caf\u00e9 \u2028 data: x\r\n\r\nevent: y"])
@pytest.mark.parametrize("configuration", [{}, {"historyLength": 0}, {"historyLength": 3}])
async def test_the_short_way_and_the_long_one_put_the_same_on_the_wire(
    endpoint: Endpoint, text: str, configuration: dict[str, Any]
) -> None:
    short = await endpoint.stream("SendStreamingMessage", {**endpoint.message(text), "configuration": configuration})
    params = {**endpoint.message(text), "configuration": configuration, "tenant": "x"}  # What the short way leaves.
    assert _told(short) == _told(await endpoint.stream("SendStreamingMessage", params))


@pytest.mark.parametrize(
    "more",
    [
        {"configuration": {"historyLength": -1}},
        {"message": {"role": "ROLE_USER", "messageId": "x", "parts": [{"text": "a"}], "taskId": "nope"}},
        {"message": {"role": "ROLE_USER", "messageId": "x", "parts": [{"text": "  "}]}},
        {"message": {"role": "ROLE_USER", "messageId": "x" * 300, "parts": [{"text": "a"}]}},
    ],
)
async def test_the_short_way_and_the_long_one_refuse_alike(endpoint: Endpoint, more: dict[str, Any]) -> None:
    answers = []
    for spare in ({}, {"tenant": "x"}):
        answers.append(await endpoint.rpc("SendStreamingMessage", {**endpoint.message("hi"), **more, **spare}))
    assert answers[0] == answers[1] and "error" in answers[0]


async def test_every_line_of_a_stream_is_data_whatever_a_text_holds(endpoint: Endpoint) -> None:
    body = {"jsonrpc": "2.0", "id": "7\r\n\r\ndata: {}", "method": "SendStreamingMessage"}
    params = endpoint.message("x\r\n\r\ndata: {}\n\u2028\u0085event: evil")
    response = await endpoint.http.post("/", json={**body, "params": params}, headers={"A2A-Version": "1.0"})
    lines = [x for x in response.content.decode("ascii").split("\r\n") if x]
    assert all(json.loads(x.removeprefix("data: "))["id"] == body["id"] for x in lines)


async def test_several_listen_to_the_same_work(endpoint: Endpoint) -> None:
    params = {**endpoint.message("wait"), "configuration": {"returnImmediately": True}}
    task = (await endpoint.rpc("SendMessage", params))["result"]["task"]
    await until(lambda: bool(endpoint.echo.seen))
    joined = [asyncio.create_task(endpoint.stream("SubscribeToTask", {"id": task["id"]})) for _ in range(3)]
    old = asyncio.create_task(endpoint.stream("tasks/resubscribe", {"id": task["id"]}, version=None))
    await asyncio.wait({*joined, old}, timeout=0.3)
    endpoint.echo.release.set()
    for frames in await asyncio.gather(*joined):
        assert frames[0]["result"]["task"]["id"] == task["id"]
        assert frames[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert (await old)[-1]["result"]["final"] is True


async def test_a_client_that_does_not_read_keeps_nobody(endpoint: Endpoint) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": endpoint.message("flood wait")}
    async with endpoint.http.stream("POST", "/", json=body, headers={"A2A-Version": "1.0"}) as response:
        await until(lambda: bool(endpoint.echo.seen))
        answer = await endpoint.rpc("SendMessage", endpoint.message("hi"))
        assert _text(answer["result"]["task"]) == "echo heard: hi"
        endpoint.echo.release.set()
        frames = [json.loads(x[5:]) async for x in response.aiter_lines() if x.startswith("data:")]
    assert frames[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_stop_ends_streams_with_the_tasks_end(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    headers = {"Authorization": f"Bearer {make_person_token(settings)}"}
    port = free_port()
    echo = Echo("echo")
    service = echo_service(settings, "echo", f"http://127.0.0.1:{port}", echo)
    async with httpx.AsyncClient(headers=headers, base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
        async with serving(service.app(), port):
            at = Endpoint(http, echo, tmp_path)
            streaming = asyncio.create_task(at.stream("SendStreamingMessage", at.message("wait")))
            await until(lambda: bool(echo.seen))
            began = asyncio.get_running_loop().time()
        frames = await streaming
        assert asyncio.get_running_loop().time() - began < 2
    status = frames[-1]["result"]["statusUpdate"]["status"]
    assert status["state"] == "TASK_STATE_FAILED" and "was stopped" in status["message"]["parts"][0]["text"]
