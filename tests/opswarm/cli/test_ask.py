from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from opswarm.a2a.server import TurnInput
from opswarm.agent.events import Event, TextDelta
from opswarm.cli import hosting
from opswarm.guard.keys import make_person_token
from tests.e2e.conftest import Machine, machine
from tests.opswarm.cli.conftest import Ran
from tests.support.agents import Echo, echo_service
from tests.support.hosting import FAST, settings_at


class Talker(Echo):
    """Says a line, waits to be told, says another, and then works until it is stopped."""

    async def respond(self, request: TurnInput) -> AsyncGenerator[Event, None]:
        yield TextDelta(text="first\n")
        await self.release.wait()
        yield TextDelta(text="second\n")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_bytes_that_are_no_text_are_refused_with_a_sentence(opswarm: Callable[..., Ran]) -> None:
    for words in (("ask", "bad\udcff"), ("ask", "fine", "--agent", "\udcff"), ("chat", "--agent", "\udcfe")):
        ran = opswarm(*words)
        assert (ran.code, ran.err) == (2, "What was typed is not valid UTF-8 text.\n")


@pytest.mark.parametrize(("errors", "code"), [("strict", 2), ("surrogateescape", 0)])
def test_bytes_that_are_no_text_are_a_sentence_in_a_chat(tmp_path: Path, errors: str, code: int) -> None:
    here = machine(tmp_path / "home", PYTHONIOENCODING=f"utf-8:{errors}")
    process = here.start("chat")
    assert process.stdin is not None
    process.stdin.buffer.write(b"bad\xff\n")
    _, complaints = process.communicate(timeout=30)
    assert process.returncode == code
    assert "not valid UTF-8" in complaints and "Traceback" not in complaints


def test_without_a_token_the_sentence_says_how_to_get_one(opswarm: Callable[..., Ran]) -> None:
    for words in (("ask", "hello"), ("agents",)):
        ran = opswarm(*words)
        assert ran.code == 2 and "opswarm token --save" in ran.err


def test_json_tells_of_a_failure_by_its_exit_code_too(opswarm: Callable[..., Ran]) -> None:
    ran = opswarm("ask", "hello", "--json")
    assert ran.code == 2
    assert json.loads(ran.out)["kind"] == "failed"
    assert ran.err.startswith("There is no token")


@pytest.mark.parametrize("words", [("--json",), ()])
async def test_a_reader_that_leaves_ends_the_turn_without_a_complaint(tmp_path: Path, words: tuple[str, ...]) -> None:
    settings = settings_at(tmp_path / "state")
    make_person_token(settings)
    talker = Talker("orchestrator")
    listener = hosting.listen("127.0.0.1", 0)
    url = hosting.url_of(listener)
    here = Machine(tmp_path, {"OPSWARM_ADDRESSES": json.dumps({"orchestrator": url})})
    async with hosting.hosted(echo_service(settings, "orchestrator", url, talker).app(), listener, FAST):
        process = here.start("ask", "tell me", *words)
        assert process.stdout is not None and process.stderr is not None
        first = await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        talker.release.set()
        code = await asyncio.to_thread(process.wait, 30)
        await asyncio.wait_for(talker.cancelled.wait(), 10)
        complaints = process.stderr.read()
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()
    assert "first" in first
    assert (code, complaints) == (141, "")
