"""The pipe in the real Open WebUI. Opt in: `make openwebui`, or `OPENWEBUI_COMMAND=/path/to/open-webui pytest …`.

Open WebUI itself runs once for all of these; what it talks to is made anew for each.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from integrations.openwebui import install
from opswarm.guard import keys
from tests.e2e.conftest import Machine, swarm_on_lab
from tests.integrations.openwebui.conftest import Apart, Crew, crew_at
from tests.support.hosting import free_port, until

COMMAND = os.environ.get("OPENWEBUI_COMMAND", "")
START_SECONDS = 180
PASSWORD = "Only-for-this-test-1"

pytestmark = pytest.mark.timeout(300)
if not COMMAND:
    pytest.skip("the real Open WebUI is only tried by `make openwebui`", allow_module_level=True)


@dataclass(frozen=True)
class Person:
    id: str
    token: str


class Program:
    """A running Open WebUI with two people, `admin` and `user`."""

    def __init__(self, url: str, admin: Person, user: Person) -> None:
        self.url = url
        self.admin = admin
        self.user = user

    def as_(self, person: Person) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {person.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    async def install(self, url: str, token: str, *words: str) -> list[str]:
        given = ["--webui", self.url, "--key", self.admin.token, "--url", url, "--token", token, *words]
        return await asyncio.to_thread(install.run, given)

    async def models(self, person: Person) -> dict[str, str]:
        async with self.as_(person) as http:
            listed = (await http.get("/api/models?refresh=true")).json()["data"]
        return {m["id"]: m["name"] for m in listed if "." in m["id"]}

    async def ask(self, person: Person, text: str, *, model: str = "opswarm.devops") -> dict[str, Any]:
        """A plain API request, answered whole."""
        body = {"model": model, "stream": False, "messages": [{"role": "user", "content": text}]}
        async with self.as_(person) as http:
            answer: dict[str, Any] = (await http.post("/api/chat/completions", json=body)).json()
            return answer

    @asynccontextmanager
    async def stream(self, person: Person, text: str) -> AsyncIterator[AsyncIterator[Any]]:
        """A plain API request, its chunks as they come."""
        body = {"model": "opswarm.devops", "stream": True, "messages": [{"role": "user", "content": text}]}

        async def chunks(response: httpx.Response) -> AsyncIterator[Any]:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line[6:])

        async with self.as_(person) as http, http.stream("POST", "/api/chat/completions", json=body) as response:
            yield chunks(response)

    async def chat(self, person: Person, text: str, *, model: str = "opswarm.devops") -> Chat:
        """A new chat, begun as the browser begins one."""
        question, answer = str(uuid.uuid4()), str(uuid.uuid4())
        message = {"id": question, "parentId": None, "childrenIds": [answer], "role": "user", "content": text}
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": text}],
            "session_id": "a-browser",
            "id": answer,
            "parent_id": None,
            "user_message": message,
            "background_tasks": {"title_generation": True, "tags_generation": True},
        }
        async with self.as_(person) as http:
            begun = (await http.post("/api/chat/completions", json=body)).json()
        return Chat(self, person, begun["chat_id"], answer)


@dataclass(frozen=True)
class Chat:
    program: Program
    person: Person
    id: str
    answer: str

    async def message(self) -> dict[str, Any]:
        """The answer as Open WebUI keeps it."""
        async with self.program.as_(self.person) as http:
            kept = (await http.get(f"/api/v1/chats/{self.id}")).json()
        found: dict[str, Any] = kept["chat"]["history"]["messages"][self.answer]
        return {**found, "title": kept["title"]}

    async def ended(self) -> dict[str, Any]:
        async def done() -> bool:
            return bool((found := await self.message()).get("done") or found.get("error"))

        await until(done, 30)
        return await self.message()

    async def under_way(self) -> None:
        """Waits until the agent is at its tool."""

        async def shown() -> bool:
            return "look …" in [s["description"] for s in (await self.message()).get("statusHistory", [])]

        await until(shown)

    async def stop(self) -> None:
        async with self.program.as_(self.person) as http:
            assert (await http.post(f"/api/tasks/chat/{self.id}/stop")).status_code == 200


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home, port = tmp_path_factory.mktemp("openwebui"), free_port()
    url = f"http://127.0.0.1:{port}"
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    environment = {
        **kept,
        "HOME": str(home),
        "DATA_DIR": str(home / "data"),
        "WEBUI_SECRET_KEY": "only-for-this-test",
        "USE_SLIM_DOCKER": "true",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ENABLE_OLLAMA_API": "false",
        "ENABLE_OPENAI_API": "true",
        "OPENAI_API_BASE_URLS": "",
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        "DEFAULT_USER_ROLE": "user",
        "ENABLE_PERSISTENT_CONFIG": "false",
        "ENABLE_API_KEYS": "true",
    }
    log = (home / "log").open("wb")
    command = [COMMAND, "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(url, process, Path(log.name))
        admin, user = (_sign_up(url, name) for name in ("admin", "user"))
        yield Program(url, admin, user)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(f"Open WebUI did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _sign_up(url: str, name: str) -> Person:
    form = {"name": name, "email": f"{name}@example.org", "password": PASSWORD}
    if name == "admin":
        made = httpx.post(f"{url}/api/v1/auths/signup", json=form, timeout=30, trust_env=False).json()
    else:
        admin = httpx.post(f"{url}/api/v1/auths/signin", json={**form, "email": "admin@example.org"}, timeout=30).json()
        headers = {"Authorization": f"Bearer {admin['token']}"}
        made = httpx.post(f"{url}/api/v1/auths/add", json={**form, "role": "user"}, headers=headers, timeout=30).json()
    return Person(made["id"], made["token"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The whole swarm on the lab, as `opswarm up` starts it."""
    with swarm_on_lab(tmp_path_factory.mktemp("swarm")) as found:
        yield found


def address(lab: Machine) -> str:
    found: str = json.loads((lab.home / "state" / "run.json").read_text())["url"]
    return found


def front(lab: Machine) -> str:
    return lab.run("token", "--front", "openwebui").stdout.strip()


async def test_the_whole_swarm_answers_in_a_chat(program: Program, lab: Machine) -> None:
    said = await program.install(address(lab), front(lab), "--for-everyone")
    assert said[-1] == "Its models: opswarm.orchestrator, opswarm.devops."
    assert await program.models(program.user) == {
        "opswarm.orchestrator": "Opswarm: orchestrator",
        "opswarm.devops": "Opswarm: devops",
    }
    chat = await program.chat(program.user, "why is sonarr crash looping?", model="opswarm.orchestrator")
    answer = await chat.ended()
    assert "OOMKilled" in answer["content"] and not answer.get("error")
    assert '<details type="tool_calls" done="true"' in answer["content"]
    statuses = [s["description"] for s in answer["statusHistory"]]
    assert statuses[:2] == ["devops is asked (it is the only agent)", "diagnose …"]
    assert statuses[-1].startswith("Done in")

    async def titled() -> bool:
        return (await chat.message())["title"] == "why is sonarr crash looping?"

    await until(titled, 20)


async def test_an_api_client_gets_it_streamed_and_whole(program: Program, lab: Machine) -> None:
    await program.install(address(lab), front(lab), "--for-everyone")
    whole = await program.ask(program.user, "why is sonarr crash looping?")
    assert "OOMKilled" in whole["choices"][0]["message"]["content"]
    async with program.stream(program.user, "why is sonarr crash looping?") as chunks:
        deltas = [c["choices"][0]["delta"] async for c in chunks]
    assert "OOMKilled" in "".join(d.get("content") or "" for d in deltas)
    assert "✓ diagnose" in "".join(d.get("reasoning_content") or "" for d in deltas)


async def test_an_api_key_or_a_password_will_do_to_install(program: Program, crew: Crew, tmp_path: Path) -> None:
    async with program.as_(program.admin) as http:
        key = (await http.post("/api/v1/auths/api_key")).json()["api_key"]
    (tmp_path / "password").write_text(PASSWORD)
    for proof in (["--key", key], ["--email", "admin@example.org", "--password-file", str(tmp_path / "password")]):
        given = ["--webui", program.url, *proof, "--url", crew.url, "--token", crew.token]
        assert "updated" in (await asyncio.to_thread(install.run, given))[0]


async def test_installed_twice_it_is_there_once_and_for_admins_only(program: Program, tmp_path: Path) -> None:
    async with crew_at(tmp_path) as crew:
        assert "created" in (await program.install(crew.url, crew.token, "--id", "again"))[0]
        assert "updated" in (await program.install(crew.url, crew.token, "--id", "again"))[0]
        assert "again.devops" in await program.models(program.admin)
        assert "again.devops" not in await program.models(program.user)
        async with program.as_(program.admin) as http:
            assert (await http.delete("/api/v1/functions/id/again/delete")).status_code == 200


@pytest.fixture
async def crew(tmp_path: Path, program: Program) -> AsyncIterator[Crew]:
    async with crew_at(tmp_path) as found:
        await program.install(found.url, found.token, "--for-everyone")
        yield found


async def test_two_people_share_nothing(program: Program, crew: Crew) -> None:
    await program.ask(program.admin, "mine")
    await program.ask(program.user, "yours")
    subjects = [r.principal.subject for r in crew.echo.seen]
    assert subjects == [f"openwebui:{program.admin.id}", f"openwebui:{program.user.id}"]
    listed = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    async with httpx.AsyncClient(timeout=10) as http:
        for person, asked in ((program.admin, "mine"), (program.user, "yours")):
            headers = {"Authorization": f"Bearer {crew.token}", "A2A-Version": "1.0", "X-Opswarm-User": person.id}
            tasks = (await http.post(crew.url, json=listed, headers=headers)).json()["result"]["tasks"]
            assert [t["history"][0]["parts"][0]["text"] for t in tasks] == [asked]


async def test_stop_in_a_chat_cancels_the_task(program: Program, crew: Crew) -> None:
    chat = await program.chat(program.user, "wait")
    await chat.under_way()
    await chat.stop()
    await asyncio.wait_for(crew.echo.cancelled.wait(), 10)


async def test_an_api_client_that_leaves_cancels_the_task(program: Program, crew: Crew) -> None:
    async with program.stream(program.user, "wait") as chunks:
        await asyncio.wait_for(anext(chunks), 10)
    await asyncio.wait_for(crew.echo.cancelled.wait(), 10)


async def test_an_agent_that_fails_says_so_everywhere(program: Program, crew: Crew) -> None:
    told = "The devops agent broke on this request; see its log."
    assert (await program.ask(program.user, "break"))["error"] == {"message": told}
    async with program.stream(program.user, "break") as chunks:
        assert {"error": {"message": told}} in [c async for c in chunks]
    kept = await (await program.chat(program.user, "break")).ended()
    assert kept["error"] == {"content": {"message": told}}


async def test_an_orchestrator_that_dies_midway_is_said(program: Program, apart: Apart) -> None:
    await program.install(apart.crew.url, apart.crew.token, "--for-everyone")
    chat = await program.chat(program.user, "wait")
    await chat.under_way()
    apart.kill()
    kept = await chat.ended()
    told = "The connection to Opswarm broke before the answer's end. Ask again."
    assert kept["error"] == {"content": {"message": told}}
    answer = await program.ask(program.user, "again")
    assert "does not answer at" in answer["error"]["message"]
    (entry,) = [name for id, name in (await program.models(program.admin)).items() if id.startswith("opswarm.")]
    assert "does not answer at" in entry


async def test_a_wrong_token_is_said_in_the_list_and_at_the_install(program: Program, crew: Crew) -> None:
    with pytest.raises(install.Failure, match="does not accept the token of this pipe"):
        await program.install(crew.url, "wrong")
    person = keys.mint_person(crew.settings)
    await program.install(crew.url, person)
    assert "opswarm token --front" in (await program.ask(program.user, "hi"))["error"]["message"]


async def connect(program: Program, url: str, token: str) -> None:
    """Makes `/v1` the OpenAI connection, with the front's token and the user named in a header."""
    connection = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": [f"{url}/v1"],
        "OPENAI_API_KEYS": [token],
        "OPENAI_API_CONFIGS": {"0": {"enable": True, "headers": {"X-Opswarm-User": "{{USER_ID}}"}}},
    }
    async with program.as_(program.admin) as http:
        assert (await http.post("/openai/config/update", json=connection)).status_code == 200
        models = [m["id"] for m in (await http.get("/api/models?refresh=true")).json()["data"]]
        assert {"orchestrator", "devops"} <= set(models)


async def test_stop_reaches_through_the_openai_connection_too(program: Program, crew: Crew) -> None:
    await connect(program, crew.url, crew.token)
    chat = await program.chat(program.admin, "wait", model="devops")
    await until(lambda: bool(crew.echo.seen))
    assert crew.echo.seen[0].principal.subject == f"openwebui:{program.admin.id}"
    await chat.stop()
    await asyncio.wait_for(crew.echo.cancelled.wait(), 10)


async def test_the_openai_connection_needs_no_code(program: Program, lab: Machine) -> None:
    await connect(program, address(lab), front(lab))
    chat = await program.chat(program.admin, "why is sonarr crash looping?", model="orchestrator")
    kept = await chat.ended()
    assert "OOMKilled" in json.dumps(kept["output"])

    async def titled() -> bool:
        return (await chat.message())["title"].startswith("why is sonarr")

    await until(titled, 20)
    async with httpx.AsyncClient(timeout=10) as http:
        for user, asked in ((program.admin.id, 1), (program.user.id, 0)):
            headers = {"Authorization": f"Bearer {front(lab)}", "A2A-Version": "1.0", "X-Opswarm-User": user}
            listed = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
            tasks = (await http.post(address(lab), json=listed, headers=headers)).json()["result"].get("tasks", [])
            chats = [t for t in tasks if t["contextId"].startswith("chat-")]
            assert len(chats) == asked
