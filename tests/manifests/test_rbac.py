"""What the tools need and what the manifests grant are the same, right by right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.access import RbacUser, Rule
from mcp_servers.cluster.access import Right
from mcp_servers.flux import reads as flux_reads
from mcp_servers.flux import tools as flux_tools
from mcp_servers.flux.actions import rights as flux_actions
from mcp_servers.kubernetes.actions.rights import RIGHTS
from mcp_servers.kubernetes.reads import READS
from mcp_servers.kubernetes.tools import declared
from tests.mcp_servers.flux.stage import staged
from tests.mcp_servers.kubernetes.tools.bench import benched

MANIFESTS = Path(__file__).parents[2] / "manifests"


def objects(path: str) -> list[dict[str, Any]]:
    return [o for o in yaml.safe_load_all((MANIFESTS / path).read_text()) if o]


def role(path: str) -> dict[str, Any]:
    (found,) = (o for o in objects(path) if o["kind"] == "ClusterRole")
    return found


def granted(path: str) -> Iterator[Right]:
    for rule in role(path)["rules"]:
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"]):
            plural, _, sub = resource.partition("/")
            yield Right(group, plural, verb, sub)


def every_file() -> list[Path]:
    return sorted(MANIFESTS.rglob("*.yaml"))


SERVERS = {
    "kubernetes": (READS, RIGHTS, [s.name for s in declared() if not s.read_only]),
    "flux": (flux_reads.READS, flux_actions.RIGHTS, [s.name for s in flux_tools.declared() if not s.read_only]),
}
"""By tool server: what reading needs, what each action needs, and the actions there are."""


@pytest.mark.parametrize("server", SERVERS)
def test_reading_is_granted_what_it_needs_and_nothing_else(server: str) -> None:
    needed = SERVERS[server][0]
    found = list(granted(f"base/{server}-read.yaml"))
    assert set(found) == needed and len(found) == len(needed)


@pytest.mark.parametrize("server", SERVERS)
def test_each_action_is_granted_all_that_it_needs_and_nothing_that_none_needs(server: str) -> None:
    reads, rights, tools = SERVERS[server]
    found = list(granted(f"overlays/actions/{server}-actions.yaml"))
    assert set(rights) == set(tools)
    for tool in tools:
        assert set(rights[tool]) <= reads | set(found), tool
    assert set(found) == {right for tool in tools for right in rights[tool]} - reads and len(found) == len(set(found))


def test_nothing_is_granted_by_a_wildcard_and_nobody_sees_secrets() -> None:
    for path in every_file():
        for obj in (o for o in yaml.safe_load_all(path.read_text()) if o and "rules" in o):
            words = {w for rule in obj["rules"] for key in ("apiGroups", "resources", "verbs") for w in rule[key]}
            assert not words & {"*", "secrets", "pods/exec", "pods/attach", "escalate", "bind", "impersonate"}, path


def test_only_the_tool_servers_have_rights_in_the_cluster_and_agents_not_even_a_token() -> None:
    found = [o for path in every_file() for o in yaml.safe_load_all(path.read_text()) if o]
    bound = {s["name"] for o in found if o["kind"] == "ClusterRoleBinding" for s in o["subjects"]}
    assert bound == {"flux", "kubernetes"}
    mounted = {o["metadata"]["name"]: o["automountServiceAccountToken"] for o in found if o["kind"] == "ServiceAccount"}
    assert mounted["devops"] is False and mounted["gateway"] is False
    local = [o for o in found if o["kind"] == "RoleBinding"]
    assert {s["name"] for o in local for s in o["subjects"]} == {"orchestrator"}


def test_every_file_is_in_a_kustomization() -> None:
    listed: set[Path] = set()
    for path in every_file():
        if path.name == "kustomization.yaml":
            for name in yaml.safe_load(path.read_text())["resources"]:
                target = (path.parent / name).resolve()
                assert target.exists(), name
                listed.add(target)
    assert {p.resolve() for p in every_file() if p.name != "kustomization.yaml"} <= listed


async def test_with_these_rights_no_read_tool_is_refused(tmp_path: Path) -> None:
    rules = [
        Rule(tuple(r["verbs"]), tuple(r["resources"]), tuple(r["apiGroups"]))
        for r in role("base/kubernetes-read.yaml")["rules"]
    ]
    user = RbacUser("system:serviceaccount:opswarm:kubernetes", rules)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("diagnose", {}), ("find", {"keyword": "jellyfin"}), ("pods_list", {"namespace": "media"}), ("nodes_list", {}),
        ("namespaces_list", {}), ("events_list", {"namespace": "media"}), ("pods_top", {"namespace": "media"}),
        ("rollout_status", {"kind": "Deployment", "name": "jellyfin", "namespace": "media"}),
        ("rollout_history", {"kind": "Deployment", "name": "jellyfin", "namespace": "media"}),
        ("lineage", {"kind": "Deployment", "name": "jellyfin", "namespace": "media"}),
        ("resources_list", {"kind": "ConfigMap", "namespace": "media"}),
    ]  # fmt: skip
    async with benched(tmp_path, ("oom",), {"tools": user}) as bench, bench.using("tools") as tools:
        for name, arguments in calls:
            output = await tools.say(name, **arguments)
            lines = [line for line in output.text.splitlines() if "RBAC" in line or "orbidden" in line]
            assert all("secret" in line.lower() for line in lines), (name, lines)


async def test_with_these_rights_no_flux_tool_is_refused(tmp_path: Path) -> None:
    rules = [
        Rule(tuple(r["verbs"]), tuple(r["resources"]), tuple(r["apiGroups"]))
        for r in role("base/flux-read.yaml")["rules"]
    ]
    user = RbacUser("system:serviceaccount:opswarm:flux", rules)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("flux_logs", {"kind": "ks", "name": "jellyfin"}), ("flux_diagnose", {}),
        ("flux_changes", {"kind": "ks", "name": "jellyfin"}), ("flux_report", {}), ("flux_list", {}),
        ("flux_get", {"kind": "ks", "name": "jellyfin"}),
        ("flux_tree", {"kind": "hr", "name": "jellyfin"}),
        ("flux_owner", {"kind": "Deployment", "name": "jellyfin", "namespace": "media"}),
    ]  # fmt: skip
    async with staged(tmp_path, rbac={"tools": user}, token="tools") as stage:
        for name, arguments in calls:
            text = await stage.text(name, **arguments)
            assert "RBAC" not in text and "orbidden" not in text and "not listed" not in text, text
