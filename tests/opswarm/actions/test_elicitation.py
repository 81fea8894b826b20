"""A person's desktop app with no agent in between: their client asks them, in the way of either era of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

from opswarm.mcp.meta import KEY
from tests.opswarm.actions.conftest import ANN, EVE, House, house

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


class Person:
    """Answers what the client shows, and remembers it."""

    def __init__(self, action: str = "accept", approve: object = True) -> None:
        self.result = {"action": action, "content": {"approve": approve} if action == "accept" else None}
        self.seen: list[str] = []
        self.meanwhile: Any = None

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.seen.append(params.message)
        if self.meanwhile is not None:
            self.meanwhile()
        return ElicitResult.model_validate(self.result)


@asynccontextmanager
async def desktop(at: House, mode: str, person: Person | None, token: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        transport = streamable_http_client(f"{at.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=person) as client:  # type: ignore[arg-type]
            yield client


def text(result: Any) -> str:
    return "\n".join(c.text for c in result.content)


@ERAS
async def test_a_person_is_shown_what_would_be_done_and_their_yes_does_it(tmp_path: Path, mode: str) -> None:
    person = Person()
    async with house(tmp_path) as at, desktop(at, mode, person, at.token(ANN)) as app:
        result = await app.call_tool("lamp_switch", {"name": "hall", "on": False})
        told = await at.audit()
    assert not result.is_error and "It was switched." in text(result), text(result)
    assert len(person.seen) == 1 and "Switch hall off." in person.seen[0] and "hall: off -> off" in person.seen[0]
    assert at.lamps.effects == 1
    assert [e["event"] for e in told] == ["needs_approval", "approved", "executing", "executed", "verified"]
    assert told[1]["caller"] == "person:ann"


@ERAS
@pytest.mark.parametrize(
    "person", [Person("decline"), Person("cancel"), Person(approve=False), Person(approve="yes"), Person(approve=1)]
)
async def test_anything_but_a_yes_is_a_no(tmp_path: Path, mode: str, person: Person) -> None:
    async with house(tmp_path) as at, desktop(at, mode, person, at.token(ANN)) as app:
        result = await app.call_tool("lamp_switch", {"name": "hall", "on": False})
    assert result.is_error and at.lamps.effects == 0


@ERAS
async def test_what_is_safe_is_done_by_a_person_without_a_question(tmp_path: Path, mode: str) -> None:
    person = Person()
    async with house(tmp_path) as at, desktop(at, mode, person, at.token(ANN)) as app:
        result = await app.call_tool("lamp_switch", {"name": "hall"})
    assert not result.is_error and not person.seen and at.lamps.effects == 1


@ERAS
async def test_a_world_that_changes_while_the_person_reads_is_left_alone(tmp_path: Path, mode: str) -> None:
    person = Person()
    async with house(tmp_path) as at, desktop(at, mode, person, at.token(ANN)) as app:
        # Only once: asked again in the new world, a yes would count.
        person.meanwhile = lambda: at.lamps.lit.update(hall=len(person.seen) == 1)
        result = await app.call_tool("lamp_switch", {"name": "hall", "on": False})
    if mode == "legacy":
        assert result.is_error and "world has changed" in text(result) and at.lamps.effects == 0
    else:
        # The call is made anew with the answer to a question that is not the one any more: it is asked again.
        assert all("->" in seen for seen in person.seen) and len(person.seen) >= 2


class Late(Person):
    """Answers once it was asked twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = asyncio.Event()

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.seen.append(params.message)
        if len(self.seen) == 2:
            self.twice.set()
        await asyncio.wait_for(self.twice.wait(), 20)
        return ElicitResult.model_validate(self.result)


@ERAS
async def test_attack_one_key_that_two_questions_are_asked_for_is_done_once(tmp_path: Path, mode: str) -> None:
    meta: Any = {KEY: "once"}
    person = Late()
    async with house(tmp_path) as at, desktop(at, mode, person, at.token(ANN)) as app:

        async def call() -> Any:
            return await app.call_tool("lamp_switch", {"name": "hall", "on": False}, meta=meta)

        answers = [*await asyncio.gather(call(), call()), await call()]
    assert at.lamps.effects == 1 and len(person.seen) == 2
    assert "It was switched." in text(answers[2])
    assert any("It was switched." in text(one) for one in answers[:2])


@ERAS
async def test_a_client_that_cant_ask_is_told_how_else(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path) as at, desktop(at, mode, None, at.token(ANN)) as app:
        result = await app.call_tool("lamp_switch", {"name": "hall", "on": False})
    assert "opswarm approve" in text(result) and at.lamps.effects == 0


@ERAS
@pytest.mark.parametrize("who", ["viewer", "agent"])
async def test_attack_nobody_but_a_direct_operator_is_asked_through_the_client(
    tmp_path: Path, mode: str, who: str
) -> None:
    person = Person()
    async with house(tmp_path) as at:
        token = at.token(EVE) if who == "viewer" else at.token(ANN, "devops", "t1")
        async with desktop(at, mode, person, token) as app:
            await app.call_tool("lamp_switch", {"name": "hall", "on": False})
    assert not person.seen and at.lamps.effects == 0


async def test_attack_an_answer_sent_twice_is_one_effect(tmp_path: Path) -> None:
    """A client that keeps the sealed question and its answer, and sends both again."""
    async with house(tmp_path) as at:
        headers = {
            "Authorization": f"Bearer {at.token(ANN)}", "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "lamp_switch",
        }  # fmt: skip
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "replayer", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        }
        params: dict[str, Any] = {"name": "lamp_switch", "arguments": {"name": "hall", "on": False}, "_meta": meta}

        async def send(number: int, **more: Any) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {**params, **more}}
            response = await at.http.post(f"{at.url}/mcp", json=body, headers=headers)
            found: dict[str, Any] = response.json()
            return found

        first = (await send(1))["result"]
        assert first["resultType"] == "input_required", first
        yes = {"approval": {"action": "accept", "content": {"approve": True}}}
        answered = {"requestState": first["requestState"], "inputResponses": yes}
        done = await send(2, **answered)
        at.lamps.lit["hall"] = False
        again = await send(3, **answered)
        forged = await send(4, requestState="x:y", inputResponses=yes)
        other = await send(5, **answered, arguments={"name": "desk", "on": False})
    assert "It was switched" in done["result"]["content"][0]["text"]
    assert "the first time" in again["result"]["content"][0]["text"] and at.lamps.effects == 1
    assert "error" in forged and ("error" in other or other["result"].get("resultType") == "input_required")
