"""Services as pods run them, one process each, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lab.app import create_lab
from lab.serve import serve
from opswarm.guard.keys import make_person_token
from tests.e2e.conftest import Machine, machine
from tests.support.hosting import free_port, serving, settings_at, until


class Pods:
    """Services in processes of their own, on ports known beforehand."""

    def __init__(self, home: Path, kubeconfig: Path, gateway: str) -> None:
        self.ports = {n: free_port() for n in ("orchestrator", "devops", "kubernetes", "gateway")}
        addresses = {n: f"http://127.0.0.1:{p}" for n, p in self.ports.items()}
        if gateway:
            addresses["gateway"] = gateway
        self.here: Machine = machine(
            home,
            OPSWARM_ADDRESSES=json.dumps(addresses),
            OPSWARM_KUBERNETES__KUBECONFIG=str(kubeconfig),
            OPSWARM_LOG__LEVEL="INFO",
        )
        self.token = make_person_token(settings_at(home / "state"))
        self.http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self.token}", "A2A-Version": "1.0"}, timeout=30
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = (home / "pods.log").open("wb")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    async def start(self, name: str) -> None:
        words = ["mcp", name, "--http"] if name == "kubernetes" else ["serve", name]
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "opswarm.cli.main", *words, "--port", str(self.ports[name])],
            cwd=self.here.home, env=self.here.environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip

        async def up() -> bool:
            try:
                return (await self.http.get(f"{self.url(name)}/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(up, 30)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(5)

    async def rpc(self, name: str, method: str, **params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        found: dict[str, Any] = (await self.http.post(f"{self.url(name)}/", json=body)).json()
        return found

    async def ask(self, name: str, text: str, **configuration: Any) -> dict[str, Any]:
        message = {"role": "ROLE_USER", "messageId": uuid.uuid4().hex, "parts": [{"text": text}]}
        answer = await self.rpc(name, "SendMessage", message=message, configuration=configuration)
        task: dict[str, Any] = answer["result"]["task"]
        return task

    async def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(10)
        await self.http.aclose()
        self.log.close()


@asynccontextmanager
async def pods(tmp_path: Path, *names: str, gateway: str = "") -> AsyncIterator[Pods]:
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(await serve(create_lab(["oom"], tick_seconds=0)))
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(lab.kubeconfig())
        found = Pods(tmp_path / "home", kubeconfig, gateway)
        stack.push_async_callback(found.close)
        for name in names:
            await found.start(name)
        yield found


def text(task: dict[str, Any]) -> str:
    return "".join(p.get("text", "") for a in task.get("artifacts", ()) for p in a["parts"])


async def test_with_the_gateway_dead_the_agent_answers_by_its_own_playbook_and_says_so(tmp_path: Path) -> None:
    gateway = f"http://127.0.0.1:{free_port()}"
    async with pods(tmp_path, "kubernetes", "orchestrator", "devops", gateway=gateway) as swarm:
        task = await swarm.ask("devops", "why is sonarr failing?")
        ready = (await swarm.http.get(f"{swarm.url('devops')}/readyz")).json()
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert "model gateway" in text(task) and "can't be reached" in text(task)
    assert "OOMKilled" in text(task)
    assert ready["status"] == "not ready" and "gateway" in ready["checks"]["gateway"]
    assert ready["checks"]["tool server kubernetes"] == "ok"


async def test_a_tool_server_that_is_dead_is_named_and_found_when_it_comes(tmp_path: Path) -> None:
    gateway = f"http://127.0.0.1:{free_port()}"
    async with pods(tmp_path, "orchestrator", "devops", gateway=gateway) as swarm:
        before = await swarm.ask("devops", "why is sonarr failing?")
        await swarm.start("kubernetes")
        after = await swarm.ask("devops", "why is sonarr failing?")
        swarm.kill("kubernetes")
        gone = await swarm.ask("devops", "why is sonarr failing?")
    assert "kubernetes tool server can't be reached" in text(before)
    assert "OOMKilled" in text(after)
    assert "can't be reached" in text(gone) and "OOMKilled" not in text(gone)


async def test_with_the_orchestrator_dead_an_agent_says_why_it_can_not_work(tmp_path: Path) -> None:
    gateway = f"http://127.0.0.1:{free_port()}"
    async with pods(tmp_path, "devops", gateway=gateway) as swarm:
        task = await swarm.ask("devops", "why is sonarr failing?")
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    assert "orchestrator can't be reached" in task["status"]["message"]["parts"][0]["text"]


async def test_an_agent_killed_in_the_middle_leaves_no_task_working(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def completions(request: Request) -> Response:
        async def slowly() -> AsyncIterator[bytes]:
            chunk = {"choices": [{"delta": {"content": "thinking"}}]}
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            asked.set()
            await asyncio.Event().wait()

        return StreamingResponse(slowly(), media_type="text/event-stream")

    model = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])
    async with (
        serving(model) as gateway,
        pods(tmp_path, "kubernetes", "orchestrator", "devops", gateway=gateway) as swarm,
    ):
        task = await swarm.ask("devops", "why is sonarr failing?", returnImmediately=True)
        delegated = await swarm.ask("orchestrator", "@devops why is sonarr failing?", returnImmediately=True)
        await asyncio.wait_for(asked.wait(), 20)
        swarm.kill("devops")

        async def ended() -> bool:
            found = (await swarm.rpc("orchestrator", "GetTask", id=delegated["id"]))["result"]
            return bool(found["status"]["state"] == "TASK_STATE_FAILED")

        await until(ended, 20)
        front = (await swarm.rpc("orchestrator", "GetTask", id=delegated["id"]))["result"]
        await swarm.start("devops")
        found = (await swarm.rpc("devops", "GetTask", id=task["id"]))["result"]
        again = await swarm.rpc("devops", "SubscribeToTask", id=task["id"])
        listed = (await swarm.rpc("devops", "ListTasks"))["result"]["tasks"]
    assert "devops agent stopped answering" in front["status"]["message"]["parts"][0]["text"]
    assert found["status"]["state"] == "TASK_STATE_FAILED"
    assert "restarted" in found["status"]["message"]["parts"][0]["text"]
    assert again["error"]["code"] == -32004
    assert {t["status"]["state"] for t in listed} == {"TASK_STATE_FAILED"}


async def test_one_run_id_goes_through_every_service(tmp_path: Path) -> None:
    async with pods(tmp_path, "kubernetes", "gateway", "orchestrator", "devops") as swarm:
        run = uuid.uuid4().hex
        swarm.http.headers["traceparent"] = f"00-{run}-{'b' * 16}-01"
        task = await swarm.ask("orchestrator", "@devops why is sonarr failing?")
        token = swarm.token
    lines = [json.loads(line) for line in (tmp_path / "home" / "pods.log").read_text().splitlines() if line[:1] == "{"]
    told = {line["service"] for line in lines if line.get("run") == run}
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert told == {"orchestrator", "devops", "gateway", "kubernetes"}
    shown = json.dumps(lines)
    assert token not in shown and "eyJ" not in shown
    assert "agent:devops for person:local" in shown
