"""Text that means harm: each is refused with a sentence, and nothing in it gets into that sentence unseen."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest

from mcp_servers.kubernetes.actions.manifests import MOST_BYTES, read_manifest
from opswarm.errors import InvalidInput, OpswarmError
from tests.mcp_servers.kubernetes.actions.stage import Stage

GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes, namespace: default}\n"
NAMES = [
    "", " ", "a b", "a\nb", "a\x00", "a\u202egnp", "\u200bsonarr", "sonarr\u00a0", "\x1b[31msonarr", "../sonarr", "a/b",
    "sonarr?dryRun=All", "sonarr%2f..", "sonarr#", "*", "-", "Sonarr", "\u0455onarr",
    "a" * 254, "sonarr,radarr", "x" * 100_000,
]  # fmt: skip
CALLS: dict[str, dict[str, Any]] = {
    "rollout_restart": {"kind": "Deployment", "namespace": "media"},
    "rollout_undo": {"kind": "Deployment", "namespace": "media"},
    "rollout_pause": {"namespace": "media"},
    "rollout_resume": {"namespace": "media"},
    "scale": {"kind": "Deployment", "namespace": "media", "replicas": 2},
    "delete_pod": {"namespace": "media"},
    "evict_pod": {"namespace": "media"},
    "cordon": {},
    "uncordon": {},
    "drain": {},
    "trigger_cronjob": {"namespace": "media"},
    "label": {"kind": "Deployment", "namespace": "media", "key": "a", "value": "b"},
    "annotate": {"kind": "Deployment", "namespace": "media", "key": "a", "value": "b"},
}


def is_plain(error: OpswarmError) -> bool:
    text = str(error)
    return len(text) < 1_000 and not any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") for c in text)


async def test_no_tool_takes_a_name_that_is_not_plain(stage: Stage) -> None:
    for tool, arguments in CALLS.items():
        for name in NAMES:
            assert is_plain(await stage.refused(tool, **arguments, name=name)), (tool, name)
    for name in NAMES:
        assert is_plain(await stage.refused("delete_finished", kind="Job", namespace="media", names=[name]))


async def test_no_tool_takes_a_namespace_or_kind_that_is_not_plain(stage: Stage) -> None:
    for tool, arguments in CALLS.items():
        for bad in NAMES:
            if "namespace" in arguments:
                refused = await stage.refused(tool, **{**arguments, "namespace": bad}, name="sonarr")
                assert is_plain(refused), (tool, bad)
            if "kind" in arguments and bad.strip():
                assert is_plain(await stage.refused(tool, **{**arguments, "kind": bad}, name="sonarr")), (tool, bad)


def bomb() -> str:
    levels = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        levels.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return GOOD + "\n".join(levels)


MANIFESTS = {
    "a bomb of anchors": (bomb(), "nchors are not allowed"),
    "an alias": (GOOD + "data: *x\n", "liases are not allowed"),
    "a tag": (GOOD + "data: !!python/object/apply:os.system ['id']\n", "ags are not allowed"),
    "two documents": (GOOD + "---\n" + GOOD, "document"),
    "a merge key": (GOOD + "data:\n  <<: {a: b}\n", "read in two ways"),
    "a list kind": ("apiVersion: v1\nkind: List\nitems: []\nmetadata: {name: x}\n", "only one object"),
    "a typed list": ("apiVersion: v1\nkind: ConfigMapList\nmetadata: {name: x}\n", "only one object"),
    "items": (GOOD + "items: []\n", "only one object"),
    "a key twice": (GOOD + "data: {a: '1', a: '2'}\n", "given twice"),
    "a key twice in JSON": ('{"apiVersion":"v1","kind":"ConfigMap","kind":"Secret","metadata":{"name":"x"}}', "twice"),
    "JSON with more behind it": ('{"apiVersion":"v1"} {"kind":"Secret"}', "not valid JSON"),
    "NaN": ('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":NaN}', "NaN"),
    "a control character": (GOOD + "data: {a: 'x\x07'}\n", "invisible or control"),
    "a bidirectional override": (GOOD + "data: {a: 'x\u202ey'}\n", "invisible or control"),
    "a zero-width space": (GOOD + "data: {a\u200b: 'x'}\n", "invisible or control"),
    "an escaped override": (GOOD + 'data: {a: "x\\u202ey"}\n', "invisible or control"),
    "an escaped escape in JSON": (
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"\\u001b[2J"}}',
        "invisible or control",
    ),
    "half a character": (
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"\\ud800"}}',
        "invisible or control",
    ),
    "half a character, unescaped": (GOOD + "data: {a: '\ud800'}\n", "invisible or control"),
    "too much": (GOOD + "data: {a: '" + "x" * MOST_BYTES + "'}\n", "larger than"),
    "a deep nest": (GOOD + "data: " + "[" * 60 + "]" * 60 + "\n", "too deep"),
    "a deep nest of JSON": (
        '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":' + "[" * 30_000 + "]" * 30_000 + "}",
        "too deep",
    ),
    "nothing": ("", "empty"),
    "a word": ("hello", "not an object"),
    "no kind": ("apiVersion: v1\nmetadata: {name: x}\n", "no apiVersion and kind"),
    "no name": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n", "no metadata.name"),
    "a number for a name": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}\n", "no metadata.name"),
    "owners": (GOOD.replace("}", ", ownerReferences: []}"), "ownerReferences"),
    "finalizers": (GOOD.replace("}", ", finalizers: [x]}"), "finalizers"),
    "a uid": (GOOD.replace("}", ", uid: x}"), "uid"),
    "managed fields": (GOOD.replace("}", ", managedFields: []}"), "managedFields"),
    "a status": (GOOD + "status: {}\n", "not the status"),
    "a word for a boolean": (GOOD + "immutable: yes\n", "read in two ways"),
    "a key that is a boolean": (GOOD + "data: {on: x}\n", "read in two ways"),
    "an octal number": (GOOD + "mode: 0644\n", "read in two ways"),
    "a number in sixties": (GOOD + "at: 22:30\n", "read in two ways"),
    "a label that is no text": (GOOD.replace("}", ", labels: {a: 1}}"), "must be texts"),
    "a Flux label": (GOOD.replace("}", ", labels: {x.toolkit.fluxcd.io/name: x}}"), "belongs to its controller"),
    "a key of ours": (GOOD.replace("}", ", annotations: {opswarm.dev/action: x}}"), "belongs to its controller"),
}


@pytest.mark.parametrize("case", MANIFESTS)
async def test_a_manifest_that_is_not_one_plain_object_is_refused(stage: Stage, case: str) -> None:
    manifest, said = MANIFESTS[case]
    refused = await stage.refused("apply_manifest", manifest=manifest)
    assert isinstance(refused, InvalidInput) and is_plain(refused)
    assert said in str(refused)


async def test_a_manifest_for_another_namespace_than_the_call_is_refused(stage: Stage) -> None:
    refused = await stage.refused("apply_manifest", manifest=GOOD + "data: {a: b}\n", namespace="media")
    assert str(refused) == "The manifest is for the namespace 'default', the call for 'media'."


@pytest.mark.parametrize("name", NAMES)
async def test_a_manifest_with_a_name_that_is_not_plain_is_refused(stage: Stage, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
    assert is_plain(await stage.refused("apply_manifest", manifest=json.dumps(body)))


def test_plain_yaml_and_json_are_read_as_the_same_object() -> None:
    from_yaml = read_manifest(GOOD + "data:\n  a: |\n    two\n    lines\n  b: 'no'\n  c: \"07\"\r\n")
    from_json = read_manifest(json.dumps(dict(from_yaml.body)))
    assert from_yaml == from_json
    assert from_yaml.body["data"] == {"a": "two\nlines\n", "b": "no", "c": "07"}


async def test_what_the_cluster_says_can_t_paint_the_preview(stage: Stage) -> None:
    path = "/apis/batch/v1/namespaces/media/cronjobs/recyclarr"
    await stage.merge(path, {"spec": {"schedule": "0 4 * * *\n\u202eWARNING \x1b[2J"}})
    act = await stage.plan("trigger_cronjob", name="recyclarr", namespace="media")
    assert not any(unicodedata.category(c) in ("Cf", "Cc") for c in act.plan.preview if c != "\n")
    assert len(act.plan.preview.splitlines()) == 1
