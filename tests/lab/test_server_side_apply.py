"""Server-side apply: who owns which field, and what happens when two want one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.access import RbacUser, Rule
from lab.serve import serve
from tests.lab.conftest import READER, Served, Start, client_for, new_lab

APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
CONFIG = "/api/v1/namespaces/default/configmaps/notes"
WEB = "/apis/apps/v1/namespaces/default/deployments/web"


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": data}


def web(image: str = "nginx:1", **more: Any) -> dict[str, Any]:
    container = {"name": "web", "image": image, **more}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


async def apply(served: Served, path: str, body: Any, manager: str = "ours", **query: Any) -> Any:
    params = {"fieldManager": manager, **query}
    return await served.http.patch(path, content=json.dumps(body), headers={"Content-Type": APPLY}, params=params)


async def merge(served: Served, path: str, body: Any, manager: str = "editor") -> None:
    answer = await served.http.patch(
        path, content=json.dumps(body), headers={"Content-Type": MERGE}, params={"fieldManager": manager}
    )
    assert answer.status_code == 200, answer.text


def entries(obj: Any) -> dict[tuple[str, str], Any]:
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in obj["metadata"]["managedFields"]}


async def test_what_is_not_there_is_created_and_then_changed(start: Start) -> None:
    served = await start()
    made = await apply(served, CONFIG, config(a="1"))
    assert (made.status_code, made.json()["data"]) == (201, {"a": "1"})
    again = await apply(served, CONFIG, config(a="2", b="3"))
    assert (again.status_code, again.json()["data"]) == (200, {"a": "2", "b": "3"})
    assert entries(again.json()) == {("ours", "Apply"): {"f:data": {"f:a": {}, "f:b": {}}}}


async def test_yaml_is_applied_as_json_is(start: Start) -> None:
    served = await start()
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: notes\ndata:\n  a: 'x'\n"
    answer = await served.http.patch(
        CONFIG, content=text, headers={"Content-Type": APPLY}, params={"fieldManager": "ours"}
    )
    assert answer.json()["data"] == {"a": "x"}


async def test_applying_the_same_again_leaves_no_revision(start: Start) -> None:
    served = await start()
    first = (await apply(served, CONFIG, config(a="1"))).json()
    served.clock.move(seconds=60)
    assert (await apply(served, CONFIG, config(a="1"))).json() == first


async def test_a_field_no_longer_applied_goes_unless_somebody_else_owns_it(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1", b="2", c="3"))
    await apply(served, CONFIG, config(b="2"), "theirs")
    left = (await apply(served, CONFIG, config(a="1"))).json()
    assert left["data"] == {"a": "1", "b": "2"}
    assert entries(left)[("theirs", "Apply")] == {"f:data": {"f:b": {}}}


async def test_a_field_that_another_changed_is_a_conflict_that_names_both(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1", b="1"))
    await merge(served, CONFIG, {"data": {"a": "2"}})
    refused = await apply(served, CONFIG, config(a="3", b="1"))
    assert (refused.status_code, refused.json()["reason"]) == (409, "Conflict")
    assert refused.json()["message"] == 'Apply failed with 1 conflict: conflict with "editor" using v1: .data.a'
    assert refused.json()["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "editor" using v1', "field": ".data.a"}
    ]
    assert (await served.get(CONFIG))["data"]["a"] == "2"


async def test_the_same_value_is_no_conflict_and_is_owned_by_both(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1"))
    await merge(served, CONFIG, {"data": {"a": "2"}})
    both = (await apply(served, CONFIG, config(a="2"))).json()
    assert entries(both) == {
        ("ours", "Apply"): {"f:data": {"f:a": {}}},
        ("editor", "Update"): {"f:data": {"f:a": {}}},
    }


async def test_force_takes_the_field(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1"))
    await merge(served, CONFIG, {"data": {"a": "2"}})
    taken = (await apply(served, CONFIG, config(a="3"), force="true")).json()
    assert taken["data"] == {"a": "3"}
    assert entries(taken) == {("ours", "Apply"): {"f:data": {"f:a": {}}}}


async def test_an_update_and_an_apply_by_one_name_are_two_managers(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1"))
    await merge(served, CONFIG, {"data": {"a": "2"}}, "ours")
    assert (await apply(served, CONFIG, config(a="1"))).status_code == 409


async def test_containers_merge_by_name_and_ports_by_number_and_protocol(start: Start) -> None:
    served = await start()
    first = web(ports=[{"containerPort": 80}], env=[{"name": "A", "value": "1"}])
    assert (await apply(served, WEB, first)).status_code == 201
    second = web()
    second["spec"]["template"]["spec"]["containers"] = [
        {"name": "web", "env": [{"name": "B", "value": "2"}], "ports": [{"containerPort": 81, "protocol": "TCP"}]},
        {"name": "side", "image": "busybox"},
    ]
    spec = (await apply(served, WEB, second, "theirs")).json()["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["containers"]] == ["web", "side"]
    assert spec["containers"][0]["image"] == "nginx:1"
    assert [e["name"] for e in spec["containers"][0]["env"]] == ["A", "B"]
    assert [p["containerPort"] for p in spec["containers"][0]["ports"]] == [80, 81]
    refused = await apply(served, WEB, web("nginx:2"), "theirs")
    assert refused.json()["details"]["causes"][0]["field"] == '.spec.template.spec.containers[name="web"].image'


async def test_a_container_no_longer_applied_is_taken_out_whole(start: Start) -> None:
    served = await start()
    body = web()
    body["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "busybox"})
    await apply(served, WEB, body)
    spec = (await apply(served, WEB, web())).json()["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["containers"]] == ["web"]


async def test_a_dry_run_says_what_would_be_and_keeps_nothing(start: Start) -> None:
    served = await start()
    shown = await apply(served, CONFIG, config(a="1"), dryRun="All")
    assert (shown.status_code, shown.json()["data"]) == (201, {"a": "1"})
    assert (await served.http.get(CONFIG)).status_code == 404


@pytest.mark.parametrize(
    ("change", "query", "code", "said"),
    [
        ({}, {"fieldManager": ""}, 422, "fieldManager: Required value"),
        ({"metadata": {"name": "other"}}, {}, 400, "does not match the name on the URL"),
        ({"metadata": {"name": "notes", "namespace": "media"}}, {}, 400, "does not match the namespace"),
        ({"metadata": {"name": "notes", "managedFields": []}}, {}, 400, "must be nil"),
        ({"metadata": {"name": "notes", "uid": "0"}}, {}, 409, "uid mismatch"),
        ({"kind": "Secret"}, {}, 400, "cannot be handled as a ConfigMap"),
    ],
)
async def test_what_is_no_proper_apply_is_refused(
    start: Start, change: Any, query: Any, code: int, said: str
) -> None:
    served = await start()
    refused = await apply(served, CONFIG, {**config(a="1"), **change}, **query)
    assert refused.status_code == code and said in refused.json()["message"]


async def test_force_is_only_for_an_apply(start: Start) -> None:
    served = await start()
    answer = await served.http.patch(
        CONFIG, content="{}", headers={"Content-Type": MERGE}, params={"fieldManager": "x", "force": "true"}
    )
    assert answer.status_code == 422 and "force: Forbidden" in answer.json()["message"]


async def test_another_uid_than_the_objects_is_refused(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1"))
    body = config(a="2")
    body["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    assert (await apply(served, CONFIG, body)).status_code == 409


async def test_creating_by_apply_takes_the_right_to_create(start: Start) -> None:
    patcher = RbacUser("patcher", (Rule(("get", "patch"), ("configmaps",)),))
    lab, _ = new_lab(rbac={"patcher": patcher, "reader": READER})
    async with await serve(lab) as running, client_for(running, "patcher") as http:
        answer = await http.patch(
            CONFIG, content=json.dumps(config(a="1")), headers={"Content-Type": APPLY}, params={"fieldManager": "x"}
        )
    assert answer.status_code == 403 and "cannot create resource" in answer.json()["message"]


async def test_an_update_takes_what_it_changes_from_its_owner(start: Start) -> None:
    served = await start()
    await apply(served, CONFIG, config(a="1", b="1"))
    await merge(served, CONFIG, {"data": {"a": "2", "b": None}})
    assert entries(await served.get(CONFIG)) == {("editor", "Update"): {"f:data": {"f:a": {}}}}
