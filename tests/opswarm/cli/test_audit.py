"""The record of several tool servers as one list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from opswarm.actions.chain import Entry, Event
from opswarm.cli import audit


def entry(number: int, at: int, tool: str) -> Entry:
    return Entry(server="x", number=number, at=at, event=Event(event="executed", tool=tool), before="", hash="")


def test_what_several_servers_did_is_listed_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"github": [entry(1, 10, "comment_put"), entry(2, 30, "pull_merge")], "flux": [entry(1, 20, "flux_suspend")]}

    def entries(settings: Any, name: str, **_: Any) -> Iterator[Entry]:
        yield from kept[name]

    monkeypatch.setattr(audit, "_servers", lambda settings, server: list(kept))
    monkeypatch.setattr(audit, "_entries", entries)
    said = CliRunner().invoke(audit.audit_app, []).output
    places = [said.index(tool) for tool in ("comment_put", "flux_suspend", "pull_merge")]
    assert places == sorted(places)
