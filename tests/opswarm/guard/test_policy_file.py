"""What a policy can say, and how it is told what it can't."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from opswarm.errors import PermissionDenied, PolicyInvalid
from opswarm.guard.policy import DEFAULT, Policy
from opswarm.guard.policy_file import PolicyFile, read_policy
from opswarm.guard.risk import Level, Risk

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def faults(path: Path) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        read_policy(path)
    return [fault.removeprefix(f"{path}:") for fault in refused.value.faults]


def test_a_whole_policy_is_read(write: Write) -> None:
    policy = read_policy(
        write(
            """
version: 1
autonomy: {default: observe, people: suggest, agents: {devops: safe}, full_tools: [pods_delete]}
risk: {pods_*: risky}
lowered: [rollout_restart]
protected:
  namespaces: [databases]
  objects: [{kind: Kustomization, namespace: flux-system, name: cluster}]
git: {roots: [infra/, kubernetes/apps/media/], prefixes: [fix/], protected_branches: [production]}
scale: {min: 1, max: 5, factor: 2}
rates: {total: {hour: 5, day: 9}, agent: {hour: 3}, agents: {devops: {day: 4}}, tools: {pods_delete: {hour: 1}}}
quiet_hours: [{days: [fri], from: 22:00, to: 07:00, time_zone: Europe/Berlin}]
access: {agents: {devops: {deny: [x]}}, roles: {viewer: {allow: [pods_*]}}}
"""
        )
    ).policy
    assert policy.autonomy.agents["devops"] is Level.SAFE and policy.risk["pods_*"] is Risk.RISKY
    limits = policy.limits
    assert "databases" in limits.namespaces and "kube-system" in limits.namespaces
    assert {"production", "main", "master"} == limits.branches and limits.prefixes == ("fix/",)
    assert limits.path("infra/a.yaml") and limits.roots == ("infra/", "kubernetes/apps/media/")
    with pytest.raises(PermissionDenied):
        limits.path("kubernetes/apps/web/a.yaml")
    assert policy.quiet_hours[0].begin == "22:00"


def test_a_policy_that_says_nothing_is_the_default(write: Write) -> None:
    assert read_policy(write("{}\n")).policy == DEFAULT == read_policy(write("version: 1\n")).policy


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("version: 1\nautonmy: {}\n", "2: autonmy: there is no such field. Did you mean 'autonomy'?"),
        ("\nautonomy:\n  agents:\n    devops: saef\n", "4: autonomy.agents.devops: input should be"),
        ("autonomy:\n  default: sugest\n", "2: autonomy.default: input should be 'observe', 'suggest' or 'safe'. Did"),
        ("autonomy: {people: full}\n", "1: autonomy.people: input should be 'observe', 'suggest' or 'safe'"),
        ("autonomy: {default: full}\n", "1: autonomy.default: input should be"),
        ("autonomy: {full_tools: ['*']}\n", "1: autonomy.full_tools.0: * is not a name"),
        ("lowered:\n  - pods_*\n", "2: lowered.0: pods_* is not a name"),
        ("risk: {pods_list: read}\n", "1: risk.pods_list: input should be 'safe', 'risky' or 'forbidden'"),
        ("risk: {a_*: risky}\nlowered: [a_b]\n", "1: lowered names a_b, whose risk is raised by a_*"),
        ("protected:\n  namespaces:\n    - ok\n    - Kube\n", "4: protected.namespaces.1: Kube is not a name"),
        ("protected:\n  objects:\n    - kind: pods\n      name: x\n", "3: protected.objects.0.kind: pods is not a"),
        ("protected:\n  objects:\n    - kind: Pod\n      nme: x\n", "3: protected.objects.0.name: this is needed"),
        ("git:\n  roots:\n    - ok/\n    - ../x/\n", "4: git.roots.1: the path '../x' is not spelt plainly"),
        ("git: {roots: [/]}\n", "1: git.roots.0: the path '' is not spelt plainly"),
        ("git: {roots: [.git/]}\n", "1: git.roots.0: the path '.git' is one of Git's"),
        ("git: {prefixes: [main]}\n", "1: git.prefixes.0: input should be 'fix/', 'feat/' or 'agent/'"),
        ("git: {protected_branches: ['+x']}\n", "1: git.protected_branches.0: +x is not a name"),
        ("scale:\n  min: 4\n  max: 2\n", "1: scale: min 4 is more than max 2"),
        ("scale:\n  max: '4'\n", "2: scale.max: input should be a valid integer"),
        ("scale:\n  max: true\n", "2: scale.max: input should be a valid integer"),
        ("scale:\n  factor: true\n", "2: scale.factor: input should be a valid number"),
        ("scale:\n  factor: .inf\n", "2: scale.factor: input should be a valid number"),
        ("rates:\n  total:\n    hour: 61\n", "3: rates.total.hour: input should be less than or equal to 60"),
        ("rates:\n  total:\n    hour: null\n", "3: rates.total.hour: input should be a valid integer"),
        ("rates:\n  agnts: {}\n", "2: rates.agnts: there is no such field. Did you mean 'agents'?"),
        ("rates:\n  agents:\n    devops: {hours: 1}\n", "3: rates.agents.devops.hours: there is no such field. Did"),
        ("quiet_hours:\n  - from: 22:00\n", "2: quiet_hours.0.to: this is needed"),
        ("quiet_hours:\n  - {from: 22, to: 7}\n", "2: quiet_hours.0.from: input should be a valid string"),
        ("quiet_hours:\n  - {from: 25:00, to: 07:00}\n", "2: quiet_hours.0.from: 25:00 is not a name or value"),
        ("quiet_hours:\n  - {from: 07:00, to: 07:00}\n", "2: quiet_hours.0: from and to leave no time"),
        ("quiet_hours:\n  - {from: 07:00, to: 08:00, days: [sunday]}\n", "2: quiet_hours.0.days.0: input should be"),
        ("quiet_hours:\n  - {from: 07:00, to: 08:00, time_zone: Mars}\n", "2: quiet_hours.0.time_zone: this time zone"),
        ("quiet_hours:\n  - {from: 07:00, to: 08:00, refuse: [read]}\n", "2: quiet_hours.0.refuse.0: input should be"),
        ("access:\n  roles:\n    operater: {}\n", "3: access.roles.operater: input should be"),
        ("version: 2\n", "1: version: input should be 1"),
        ("autonomy:\n", "1: autonomy: here is a mapping of fields wanted"),
        ("- a\n", "1: here is a mapping of fields wanted"),
        ("risk: {}\nrisk: {}\n", "2: the key 'risk' is given twice (first in line 1)"),
        ("risk: &a {}\n", "1: anchors are not allowed"),
        ("risk: {<<: {}}\n", "1: risk.<<: << is not a name"),
    ],
)
def test_a_fault_is_told_with_its_line_and_field(write: Write, text: str, fault: str) -> None:
    assert faults(write(text))[0].startswith(fault)


def test_every_fault_is_told_in_the_order_of_the_file(write: Write) -> None:
    lines = [fault.split(":")[0] for fault in faults(write("scale: {mx: 1}\nversion: 7\ngit: {root: []}\nrisky: {}\n"))]
    assert lines == ["1", "2", "3", "4"]


def test_what_the_file_says_is_told_on_one_line_of_plain_text(write: Write) -> None:
    (fault,) = faults(write('"a\\e[31m\\n\u202e": 1\n'))
    assert fault.isascii() and fault.isprintable()


def test_an_empty_file_is_no_policy(write: Write) -> None:
    """A file is empty for a moment while an editor writes it anew."""
    with pytest.raises(PolicyInvalid, match="the file is empty"):
        read_policy(write(""))


def test_what_is_no_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "not a file"), (tmp_path, "not a file"), (tmp_path / "no", "no such file")):
        with pytest.raises(PolicyInvalid, match=said):
            read_policy(path)


def test_a_wider_root_is_named_in_the_file_or_not_at_all() -> None:
    with pytest.raises(ValidationError, match="only the policy's file can name it"):
        Policy.model_validate({"git": {"roots": ["infra/"]}})
    assert Policy.model_validate({"git": {"roots": ["kubernetes/apps/media/"]}}).limits.path(
        "kubernetes/apps/media/a.yaml"
    )


def test_a_policy_does_not_change() -> None:
    policy = Policy.model_validate({"autonomy": {"agents": {"devops": "observe"}}})
    with pytest.raises(TypeError):
        policy.autonomy.agents["devops"] = Level.FULL  # type: ignore[index]
    with pytest.raises(ValidationError):
        policy.autonomy.default = Level.SAFE


def test_tools_that_nobody_has_are_told_with_a_guess(write: Write) -> None:
    found: PolicyFile = read_policy(
        write("risk:\n  pods_delte: risky\n  pods_*: risky\n  nodes_*: risky\naccess: {agents: {a: {deny: [find]}}}\n")
    )
    told = found.unknown_tools(["pods_delete", "pods_list", "find"])
    assert [line.removeprefix(f"{found.path}:") for line in told] == [
        "2: risk.pods_delte: no tool is called pods_delte. Did you mean 'pods_delete'?",
        "4: risk.nodes_*: no tool is called nodes_*",
    ]
    assert found.where("risk.pods_*") == f"{found.path}:3" and found.where("limit.verb") == ""
