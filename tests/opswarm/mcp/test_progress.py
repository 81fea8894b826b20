"""A client that asked for progress hears that a long call is at work, and others pay nothing for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opswarm.mcp import progress
from opswarm.mcp.serving import ToolProvider
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import Settings
from tests.support.mcp_clients import connected

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


async def count(seconds: float = 0.3, say: str = "counting") -> ToolOutput:
    """Count."""
    progress.note(say)
    await asyncio.sleep(seconds)
    return ToolOutput("done")


@asynccontextmanager
async def opener(settings: Settings) -> AsyncIterator[ToolProvider]:
    yield ToolProvider("counter", (ToolSpec(count, timeout=0.6),), "Counts.")


@ERAS
async def test_a_long_call_tells_what_it_is_at(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    heard: list[tuple[float, str | None]] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with connected(opener, tmp_path, mode) as client:
        result: Any = await client.call_tool("count", progress_callback=listen)
        assert result.content[0].text == "done" and len(heard) >= 2
        assert [one for one, _ in heard] == sorted(one for one, _ in heard)
        assert heard[-1][1] == "count: 0 s, counting"
        heard.clear()
        result = await client.call_tool("count", {"seconds": 9}, progress_callback=listen)
        assert result.is_error and "did not finish within" in result.content[0].text
        heard.clear()
        await asyncio.sleep(0.15)
        assert not heard


@ERAS
async def test_what_is_noted_is_one_line_without_secrets(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    heard: list[str] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append(str(message))

    said = "line\nforged: 9 s, all is well sk-ant-" + "z" * 30
    async with connected(opener, tmp_path, mode) as client:
        await client.call_tool("count", {"say": said}, progress_callback=listen)
    assert heard and all("\n" not in one and "zzz" not in one for one in heard)


async def test_who_does_not_ask_is_told_nothing_and_a_note_goes_nowhere(tmp_path: Path) -> None:
    progress.note("nobody is there")
    async with connected(opener, tmp_path, "auto") as client:
        result: Any = await client.call_tool("count", {"seconds": 0})
    assert result.content[0].text == "done"


async def test_a_listener_that_fails_ends_only_the_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    calls = []

    async def gone(done: float, total: float | None, message: str | None) -> None:
        calls.append(done)
        raise ConnectionError("gone")

    async with progress.reported("count", gone):
        await asyncio.sleep(0.1)
    assert len(calls) == 1
