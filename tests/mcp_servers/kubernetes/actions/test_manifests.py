"""Manifests that anybody may have written: one plain object, or one sentence."""

from __future__ import annotations

import pytest

from mcp_servers.kubernetes.actions.manifests import read_manifest
from opswarm.errors import InvalidInput

GOOD = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: media}\nspec: {replicas: 1}\n"


def test_one_object_is_read() -> None:
    found = read_manifest(GOOD)
    assert (found.group, found.version, found.kind, found.namespace, found.name) == (
        "apps", "v1", "Deployment", "media", "a",
    )  # fmt: skip
    assert read_manifest('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}').group == ""


BOMB = "a: &a [x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "just words", "null", GOOD + "---\n" + GOOD, GOOD + "kind: Secret\n", BOMB + GOOD,
        GOOD.replace("kind: Deployment", "kind: List"), GOOD.replace("kind: Deployment", "kind: DeploymentList"),
        GOOD + "items: []\n", GOOD + "status: {}\n", GOOD.replace("name: a", 'name: "a\\u202e"'),
        GOOD.replace("name: a", "name: a\u200b"), GOOD.replace("replicas: 1", "replicas: 010"),
        GOOD.replace("replicas: 1", "paused: yes"), GOOD.replace("name: a, ", ""), "x" * 70_000,
        GOOD.replace("replicas: 1", "a: " + "[" * 60 + "]" * 60), "{" * 100_000,
        '{"apiVersion": "v1", "kind": "A", "kind": "B", "metadata": {"name": "b"}}',
        '{"apiVersion": "v1", "kind": "A", "metadata": {"name": "b"}, "x": NaN}',
        GOOD.replace("name: a", "name: a, ownerReferences: []"), GOOD.replace("name: a", "name: a, finalizers: [x]"),
        GOOD.replace("name: a", "name: a, labels: {kustomize.toolkit.fluxcd.io/name: x}"),
        GOOD.replace("name: a", "name: a, annotations: {opswarm.dev/action: x}"),
        GOOD.replace("name: a", "name: a, annotations: {helm.sh/resource-policy: keep}"),
        GOOD.replace("name: a", "name: a, annotations: {field.cattle.io/projectId: x}"),
        GOOD.replace("name: a", "name: a, annotations: {argocd.argoproj.io/sync-wave: x}"),
        GOOD.replace("name: a", "name: !!python/object/apply:os.system [id]"), GOOD + "\x00", "\ud800",
    ],
)  # fmt: skip
def test_attack_anything_else_is_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput) as told:
        read_manifest(text)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400
