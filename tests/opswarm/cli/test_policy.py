from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from opswarm.cli import registry
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Target
from opswarm.mcp.tools import ToolOutput, ToolSpec
from tests.opswarm.cli.conftest import Ran

Run = Callable[..., Ran]


async def scale(namespace: str, name: str, replicas: int) -> ToolOutput:
    """Scale a deployment."""
    return ToolOutput("")


async def restart(namespace: str, name: str) -> ToolOutput:
    """Restart a deployment."""
    return ToolOutput("")


def _scaled(arguments: Mapping[str, Any]) -> list[Target]:
    return [
        Target("scale", "Deployment", arguments["name"], arguments["namespace"], replicas=arguments["replicas"])
    ]  # fmt: skip


SPECS = [
    ToolSpec(
        scale,
        read_only=False,
        risk=Risk.SAFE,
        risk_of=lambda a: Risk.RISKY if a["replicas"] == 0 else Risk.SAFE,
        touches=_scaled,
    ),
    ToolSpec(restart, read_only=False, risk=Risk.SAFE),
]


@pytest.fixture
def policy(home: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        home.mkdir(exist_ok=True)
        (home / "policy.yaml").write_text(text)
        return home / "policy.yaml"

    return written


@pytest.fixture
def actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "declared_tools", lambda: {spec.name: spec for spec in SPECS})


def test_a_policy_that_can_be_used_is_summed_up(opswarm: Run, policy: Callable[[str], Path]) -> None:
    path = policy("autonomy: {agents: {devops: safe}}\nscale: {max: 5}\nrisk: {pods_lst: risky}\n")
    ran = opswarm("policy", "check")
    assert ran.code == 0 and ran.out.startswith(f"ok  {path}\n")
    assert "devops safe, others suggest, people safe" in ran.out and "0 to 5" in ran.out
    assert f"warning: {path}:3: risk.pods_lst: no tool is called pods_lst. Did you mean 'pods_list'?" in ran.err


def test_each_fault_is_told_with_its_place(opswarm: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("autonmy: {}\nscale:\n  max: many\n")
    ran = opswarm("policy", "check", str(path))
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f"{path}:1: autonmy: there is no such field. Did you mean 'autonomy'?")
    assert second.startswith(f"{path}:3: scale.max: input should be a valid integer")


def test_without_a_policy_the_defaults_are_checked(opswarm: Run, tmp_path: Path) -> None:
    ran = opswarm("policy", "check")
    assert ran.code == 0 and "the defaults count" in ran.out
    ran = opswarm("policy", "check", str(tmp_path / "nowhere.yaml"))
    assert ran.code == 2 and "no such file" in ran.err


def test_a_policy_that_the_settings_name_is_not_replaced_by_the_defaults(
    opswarm: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPSWARM_POLICY_FILE", str(tmp_path / "gone.yaml"))
    for words in (("check",), ("explain", "pods_list")):
        ran = opswarm("policy", *words)
        assert ran.code == 2 and "no such file" in ran.err


def test_a_decision_is_told_with_its_rule_and_line(opswarm: Run, policy: Callable[[str], Path], actions: None) -> None:
    path = policy("autonomy:\n  agents:\n    devops: safe\n")
    ran = opswarm("policy", "explain", "restart", "namespace=shop", "name=web", "--agent", "devops")
    assert ran.code == 0 and ran.out.startswith("allow: ")
    assert f"rule    autonomy.agents.devops ({path}:3)" in ran.out and "caller  agent:devops" in ran.out
    chain = opswarm("policy", "explain", "restart", "--agent", "devops", "--agent", "other", "--role", "operator")
    assert chain.out.startswith("needs approval: ") and "caller  agent:devops for agent:other for person" in chain.out
    assert "change  Raise autonomy.default in the policy to safe" in chain.out
    viewer = opswarm("policy", "explain", "restart", "--role", "viewer")
    assert viewer.code == 0 and viewer.out.startswith("deny: ") and "rule    role.viewer" in viewer.out


def test_the_arguments_count(opswarm: Run, actions: None) -> None:
    def said(*words: str) -> Ran:
        return opswarm("policy", "explain", "scale", *words)

    assert said("namespace=shop", "name=web", "replicas=3").out.startswith("allow: ")
    assert said("namespace=shop", "name=web", "replicas=0").out.startswith("needs approval: ")
    refused = said("namespace=kube-system", "name=web", "replicas=3")
    assert refused.code == 0 and "rule    limit.namespace.protected" in refused.out
    assert "limit.scale" in said("namespace=shop", "name=web", "replicas=99").out
    typo = said("namespce=shop")
    assert typo.code == 2 and "Did you mean 'namespace'?" in typo.err
    assert "needs" not in said("nonsense").out and said("nonsense").code == 2
    missing = said("namespace=shop")
    assert missing.code == 2 and "depends on the argument replicas" in missing.err


def test_an_unknown_tool_is_denied_with_a_guess(opswarm: Run) -> None:
    ran = opswarm("policy", "explain", "pods_lst")
    assert ran.code == 0 and ran.out.startswith("deny: ") and "Did you mean 'pods_list'?" in ran.out


def test_the_time_may_be_given(opswarm: Run, policy: Callable[[str], Path], actions: None) -> None:
    policy("quiet_hours: [{from: 22:00, to: 07:00}]\n")
    night = opswarm("policy", "explain", "restart", "--agent", "x", "--at", "2026-01-31T23:00+00:00")
    day = opswarm("policy", "explain", "restart", "--agent", "x", "--at", "2026-01-31T12:00+00:00")
    assert "rule    quiet_hours.0" in night.out and day.out.startswith("needs approval")
    assert opswarm("policy", "explain", "restart", "--at", "tomorrow").code == 2


def test_a_broken_policy_explains_nothing(opswarm: Run, policy: Callable[[str], Path]) -> None:
    path = policy("scale: {max: many}\n")
    ran = opswarm("policy", "explain", "pods_list")
    assert ran.code == 2 and f"{path}:1: scale.max" in ran.err


def test_the_tools_of_installed_servers_are_known_without_a_cluster() -> None:
    found = registry.declared_tools()
    assert {"diagnose", "pods_list", "pods_log"} <= set(found)
    assert all(spec.declared({}) is Risk.READ for spec in found.values() if spec.read_only)
