"""Following the kill switch, at a real orchestrator and in a real file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opswarm.errors import ControlUnknown, PermissionDenied, SettingsInvalid, Unavailable
from opswarm.guard.control import ControlState, FileControl
from opswarm.guard.follower import Follower, Reading, StoreSource, service_follower
from opswarm.guard.keys import verifier
from opswarm.guard.principal import Kind
from opswarm.settings import Settings
from tests.support.hosting import free_port, serving, settings_at, until

ON, OFF = (ControlState(epoch=5, paused=p, reason="flood", by="person:ann", at=1.0) for p in (True, False))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Said:
    """A source that says what it is told to."""

    def __init__(self, state: ControlState) -> None:
        self.answer: ControlState | Exception = state
        self.age = 0.0

    async def read(self) -> Reading:
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reading(self.answer, self.age)

    async def aclose(self) -> None:
        """There is nothing to close."""


def follow(source: Said, *more: Said, clock: Clock) -> Follower:
    return Follower((source, *more), refresh_seconds=0.5, stale_seconds=5.0, clock=clock)


async def refused(control: Follower) -> str:
    with pytest.raises(PermissionDenied) as caught:
        await control.check_action()
    return caught.value.rule


async def test_a_pause_refuses_actions_and_says_who_and_why() -> None:
    control = follow(Said(ON), clock=Clock())
    assert control.paused() == ""
    with pytest.raises(PermissionDenied, match=r"person:ann.*flood"):
        await control.check_action()
    assert "flood" in control.paused()


async def test_whoever_is_cut_off_acts_for_a_second_at_most_and_may_still_tell_for_longer() -> None:
    clock, source = Clock(), Said(OFF)
    control = follow(source, clock=clock)
    await control.check_action()
    source.answer = Unavailable("gone")
    clock.now += 0.9
    await control.check_action()
    clock.now += 0.2
    assert await refused(control) == "control.unknown"
    assert control.reading().state == OFF
    clock.now += 4.5
    with pytest.raises(ControlUnknown):
        control.reading()
    assert control.paused() == ""
    source.answer = OFF
    clock.now += 0.6
    await control.check_action()


async def test_whoever_never_heard_anything_refuses() -> None:
    source = Said(OFF)
    source.answer = Unavailable("gone")
    assert await refused(follow(source, clock=Clock())) == "control.unknown"


async def test_old_news_are_as_old_as_they_say() -> None:
    clock, source = Clock(), Said(OFF)
    source.age = 0.7
    control = follow(source, clock=clock)
    await control.check_action()
    source.answer = Unavailable("gone")
    clock.now += 0.4
    assert await refused(control) == "control.unknown"


async def test_a_pause_that_was_heard_stays_when_nothing_more_is_heard() -> None:
    clock, source = Clock(), Said(ON)
    control = follow(source, clock=clock)
    await control.look()
    source.answer = Unavailable("gone")
    clock.now += 600
    assert await refused(control) == "control.paused"
    assert control.paused()


@pytest.mark.parametrize(
    "older",
    [
        ControlState(),
        ControlState(epoch=4),
        ControlState(epoch=5, paused=False, reason="flood", by="person:eve", at=1.0),
    ],
)
async def test_an_epoch_that_goes_back_is_not_believed_until_a_later_one_comes(older: ControlState) -> None:
    clock, source = Clock(), Said(OFF)
    control = follow(source, clock=clock)
    await control.check_action()
    source.answer = older
    for _ in range(3):
        clock.now += 0.6
        assert await refused(control) == "control.unknown"
    source.answer = ControlState(epoch=6)
    clock.now += 0.6
    await control.check_action()


async def test_a_pause_is_not_lifted_by_going_back() -> None:
    clock, source = Clock(), Said(ON)
    control = follow(source, clock=clock)
    await control.look()
    source.answer = ControlState(epoch=4, paused=False)
    clock.now += 1
    assert await refused(control) == "control.paused"


async def test_of_two_sources_the_stricter_counts() -> None:
    clock, first, second = Clock(), Said(OFF), Said(OFF)
    control = follow(first, second, clock=clock)
    await control.check_action()
    for source in (first, second):
        source.answer = ON.model_copy(update={"epoch": 6})
        clock.now += 1
        assert await refused(control) == "control.paused"
        source.answer = OFF.model_copy(update={"epoch": 7})
        clock.now += 1
        await control.check_action()


async def test_a_follower_of_nothing_refuses() -> None:
    assert await refused(Follower((), refresh_seconds=0.5, stale_seconds=5)) == "control.unknown"


async def test_what_was_written_here_is_known_at_once_and_a_late_answer_does_not_undo_it() -> None:
    clock, source = Clock(), Said(OFF)
    control = follow(source, clock=clock)
    await control.look()
    control.note(ControlState(epoch=9, paused=True))
    heard = control._heard[0]
    clock.now += 0.1
    heard.take(Reading(OFF), began=99.9)
    assert (control.reading().state.epoch, heard.trouble) == (9, "")


async def test_a_tool_server_by_itself_follows_the_file(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    store = FileControl(settings.control_file())
    async with service_follower(settings, "kubernetes", Kind.SERVICE, url="").following() as control:
        await control.check_action()
        await store.change(paused=True, reason="flood", by="person:ann")
        began = time.monotonic()
        await until(lambda: bool(control.paused()))
        assert time.monotonic() - began < 1.0
        assert await refused(control) == "control.paused"
        store.path.write_text("{")
        await until(lambda: "understood" in control._unknown())
        await store.change(paused=False, reason="", by="person:ann")
        await until(lambda: not control.paused())
        await control.check_action()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
async def test_a_file_that_may_not_be_read_refuses(tmp_path: Path) -> None:
    store = FileControl(tmp_path / "control.json")
    await store.change(paused=False, reason="", by="x")
    store.path.chmod(0)
    control = Follower([StoreSource(store)], refresh_seconds=0.5, stale_seconds=5)
    assert await refused(control) == "control.unknown"


def orchestrator(settings: Settings, answers: list[tuple[int, object]], tokens: list[str]) -> Starlette:
    """Answers /control with the last of `answers`."""

    async def get(request: Request) -> Response:
        tokens.append(request.headers.get("authorization", ""))
        status, body = answers[-1]
        return Response(json.dumps(body), status_code=status, media_type="application/json")

    return Starlette(routes=[Route("/control", get)])


def said(state: ControlState, **more: object) -> dict[str, object]:
    return {**state.model_dump(), "age": 0.0, **more}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, []),
        (200, {"epoch": 6}),
        (200, said(ControlState(epoch=6), age="0")),
        (200, said(ControlState(epoch=6), age=-1)),
        (200, said(ControlState(epoch=6), age=True)),
        (200, said(ControlState(epoch=6), age=10**400)),
        (200, said(ControlState(epoch=6), paused="no")),
        (200, said(ControlState(epoch=4))),
        (503, {"error": {"code": "control_unknown", "message": "x"}}),
    ],
)
async def test_an_answer_that_can_not_be_trusted_refuses_at_once(tmp_path: Path, status: int, body: object) -> None:
    settings = settings_at(tmp_path)
    answers: list[tuple[int, object]] = [(200, said(OFF))]
    tokens: list[str] = []
    async with (
        serving(orchestrator(settings, answers, tokens)) as url,
        service_follower(settings, "kubernetes", Kind.SERVICE, url=url).following() as control,
    ):
        await control.check_action()
        answers.append((status, body))
        await control.look()
        assert await refused(control) == "control.unknown"
    proof = verifier(settings).verify(tokens[0].removeprefix("Bearer "), ["exchange"]).principal
    assert (proof.kind, proof.subject, proof.roles) == (Kind.SERVICE, "service:kubernetes", frozenset())


@pytest.mark.parametrize(("status", "body"), [(401, {}), (500, []), (502, "x"), (503, {"error": None}), (302, {})])
async def test_an_answer_that_is_none_is_silence(tmp_path: Path, status: int, body: object) -> None:
    settings = settings_at(tmp_path)
    answers: list[tuple[int, object]] = [(200, said(OFF))]
    async with (
        serving(orchestrator(settings, answers, [])) as url,
        service_follower(settings, "kubernetes", Kind.SERVICE, url=url).following() as control,
    ):
        answers.append((status, body))
        await control.look()
        await control.check_action()


async def test_the_file_on_the_same_machine_counts_beside_the_orchestrator(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    async with (
        serving(orchestrator(settings, [(200, said(OFF))], [])) as url,
        service_follower(settings, "kubernetes", Kind.SERVICE, url=url).following() as control,
    ):
        await control.check_action()
        await FileControl(settings.control_file()).change(paused=True, reason="", by="local:ann")
        await until(lambda: bool(control.paused()), 2)


async def test_an_orchestrator_that_is_not_there_refuses(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    control = service_follower(settings_at(tmp_path), "kubernetes", Kind.SERVICE, url=url)
    async with control.following():
        assert await refused(control) == "control.unknown"


def test_a_service_that_can_not_prove_itself_does_not_start(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    identity = settings.identity.model_copy(update={"public_key_file": tmp_path / "public.pem"})
    with pytest.raises(SettingsInvalid, match="service kubernetes has no token"):
        service_follower(settings.updated({"identity": identity}), "kubernetes", Kind.SERVICE, url="http://127.0.0.1:1")
