"""The pipe as Open WebUI runs it, against a real orchestrator and agent."""

from __future__ import annotations

import ast
import asyncio
import sys
import uuid
from typing import Any

import pytest

from integrations.openwebui.install import PIPE
from opswarm.a2a.wire import AGENT_KEY, APPROVALS_URI, EVENTS_URI, HISTORY_KEY, MOST_HISTORY
from opswarm.guard import keys
from opswarm.guard.principal import Kind
from tests.integrations.openwebui.conftest import Apart, Crew
from tests.integrations.openwebui.program import REWRITTEN, Program, content, error, loaded
from tests.support.hosting import until


def test_the_file_stands_alone() -> None:
    source = PIPE.read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"httpx", "pydantic"}
    assert not [name for name in REWRITTEN if f"from {name}" in source]
    assert source.startswith('"""\ntitle: Opswarm\n')


def test_the_pipe_spells_the_wire_as_the_agents_do() -> None:
    pipe: Any = loaded()
    assert (pipe.EVENTS_URI, pipe.AGENT_KEY, pipe.HISTORY_KEY) == (EVENTS_URI, AGENT_KEY, HISTORY_KEY)
    assert pipe._MOST_HISTORY == MOST_HISTORY and pipe.APPROVALS_URI == APPROVALS_URI


async def test_the_agents_are_the_models(crew: Crew) -> None:
    listed = await crew.program.pipe.pipes()
    assert listed == [{"id": n, "name": n} for n in ("orchestrator", "devops")]


async def test_an_answer_comes_as_deltas_while_it_is_made(crew: Crew) -> None:
    source = await crew.program.open("wait for it", agent="devops")
    first = [await asyncio.wait_for(anext(source), 10) for _ in range(2)]
    assert "devops heard: " in content(first)
    crew.echo.release.set()
    rest = [c async for c in source]
    assert content([*first, *rest]).endswith("devops heard: wait for it")
    assert all(c["object"] == "chat.completion.chunk" and c["model"] == "opswarm.devops" for c in [*first, *rest])


async def test_an_answer_comes_whole_where_no_stream_was_asked_for(crew: Crew) -> None:
    assert await crew.program.open("hello", recorded="plain_whole") == "devops heard: hello"


async def test_the_agent_works_for_the_person_who_asked(crew: Crew) -> None:
    await crew.program.chunks("hello", user="u-1")
    asked = crew.echo.seen[-1]
    assert (asked.principal.kind, asked.principal.subject) == (Kind.PERSON, "openwebui:u-1")
    assert asked.principal.actors == ("agent:devops", "service:openwebui")
    assert not asked.principal.is_direct_person


async def test_a_chat_with_one_agent_is_one_conversation_and_no_one_elses(crew: Crew) -> None:
    for changed in ({}, {}, {"user": "u-2"}, {"agent": "orchestrator"}, {"chat": "another"}):
        await crew.program.chunks("hello", **changed)
    first, second, *others = [r.context_id for r in crew.echo.seen]
    assert first == second
    assert len({first, *others}) == 4


async def test_without_a_chat_every_call_is_a_conversation_of_its_own(crew: Crew) -> None:
    for _ in range(2):
        await crew.program.chunks("hello", recorded="plain")
    one, two = (r.context_id for r in crew.echo.seen)
    assert one != two


async def test_the_history_is_what_the_chat_shows(crew: Crew) -> None:
    await crew.program.chunks(recorded="new_chat")
    await crew.program.chunks(recorded="follow_up")
    await crew.program.chunks(recorded="regenerated")
    told = [[(m.role, m.content) for m in r.history] for r in crew.echo.seen]
    shown = [("user", "first question"), ("assistant", "The answer.")]
    assert told == [[], shown, shown]
    assert len({r.context_id for r in crew.echo.seen}) == 1


async def test_a_long_history_is_cut_to_its_newest(crew: Crew) -> None:
    said = [{"role": r, "content": f"{n} " + "x" * 9_000} for n in range(40) for r in ("user", "assistant")]
    await crew.program.chunks(messages=[{"role": "system", "content": "be"}, *said, {"role": "user", "content": "now"}])
    (asked,) = crew.echo.seen
    assert asked.text == "now" and len(asked.history) == MOST_HISTORY
    assert asked.history[-1].content.startswith("39 ") and len(asked.history[-1].content) == 8_000


async def test_a_file_of_the_message_is_refused_and_one_of_an_earlier_message_is_not(crew: Crew) -> None:
    image = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    for changed in (
        {"recorded": "with_file"},
        {"messages": [{"role": "user", "content": image}]},
        {"recorded": "plain", "__files__": [{"type": "file", "id": "f"}]},
    ):
        assert "text only" in error(await crew.program.chunks(**changed))
    assert not crew.echo.seen
    await crew.program.chunks(recorded="after_file")
    (asked,) = crew.echo.seen
    assert asked.text == "after the file"
    assert [m.content for m in asked.history if m.role == "user"][-1] == "what is in the file?"


async def test_a_template_around_the_question_is_not_sent(crew: Crew) -> None:
    arguments = crew.program.arguments("what is broken?", __files__=[{"type": "collection", "id": "k"}])
    arguments["body"]["messages"][-1]["content"] = "### Task:\nRespond using the context\n<context>…</context>"
    _ = [c async for c in await crew.program.pipe.pipe(**arguments)]
    arguments = crew.program.arguments("what a filter took out")
    arguments["body"]["messages"][-1]["content"] = "what a filter left"
    _ = [c async for c in await crew.program.pipe.pipe(**arguments)]
    assert [r.text for r in crew.echo.seen] == ["what is broken?", "what a filter left"]


async def test_what_happens_on_the_way_is_told(crew: Crew) -> None:
    chunks = await crew.program.chunks("hi", agent="devops")
    assert crew.program.statuses[:2] == ["devops is asked (it was named)", "look …"]
    assert crew.program.statuses[2].startswith("Done in ") and crew.program.statuses[2].endswith(", 1 tool call")
    assert [e["done"] for e in crew.program.events] == [False, False, True]
    assert '<details type="tool_calls" done="true"' in content(chunks) and 'name="look"' in content(chunks)


async def test_a_user_may_have_the_answer_alone(crew: Crew) -> None:
    chunks = await crew.program.chunks("hi", valves={"show_status": False, "show_tools": False})
    assert content(chunks) == "devops heard: hi" and not crew.program.events


async def test_a_plain_api_client_reads_the_tools_as_reasoning(crew: Crew) -> None:
    chunks = await crew.program.chunks("hi", recorded="plain")
    assert content(chunks) == "devops heard: hi"
    assert content(chunks, "reasoning_content") == "✓ look(at=hi) seen\n"
    assert not crew.program.events


@pytest.mark.parametrize("task", ["title", "tags", "queries"])
async def test_open_webuis_own_questions_wake_no_agent(crew: Crew, task: str) -> None:
    whole = await crew.program.open(recorded=task)
    assert whole == ('{"title": "first question"}' if task == "title" else "")
    assert content(await crew.program.chunks(recorded=task, stream=True)) == whole
    assert not crew.echo.seen


async def test_stop_cancels_the_task(crew: Crew) -> None:
    async def read() -> None:
        async for _ in await crew.program.open("wait"):
            pass

    reading = asyncio.create_task(read())
    await until(lambda: bool(crew.echo.seen))
    await until(lambda: "look …" in crew.program.statuses)
    reading.cancel()
    await asyncio.wait({reading}, timeout=5)
    assert reading.cancelled()
    await asyncio.wait_for(crew.echo.cancelled.wait(), 5)


async def test_a_reader_that_leaves_cancels_the_task(crew: Crew) -> None:
    source = await crew.program.open("wait")
    await asyncio.wait_for(anext(source), 10)
    await source.aclose()
    await asyncio.wait_for(crew.echo.cancelled.wait(), 5)


async def test_a_task_that_takes_too_long_is_cancelled_and_said(crew: Crew) -> None:
    crew.program.pipe.valves.timeout_seconds = 0.7
    assert "No end within 1 s" in error(await crew.program.chunks("wait"))
    await asyncio.wait_for(crew.echo.cancelled.wait(), 5)


async def test_a_task_that_fails_says_why(crew: Crew) -> None:
    chunks = await crew.program.chunks("break")
    assert error(chunks) == "The devops agent broke on this request; see its log."
    assert crew.program.statuses[-1] == "It failed."
    assert "agent 'nobody'" in error(await crew.program.chunks("hi", agent="nobody"))


async def test_an_orchestrator_that_dies_midway_is_said(apart: Apart) -> None:
    program = apart.crew.program
    source = await program.open("wait")
    chunks = [await asyncio.wait_for(anext(source), 10)]
    apart.kill()
    chunks += [c async for c in source]
    assert error(chunks) == "The connection to Opswarm broke before the answer's end. Ask again."
    assert "does not answer at" in error(await program.chunks("again"))


async def test_only_a_fronts_token_will_do(crew: Crew) -> None:
    for token, told in (
        (keys.mint_person(crew.settings), "opswarm token --front"),
        ("eyJ.wrong.token", "does not accept the token"),
        ("", "valve token is empty"),
        ("two words", "is not a token"),
        ("naïve", "is not a token"),
    ):
        program = Program(crew.url, token)
        assert told in error(await program.chunks("hi"))
        assert told in error([await program.open("hi", stream=False)])
    assert not crew.echo.seen


async def test_who_asks_must_be_known(crew: Crew) -> None:
    for user in ("", "a b", "é", "x" * 200):
        assert "did not say who is asking" in error(await crew.program.chunks("hi", user=user))


async def test_a_chat_without_a_question_is_refused(crew: Crew) -> None:
    for messages in ([], [{"role": "assistant", "content": "x"}], [{"role": "user", "content": "  "}], ["junk"]):
        assert error(await crew.program.chunks(messages=messages))


def test_the_context_tells_apart_what_only_looks_alike() -> None:
    context = loaded().context_id
    assert context("a", "b", "c") == context("a", "b", "c")
    assert len({context(*x) for x in (("a", "b", "c"), ("a|b", "", "c"), ("a", "b|c", "x"), ("ab", "", "c"))}) == 4
    uuid.UUID(context("a", "b", "c").removeprefix("owui-"))
