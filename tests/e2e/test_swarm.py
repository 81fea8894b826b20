"""What a person does, from the command line to the cluster and back."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Machine, machine


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def url(swarm: Machine) -> str:
    found: str = json.loads((swarm.home / "state" / "run.json").read_text())["url"]
    return found


def token(swarm: Machine) -> str:
    return (swarm.home / "state" / "tokens" / "person.jwt").read_text()


def test_a_question_is_answered_with_evidence(swarm: Machine) -> None:
    asked = swarm.run("ask", "what is broken in my cluster?")
    assert asked.returncode == 0, asked.stderr
    for truth in ("Deployment media/sonarr", "OOMKilled", "code 137", "Deployment media/radarr", "ImageNotFound"):
        assert truth in asked.stdout
    assert "Offline playbook" in asked.stdout
    assert "diagnose" in asked.stderr


def test_a_named_agent_answers_about_one_workload(swarm: Machine) -> None:
    asked = swarm.run("ask", "--agent", "devops", "why is sonarr crash looping?", "--json")
    told = events(asked.stdout)
    assert [e["kind"] for e in told[:3]] == ["delegated", "tool_started", "tool_started"]
    assert [(e["tool"], e["arguments"]) for e in told[1:3]] == [
        ("diagnose", {"name": "sonarr"}),
        ("flux_diagnose", {"name": "sonarr"}),
    ]
    assert told[-1]["kind"] == "finished"
    said = "".join(str(e["text"]) for e in told if e["kind"] == "text")
    assert "256Mi" in said and "radarr" not in said


def test_any_openai_client_can_ask(swarm: Machine) -> None:
    with httpx.Client(base_url=url(swarm), headers={"Authorization": f"Bearer {token(swarm)}"}, timeout=30) as http:
        models = [m["id"] for m in http.get("/v1/models").json()["data"]]
        messages = [{"role": "user", "content": "why is sonarr crash looping?"}]
        body = http.post("/v1/chat/completions", json={"model": "orchestrator", "messages": messages}).json()
        earlier = [*messages, {"role": "assistant", "content": "It is out of memory."}]
        more = [*earlier, {"role": "user", "content": "what is wrong with it?"}]
        follow = http.post("/v1/chat/completions", json={"model": "devops", "messages": more}).json()
    message = body["choices"][0]["message"]
    assert models == ["orchestrator", "devops"]
    assert "OOMKilled" in message["content"] and "diagnose(name=sonarr)" in message["reasoning_content"]
    assert "diagnose(name=sonarr)" in follow["choices"][0]["message"]["reasoning_content"]


def test_other_questions_find_their_tool(swarm: Machine) -> None:
    for question, truth in (
        ("list the pods in media", "jellyfin"),
        ("show the last 5 log lines of prowlarr in media", "prowlarr"),
        ("how many nodes do I have?", "control-plane"),
        ("events in media", "BackOff"),
        ("which pods use most memory?", "MEMORY"),
        ("list the helmreleases", "sonarr"),
    ):
        asked = swarm.run("ask", question)
        assert asked.returncode == 0 and truth in asked.stdout, (question, asked.stdout, asked.stderr)


def test_what_it_can_not_do_it_says(swarm: Machine) -> None:
    asked = swarm.run("ask", "delete the pod sonarr in media")
    assert "can't change anything" in asked.stdout and "What I can do here" in asked.stdout


def test_a_conversation_remembers_what_it_is_about(swarm: Machine) -> None:
    talked = swarm.run("chat", text="why is sonarr crash looping?\nand its logs?\n\n")
    assert talked.returncode == 0
    assert "pods_log(pod=sonarr)" in talked.stderr


def test_agents_tasks_and_doctor_tell_what_is(swarm: Machine) -> None:
    agents = swarm.run("agents")
    assert "devops" in agents.stdout and "alive" in agents.stdout
    swarm.run("ask", "is everything ok?")
    assert "completed" in swarm.run("tasks").stdout
    doctor = swarm.run("doctor")
    assert doctor.returncode == 0 and "BAD" not in doctor.stdout, doctor.stdout


def test_a_second_up_finds_the_first(swarm: Machine) -> None:
    again = swarm.run("up")
    assert again.returncode == 0 and "runs already" in again.stderr


def test_health_metrics_and_one_run_id(swarm: Machine) -> None:
    base = url(swarm)
    swarm.run("ask", "is everything ok?")
    for path in ("", "/agents/devops", "/gateway", "/tools/kubernetes"):
        assert httpx.get(f"{base}{path}/healthz").status_code == 200
        assert httpx.get(f"{base}{path}/readyz").json()["status"] == "ready"
    rows = json.loads((swarm.home / "state" / "run.json").read_text())["rows"]
    metrics = httpx.get(next(r["url"] for r in rows if r["service"] == "metrics"), follow_redirects=True).text
    assert 'opswarm_turns_total{agent="devops"' in metrics
    trace = "a" * 32
    answer = httpx.get(f"{base}/healthz", headers={"traceparent": f"00-{trace}-{'b' * 16}-01"})
    assert answer.headers["x-opswarm-run"] == trace


def test_every_door_asks_who_is_there(swarm: Machine) -> None:
    base = url(swarm)
    doors = ["/", "/agents/devops/", "/gateway/v1/chat/completions", "/tools/kubernetes/mcp"]
    for door in doors:
        assert httpx.post(f"{base}{door}", json={}).status_code == 401, door
    assert httpx.get(f"{base}/agents").status_code == 401
    path = swarm.home / "state" / "tokens" / "person.jwt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_kagents_path_reaches_the_agent_it_names(swarm: Machine) -> None:
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "message/send",
        "params": {"message": {"kind": "message", "role": "user", "messageId": "kagent-1",
                               "contextId": "ctx-3f1f1c1e-8a52-4a4a-9a43-1c1a3b1b1b1b",
                               "parts": [{"kind": "text", "text": "list namespaces"}]}},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {token(swarm)}"}
    task = httpx.post(f"{url(swarm)}/api/a2a/kagent/devops", json=body, headers=headers, timeout=30).json()["result"]
    assert task["status"]["state"] == "completed"
    assert task["contextId"].startswith("ctx-3f1f")
    assert "flux-system" in json.dumps(task["artifacts"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("up", "--kubeconfig", "/nonexistent"), "kubeconfig"),
        (("up", "--scenario", "no-such"), "image-typo"),
        (("up", "--port", "99999"), "not a port"),
        (("serve", "no-such"), "There is no service 'no-such'"),
        (("mcp", "no-such", "--stdio"), "There is no tool server 'no-such'"),
        (("mcp", "kubernetes"), "--http or --stdio"),
        (("ask", "hello"), "opswarm up"),
        (("down",), "No swarm runs here"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    ran = machine(tmp_path / "home").run(*arguments)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    assert len([x for x in ran.stderr.splitlines() if x.strip() and not x.startswith("  ")]) == 1


def test_a_bad_cluster_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "mine", "context": {"cluster": "c", "user": "u"}}
    body = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
            "users": [{"name": "u", "user": {"token": "t"}}], "current-context": "mine"}  # fmt: skip
    config.write_text(json.dumps(body))
    here = machine(tmp_path / "home")
    unknown = here.run("up", "--kubeconfig", str(config), "--context", "other")
    dead = here.run("up", "--kubeconfig", str(config))
    assert (unknown.returncode, dead.returncode) == (2, 2)
    assert "no context 'other'" in unknown.stderr
    assert "can't be reached" in dead.stderr
    assert "Traceback" not in unknown.stderr + dead.stderr


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        here = machine(tmp_path / "home")
        ran = here.run("up", "--port", port)
        lab = machine(tmp_path / "other", OPSWARM_LAB__PORT=port).run("up")
    assert (ran.returncode, lab.returncode) == (2, 2)
    assert f"Port {port} on 127.0.0.1 is in use" in ran.stderr
    assert "in use" in lab.stderr


def test_ctrl_c_stops_everything_within_five_seconds(tmp_path: Path) -> None:
    here = machine(tmp_path / "home")
    process = here.start("up", "--scenario", "none")
    assert process.stdout is not None and process.stderr is not None
    table = [process.stdout.readline() for _ in range(2)]
    assert "SERVICE" in table[0]
    healthy = here.run("ask", "what is broken?")
    assert "No problems found" in healthy.stdout
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert "Traceback" not in complaints and "never awaited" not in complaints
    assert not (here.home / "state" / "run.json").exists()


class Silent(BaseHTTPRequestHandler):
    """An Ollama that says it is there and never answers a chat."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        time.sleep(60)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_ctrl_c_stops_everything_with_turns_in_flight(tmp_path: Path) -> None:
    model = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    model.daemon_threads = True
    threading.Thread(target=model.serve_forever, daemon=True).start()
    here = machine(tmp_path / "home", OPSWARM_MODELS__OLLAMA_API_BASE=f"http://127.0.0.1:{model.server_address[1]}")
    process = here.start("up", "--scenario", "oom")
    assert process.stdout is not None and "SERVICE" in process.stdout.readline()
    asking = [here.start("ask", "--agent", "devops", "tell me about sonarr", "--json") for _ in range(3)]
    for one in asking:
        assert one.stdout is not None and "delegated" in one.stdout.readline()
    idle = [socket.create_connection(("127.0.0.1", int(url(here).rpartition(":")[2]))) for _ in range(3)]
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=20)
    took = time.monotonic() - began
    for one in asking:
        one.communicate(timeout=20)
    for connection in idle:
        connection.close()
    model.shutdown()
    model.server_close()
    assert took < 5
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints and "never awaited" not in complaints, complaints
    with sqlite3.connect(here.home / "state" / "data" / "orchestrator.db") as database:
        states = {s for (s,) in database.execute("SELECT state FROM tasks")}
    assert states <= {4, 5}, "failed or canceled, none left working"


def test_a_desktop_app_gets_the_tools_over_stdio(swarm: Machine) -> None:
    kubeconfig = swarm.home / "state" / "lab" / "kubeconfig"
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize",
         "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "diagnose", "arguments": {}}},
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "opswarm.cli.main", "mcp", "kubernetes", "--stdio", "--kubeconfig", str(kubeconfig)],
        cwd=swarm.home, env=swarm.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    for message in messages:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        if "id" in message:
            answer = json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert "media/sonarr" in answer["result"]["content"][0]["text"]
    process.stdout.close()
