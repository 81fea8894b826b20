"""`opswarm pause`, `resume` and `status`, with and without an orchestrator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opswarm.guard import keys
from opswarm.guard.control import FileControl
from opswarm.guard.principal import Role
from opswarm.settings import load
from services.orchestrator.app import create_app
from tests.opswarm.cli.conftest import Ran
from tests.support.hosting import free_port, serving


@contextmanager
def orchestrator(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An orchestrator on a thread of its own, since the command line blocks."""
    port, gateway = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("OPSWARM_ADDRESSES", f'{{"orchestrator": "{url}", "gateway": "http://127.0.0.1:{gateway}"}}')
    app = create_app(load()).app()
    up, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(app, port):
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(20)
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def kept() -> FileControl:
    return FileControl(load().control_file())


def test_a_pause_goes_through_the_orchestrator(opswarm: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    with orchestrator(monkeypatch):
        opswarm("token", "--save")
        ran = opswarm("pause", "--reason", "flood in the cellar")
        assert (ran.code, ran.out) == (0, "Actions are paused by person:local: flood in the cellar.\n")
        assert kept().read_now().by == "person:local"
        assert "flood in the cellar" in opswarm("status").out
        assert opswarm("resume").out == "Actions are not paused; person:local resumed them.\n"
        assert "not paused" in opswarm("status").out


def test_whoever_is_refused_by_the_orchestrator_does_not_get_past_it(
    opswarm: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    with orchestrator(monkeypatch):
        nobody = opswarm("pause")
        monkeypatch.setenv("OPSWARM_TOKEN", keys.mint_person(load(), roles=(Role.VIEWER,)))
        viewer = opswarm("pause")
    assert (nobody.code, viewer.code) == (2, 2)
    assert "token" in nobody.err and "operator or admin" in viewer.err
    assert not kept().path.exists()


def test_without_an_orchestrator_the_file_is_written_and_that_is_said(
    opswarm: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSWARM_ADDRESSES", f'{{"orchestrator": "http://127.0.0.1:{free_port()}"}}')
    ran = opswarm("pause", "--reason", "flood")
    assert ran.code == 0 and "paused by local:" in ran.out
    assert "does not answer" in ran.out and str(kept().path) in ran.out
    assert kept().read_now().paused
    assert "flood" in opswarm("status").out
    opswarm("resume")
    assert not kept().read_now().paused
    kept().path.write_text("{")
    assert "can't be told" in opswarm("status").out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPSWARM_CONTROL__KIND", "configmap"),
        ("OPSWARM_ADDRESSES", '{"orchestrator": "http://opswarm.invalid:8700"}'),
        ("OPSWARM_ADDRESSES", '{"orchestrator": "http://127.0.0.1.invalid:8700"}'),
    ],
)
def test_the_file_of_this_machine_is_not_written_for_an_orchestrator_elsewhere(
    opswarm: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OPSWARM_ADDRESSES", f'{{"orchestrator": "http://127.0.0.1:{free_port()}"}}')
    monkeypatch.setenv(name, value)
    ran = opswarm("pause")
    assert ran.code == 2 and "does not answer" in ran.err
    assert not kept().path.exists()


def test_a_reason_that_is_too_long_is_refused_before_anything_is_written(
    opswarm: Callable[..., Ran], home: Path
) -> None:
    ran = opswarm("pause", "--reason", "x" * 501)
    assert ran.code == 2 and "500" in ran.err
    assert not (home / "control.json").exists()
