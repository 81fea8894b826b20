"""Rules first: what the devops agent looks at before any model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from opswarm.a2a.server import TurnInput
from opswarm.agent.service import FirstLook
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


OF_FLUX = ("sonarr", "cluster-apps", "media")


class Cluster:
    """A toolbox whose `find` knows a few names, and whose `flux_list` has those of `OF_FLUX`, one a page."""

    def __init__(self, *tools: str, down: bool = False) -> None:
        self.down = down
        self.schemas: Sequence[ToolSchema] = tuple(ToolSchema(n, "", {}) for n in tools or ("find", "diagnose"))

    async def call(self, name: str, arguments: dict[str, Any], **how: str) -> ToolResult:
        if self.down:
            raise ToolServerDown("gone")
        if name == "flux_list":
            at = int(arguments["cursor"] or 0)
            more = str(at + 1) if at + 1 < len(OF_FLUX) else ""
            return ToolResult("", data={"items": [{"kind": "Kustomization", "name": OF_FLUX[at]}], "cursor": more})
        word = arguments["keyword"]
        return ToolResult("", data={"matches": [o for o in OBJECTS if word in o["name"]]})


async def look(text: str, cluster: Cluster | None = None, *history: str) -> tuple[list[dict[str, Any]], str]:
    """The arguments of the calls it makes, and its notes."""
    found = await looked(text, cluster, *history)
    return [c.parsed() for c in found.calls], " ".join(found.notes)


async def looked(text: str, cluster: Cluster | None = None, *history: str) -> FirstLook:
    person = Principal(kind=Kind.PERSON, subject="person:ann")
    past = tuple(Message("user", h) for h in history)
    request = TurnInput(text, "t", "c", person, "token", past)
    return await first_look(request, cluster or Cluster())


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


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("what is broken in my cluster?", {"diagnose": [{}], "flux_diagnose": [{}]}),
        ("why is sonarr failing?", {"diagnose": [{"name": "sonarr"}], "flux_diagnose": [{"name": "sonarr"}]}),
        ("why is postgres failing?", {"diagnose": [{"name": "postgres"}]}),
        ("why is cluster-apps not ready?", {"flux_diagnose": [{"name": "cluster-apps"}]}),
        (
            "is the database namespace ok",
            {"diagnose": [{"namespace": "database"}], "flux_diagnose": [{"namespace": "database"}]},
        ),
        (
            "what is wrong in media?",
            {"diagnose": [{"namespace": "media"}], "flux_diagnose": [{"name": "media"}, {"namespace": "media"}]},
        ),
        ("why is plexus failing?", {"diagnose": [{}], "flux_diagnose": [{}]}),
    ],
)  # fmt: skip
async def test_flux_is_asked_about_what_is_its_own(question: str, asked: dict[str, list[dict[str, str]]]) -> None:
    found = await looked(question, Cluster("find", "diagnose", "flux_diagnose", "flux_list"))
    calls: dict[str, list[dict[str, str]]] = {}
    for call in found.calls:
        calls.setdefault(call.name, []).append(call.parsed())
    assert calls == asked
    assert len({call.id for call in found.calls}) == len(found.calls)


async def test_flux_alone_is_asked_without_the_names_of_the_cluster() -> None:
    assert await look("what is broken?", Cluster("flux_diagnose")) == ([{}], "")
