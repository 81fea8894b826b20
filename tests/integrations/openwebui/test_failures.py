"""What the pipe makes of an orchestrator that answers otherwise than it should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.integrations.openwebui.program import Program, content, error
from tests.integrations.openwebui.stub import Stub, event, sse, state, stubbed, task, text
from tests.support.hosting import free_port, until


@pytest_asyncio.fixture
async def stub() -> AsyncIterator[Stub]:
    async with stubbed() as found:
        yield found


def program(stub: Stub, **valves: Any) -> Program:
    return Program(stub.url, "t", **valves)


def refusal(status: int, message: str = "", **headers: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status_code=status, headers=headers)


REFUSALS = [
    (lambda: refusal(401, "The bearer token has expired."), "token has expired. An administrator sets a new one"),
    (lambda: refusal(403, "Not you."), "Opswarm does not allow this. Not you."),
    (lambda: PlainTextResponse("nginx", status_code=404), "There is no orchestrator at"),
    (lambda: refusal(429, "slow", **{"Retry-After": "7"}), "Try again in 7 s."),
    (lambda: refusal(429), "Try again soon."),
    (lambda: refusal(413, "The request is larger than 9 bytes."), "larger than 9 bytes"),
    (lambda: PlainTextResponse("<html>x", status_code=502), "HTTP 502. Its log says why."),
]


@pytest.mark.parametrize(("answer", "told"), REFUSALS)
async def test_a_refusal_is_a_sentence_and_begins_nothing(stub: Stub, answer: Any, told: str) -> None:
    stub.answer = stub.models = answer
    assert told in error(await program(stub).chunks("hi"))
    assert stub.methods() == ["SendStreamingMessage"]
    (entry,) = await program(stub).pipe.pipes()
    assert entry["id"] == "unavailable" and told in entry["name"]
    assert "could not be listed" in error(await program(stub).chunks("hi", agent="unavailable"))


@pytest.mark.parametrize("body", [b"not json", b'{"data": [{}]}', b'{"data": 3}', b"[]", b"\xff"])
async def test_a_list_that_is_none_is_said_in_the_entry(stub: Stub, body: bytes) -> None:
    stub.models = lambda: Response(body, media_type="application/json")
    (entry,) = await program(stub).pipe.pipes()
    assert "is not Opswarm" in entry["name"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{free}", "nonsense", "", "http://[bad", "ftp://x", "http://h:99999"])
async def test_an_address_where_nobody_answers_is_said(url: str) -> None:
    here = Program(url.format(free=free_port()), "t")
    assert "does not answer at" in error(await here.chunks("hi"))
    (entry,) = await here.pipe.pipes()
    assert "does not answer at" in entry["name"]


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((sse(task(), text("half")),), "broke off before its end"),
        ((b"",), "broke off before its end"),
        ((b"data: nonsense\n\n",), "not an answer"),
        ((b'data: {"result": 3}\n\n',), "refused without saying why"),
        ((b'data: {"error": {"code": -32602, "message": "No\\u0000 such agent."}}\n\n',), "No such agent."),
        ((sse(task(), state("FAILED", "The cluster is gone.")),), "The cluster is gone."),
        ((sse(task(), state("FAILED")),), "failed without saying why"),
        ((sse(task(), state("CANCELED")),), "was cancelled"),
        ((sse(task(), state("REJECTED", "Not mine.")),), "Not mine."),
        ((sse(task(), state("AUTH_REQUIRED")),), "wants credentials"),
        ((sse(task(), text("x" * 3_000_000), text("y" * 1_500_000)),), "has no end"),
        ((b"data: " + b"z" * 4_500_000,), "has no end"),
    ],
)
async def test_a_stream_that_ends_badly_is_said_after_what_came_before(
    stub: Stub, pieces: tuple[bytes, ...], told: str
) -> None:
    stub.answer = lambda: stub.streamed(*pieces)
    chunks = await program(stub).chunks("hi")
    assert told in error(chunks)
    if b"half" in pieces[0]:
        assert content(chunks) == "half"


async def test_what_was_begun_and_broke_is_cancelled_for_its_user(stub: Stub) -> None:
    stub.answer = lambda: stub.streamed(sse(task(), text("half")))
    await program(stub).chunks("hi", user="u-9")
    assert stub.methods() == ["SendStreamingMessage", "CancelTask"]
    assert stub.asked[1]["params"] == {"id": "t-1"}
    assert {h["x-opswarm-user"] for h in stub.headers} == {"u-9"}


@pytest.mark.parametrize("how", ["stop", "deadline"])
async def test_a_question_left_before_its_task_has_a_name_is_cancelled_too(stub: Stub, how: str) -> None:
    stub.answer = lambda: stub.streamed(hold=True)
    here = program(stub, timeout_seconds=0.5 if how == "deadline" else 30)
    reading = asyncio.create_task(here.chunks("hi"))
    await until(lambda: bool(stub.asked))
    if how == "stop":
        reading.cancel()
    await asyncio.wait({reading}, timeout=5)
    assert stub.methods() == ["SendStreamingMessage", "SendMessage", "CancelTask"]
    sent, again = (a["params"]["message"]["messageId"] for a in stub.asked[:2])
    assert sent == again and stub.asked[1]["params"]["configuration"] == {"returnImmediately": True}


async def test_a_stop_never_waits_long_for_an_orchestrator_that_is_gone(stub: Stub) -> None:
    here = program(stub)
    stub.answer = lambda: stub.streamed(sse(task(), text("half")), hold=True)
    reading = asyncio.create_task(here.chunks("hi"))
    await until(lambda: bool(stub.asked))
    here.pipe.valves.url = f"http://127.0.0.1:{free_port()}"
    reading.cancel()
    done, _ = await asyncio.wait({reading}, timeout=5)
    assert done


async def test_a_question_back_ends_the_turn_with_its_text(stub: Stub) -> None:
    stub.answer = lambda: stub.streamed(sse(task(), text("I can restart it."), state("INPUT_REQUIRED", "Which one?")))
    chunks = await program(stub).chunks("hi")
    assert content(chunks) == "I can restart it.\n\nWhich one?"
    assert not [c for c in chunks if "error" in c] and "CancelTask" not in stub.methods()


async def test_what_only_looks_like_the_end_of_a_line_is_text(stub: Stub) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be"
    for end in ("\n", "\r\n"):
        whole = b": ping" + end.encode() * 2 + sse(task(), text(odd), state("COMPLETED", "One agent is down."), end=end)
        pieces = [whole[n : n + 7] for n in range(0, len(whole), 7)]
        stub.answer = lambda pieces=pieces: stub.streamed(*pieces)  # type: ignore[misc]
        assert content(await program(stub).chunks("hi")) == f"{odd}\n\n> One agent is down."


async def test_an_event_may_have_several_lines_of_data(stub: Stub) -> None:
    body = json.dumps({"result": state("COMPLETED", "well")}, indent=1).splitlines()
    stub.answer = lambda: stub.streamed(("".join(f"data: {line}\n" for line in body) + "\n").encode())
    assert content(await program(stub).chunks("hi")) == "\n\n> well"


async def test_artifacts_that_come_again_with_the_task_are_not_said_twice(stub: Stub) -> None:
    artifact = {"artifactId": "answer", "parts": [{"text": "one"}]}
    whole = {**task("TASK_STATE_COMPLETED")["task"], "artifacts": [artifact]}
    more = text("two", artifact="other")
    stub.answer = lambda: stub.streamed(sse(task(), text("one"), more, {"task": whole}))
    assert content(await program(stub).chunks("hi")) == "one\n\ntwo"
    stub.answer = lambda: stub.streamed(sse({"task": whole}))
    assert content(await program(stub).chunks("hi")) == "one"
    stub.answer = lambda: stub.streamed(sse({"message": {"parts": [{"text": "at once"}]}}))
    assert content(await program(stub).chunks("hi")) == "at once"


async def test_a_tool_can_not_break_out_of_its_fold(stub: Stub) -> None:
    evil = '"></details><img src=x onerror=alert(1)>'
    started = event("tool_started", call_id="1", tool=evil, arguments={"a": evil})
    finished = event("tool_finished", call_id="1", tool=evil, ok=False, summary=evil, seconds=1)
    stub.answer = lambda: stub.streamed(sse(task(), started, finished, state("COMPLETED")))
    said = content(await program(stub).chunks("hi"))
    assert said.count("<") == 4 and "<img" not in said and 'status="failed"' in said


async def test_tokens_are_counted_together(stub: Stub) -> None:
    used = event("usage", model="m", input_tokens=10.0, output_tokens=5.0)
    stub.answer = lambda: stub.streamed(sse(task(), used, used, state("COMPLETED")))
    chunks = await program(stub).chunks("hi")
    assert chunks[-1]["usage"] == {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}


async def test_what_is_unknown_on_the_wire_is_passed_over(stub: Stub) -> None:
    odd = [{"other": {}}, {"task": 3}, {"statusUpdate": {}}, {"artifactUpdate": {"artifact": 1}}, event("tomorrow")]
    parts = {"artifactUpdate": {"artifact": {"artifactId": "a", "parts": [{"data": {}}, 7, {"text": 3}]}}}
    stub.answer = lambda: stub.streamed(sse(task(), *odd, parts, text("well"), state("COMPLETED")))
    assert content(await program(stub).chunks("hi")) == "well"
