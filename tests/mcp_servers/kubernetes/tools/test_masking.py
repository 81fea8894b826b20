from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from mcp_servers.cluster.masking import shown

PLAIN = "correct-horse-battery"
CODED = base64.b64encode(PLAIN.encode()).decode()
PACKED = base64.b64encode(gzip.compress(json.dumps({"data": {"password": CODED}}).encode(), mtime=0)).decode()


def secret(**annotations: str) -> dict[str, Any]:
    metadata = {"name": "vault", "annotations": annotations}
    return {"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": {"password": CODED}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kubectl.kubernetes.io/last-applied-configuration", json.dumps({"data": {"password": CODED}})),
        ("objectset.rio.cattle.io/applied", PACKED),
        ("kapp.k14s.io/original-diff-later", "short"),
        ("kopf.zalando.org/last-handled-configuration", "short"),
        ("kapp.k14s.io/original", json.dumps({"stringData": {"password": PLAIN}})),
        ("someone.example/backup", f"was {PLAIN} before"),
        ("someone.example/coded", CODED),
        ("someone.example/list", json.dumps([1, 2])),
        ("someone.example/long", "x" * 200),
    ],
)
def test_a_copy_of_a_secret_in_an_annotation_is_masked(name: str, text: str) -> None:
    item = secret(**{name: text, "meta.helm.sh/release-name": "vault"})
    for safe in (shown(item), shown({"kind": "SecretList", "items": [item]})["items"][0]):
        assert safe["metadata"]["annotations"] == {name: "(masked)", "meta.helm.sh/release-name": "vault"}
        assert safe["data"] == {"password": "(masked)"}
    assert PLAIN not in json.dumps(shown(item)) and CODED not in json.dumps(shown(item))


def test_other_kinds_keep_their_annotations_but_the_known_copies() -> None:
    item = {
        "kind": "Deployment",
        "metadata": {"annotations": {"kapp.k14s.io/original": "{}", "note": "y" * 300, "list": "[1]"}},
    }
    safe = shown(item)["metadata"]["annotations"]
    assert safe == {"kapp.k14s.io/original": "(masked)", "note": "y" * 300, "list": "[1]"}


def test_a_list_of_many_kinds_is_masked_too() -> None:
    safe = shown({"kind": "List", "items": [secret(), {"kind": "ConfigMap", "data": {"a": "b"}}]})
    assert safe["items"][0]["data"] == {"password": "(masked)"}
    assert safe["items"][1]["data"] == {"a": "b"}


def test_a_short_value_is_masked_where_it_is_the_whole_annotation() -> None:
    item = {**secret(pin="123", note="in 1234 days"), "data": {"pin": base64.b64encode(b"123").decode()}}
    assert shown(item)["metadata"]["annotations"] == {"pin": "(masked)", "note": "in 1234 days"}


def test_a_sealed_secret_keeps_its_ciphertext_and_its_template() -> None:
    spec = {"encryptedData": {"password": "AgBy3i"}, "template": {"type": "Opaque", "metadata": {"name": "vault"}}}
    item = {"kind": "SealedSecret", "metadata": {"name": "vault"}, "spec": spec}
    assert shown(item) == item


def test_a_secret_without_the_shape_of_one_is_shown_without_a_defect() -> None:
    assert shown({"kind": "Secret", "metadata": {"annotations": {"a": "b"}}, "data": ["x"]})["metadata"]
