"""Rules first: what the devops agent looks at before any model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from opswarm.a2a.server import TurnInput
from opswarm.agent.toolbox import ToolResult
from opswarm.errors import ToolServerDown
from opswarm.guard.principal import Kind, Principal
from opswarm.models.chat import Message, ToolSchema
from services.devops_agent.health import first_look

OBJECTS = [
    {"kind": "Namespace", "namespace": "-", "name": "media", "matched": "name"},
    {"kind": "Namespace", "namespace": "-", "name": "database", "matched": "name"},
    {"kind": "Deployment", "namespace": "media", "name": "sonarr", "matched": "name"},
    {"kind": "StatefulSet", "namespace": "database", "name": "postgres", "matched": "name"},
]


class Cluster:
    """A toolbox whose `find` knows a few names."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.schemas: Sequence[ToolSchema] = tuple(ToolSchema(n, "", {}) for n in ("find", "diagnose"))

    async def call(self, name: str, arguments: dict[str, Any], **how: str) -> ToolResult:
        if self.down:
            raise ToolServerDown("gone")
        word = arguments["keyword"]
        return ToolResult("", data={"matches": [o for o in OBJECTS if word in o["name"]]})


async def look(text: str, cluster: Cluster | None = None, *history: str) -> tuple[list[dict[str, Any]], str]:
    person = Principal(kind=Kind.PERSON, subject="person:ann")
    past = tuple(Message("user", h) for h in history)
    request = TurnInput(text, "t", "c", person, "token", past)
    found = await first_look(request, cluster or Cluster())
    return [c.parsed() for c in found.calls], " ".join(found.notes)


@pytest.mark.parametrize(
    ("question", "scopes"),
    [
        ("what is broken in my cluster?", [{}]),
        ("why is sonarr crash looping?", [{"name": "sonarr"}]),
        ("what is wrong in media?", [{"namespace": "media"}]),
        ("why is sonarr in media failing", [{"name": "sonarr", "namespace": "media"}]),
        ("are sonarr and postgres healthy?", [{"name": "sonarr"}, {"name": "postgres"}]),
        ("is the database namespace ok", [{"namespace": "database"}]),
    ],
)
async def test_a_health_question_is_narrowed_to_what_it_names(question: str, scopes: list[dict[str, str]]) -> None:
    assert (await look(question))[0] == scopes


@pytest.mark.parametrize("question", ["list the pods in media", "delete sonarr", "show the logs of sonarr"])
async def test_any_other_question_is_left_to_the_model(question: str) -> None:
    assert (await look(question))[0] == []


async def test_a_name_that_nobody_has_is_said_and_all_is_checked() -> None:
    scopes, notes = await look("why is plexus failing?")
    assert scopes == [{}]
    assert "Nothing in the cluster is named `plexus`" in notes


async def test_it_means_what_was_asked_about_before() -> None:
    assert (await look("why is it still failing?", None, "how is sonarr?"))[0] == [{"name": "sonarr"}]


async def test_a_lookup_that_fails_leaves_the_diagnosis_to_say_so() -> None:
    assert (await look("why is sonarr failing?", Cluster(down=True)))[0] == [{}]
