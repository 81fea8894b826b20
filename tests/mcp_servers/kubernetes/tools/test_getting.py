from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.mcp_servers.kubernetes.tools.bench import Bench, benched, tools_at
from tests.mcp_servers.kubernetes.tools.stand_in import always, discovery, kind
from tests.support.hosting import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLAIN = "hunter2-hunter2"
CODED = base64.b64encode(PLAIN.encode()).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A lab with secrets in all the places where people put them."""
    folder: Path = tmp_path_factory.mktemp("own")
    async with benched(folder) as made:
        copy = json.dumps({"kind": "Secret", "data": {"password": CODED}})
        await made.create(
            "/api/v1/namespaces/default/secrets",
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": "vault",
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": copy},
                    "managedFields": [{"manager": "kubectl", "operation": "Update"}],
                },
                "data": {"password": CODED, "user": CODED},
            },
        )
        env = [
            {"name": "DB_PASSWORD", "value": PLAIN},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": PLAIN},
            {"name": "AWS_ACCESS_KEY_ID", "value": PLAIN},
            {"name": "RESTIC_PASSPHRASE", "value": PLAIN},
            {"name": "MYSQL_PWD", "value": PLAIN},
            {"name": "TZ", "value": "Etc/UTC"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "user"}}},
        ]
        await made.create(
            "/api/v1/namespaces/default/pods",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "leaky", "namespace": "default"},
                "spec": {"containers": [{"name": "app", "image": "busybox", "env": env}]},
            },
        )
        await made.patch(
            "/apis/helm.toolkit.fluxcd.io/v2/namespaces/media/helmreleases/sonarr",
            {"spec": {"values": {"controllers": {"main": {"containers": {"app": {"env": {
                "SONARR__AUTH__APIKEY": PLAIN, "TZ": "Etc/UTC", "DB_PASSWORD": {"value": PLAIN},
                "OTHER_TOKEN": {"valueFrom": {"secretKeyRef": {"name": "vault"}}},
            }}}}}}}},
        )  # fmt: skip
        for namespace in ("default", "media"):
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "twin"}}
            await made.create(f"/api/v1/namespaces/{namespace}/configmaps", body)
        yield made


async def test_a_secret_keeps_its_keys_and_loses_its_values(own: Bench) -> None:
    said = await own.say("resources_get", kind="secret", name="vault", namespace="default")
    assert yaml.safe_load(said.text)["data"] == {"password": "(masked)", "user": "(masked)"}
    whole = said.text + json.dumps(said.data)
    assert CODED not in whole
    assert PLAIN not in whole


@pytest.mark.parametrize("output", ["yaml", "table"])
async def test_a_list_of_secrets_shows_no_value_either(own: Bench, output: str) -> None:
    said = await own.say("resources_list", kind="secrets", namespace="default", output=output)
    assert "vault" in said.text
    whole = said.text + json.dumps(said.data)
    assert CODED not in whole
    if output == "yaml":
        assert "password: (masked)" in said.text


async def test_the_last_applied_copy_is_masked_whole(own: Bench) -> None:
    said = await own.say("resources_get", kind="secret", name="vault", namespace="default")
    annotations = yaml.safe_load(said.text)["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/last-applied-configuration"] == "(masked)"


async def test_managed_fields_are_left_out(own: Bench) -> None:
    raw = await own.get("/apis/apps/v1/namespaces/media/deployments/sonarr")
    assert raw["kind"] == "Deployment"
    for said in (
        await own.say("resources_get", kind="secret", name="vault", namespace="default"),
        await own.say("resources_list", kind="secrets", namespace="default", output="yaml"),
    ):
        assert "managedFields" not in said.text + json.dumps(said.data)


async def test_literal_values_of_secret_looking_variables_are_masked_and_others_are_not(own: Bench) -> None:
    said = await own.say("resources_get", kind="pod", name="leaky", namespace="default")
    env = {e["name"]: e for e in yaml.safe_load(said.text)["spec"]["containers"][0]["env"]}
    assert PLAIN not in said.text + json.dumps(said.data)
    assert env["TZ"]["value"] == "Etc/UTC"
    assert env["API_TOKEN"]["valueFrom"]["secretKeyRef"]["key"] == "user"
    assert {n for n, e in env.items() if e.get("value") == "(masked)"} == {
        "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "RESTIC_PASSPHRASE", "MYSQL_PWD",
    }  # fmt: skip


async def test_variables_written_as_a_mapping_in_helm_values_are_masked_too(own: Bench) -> None:
    said = await own.say("resources_get", kind="helmrelease", name="sonarr", namespace="media")
    assert PLAIN not in said.text + json.dumps(said.data)
    env = yaml.safe_load(said.text)["spec"]["values"]["controllers"]["main"]["containers"]["app"]["env"]
    assert env["SONARR__AUTH__APIKEY"] == "(masked)"
    assert env["TZ"] == "Etc/UTC"
    assert env["OTHER_TOKEN"] == {"valueFrom": {"secretKeyRef": {"name": "vault"}}}


async def test_the_namespace_of_a_unique_name_need_not_be_given(own: Bench) -> None:
    said = await own.say("resources_get", kind="deploy", name="sonarr")
    assert yaml.safe_load(said.text)["metadata"]["namespace"] == "media"


async def test_an_ambiguous_name_lists_its_namespaces(own: Bench) -> None:
    said = await own.refuse("resources_get", kind="cm", name="twin")
    assert "several namespaces: default, media" in said


@pytest.mark.parametrize("output", ["yaml", "table"])
@pytest.mark.parametrize("namespace", ["media", ""])
async def test_a_name_that_is_not_there_is_an_error_in_every_form(own: Bench, output: str, namespace: str) -> None:
    said = await own.refuse("resources_get", kind="pod", name="nowhere", namespace=namespace, output=output)
    assert "nowhere" in said


async def test_one_object_as_a_table_is_one_row(own: Bench) -> None:
    said = await own.say("resources_get", kind="deploy", name="sonarr", namespace="media", output="table")
    assert len(said.lines) == 2
    assert said.data["rows"][0][0] == "sonarr"


@pytest.mark.parametrize(
    "trick", ["../secrets", "%2e%2e", "a?b", "a\nb", "sonarr\n", "..", ".", "a/b", "a#b", " ", "a b", "ä"]
)
async def test_a_name_that_could_leave_its_place_in_the_path_is_refused(own: Bench, trick: str) -> None:
    said = await own.refuse("resources_get", kind="pod", name=trick, namespace="media")
    assert "is not a Kubernetes name" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "trick", ["../kube-system", "%2e%2e", "a?b", "media\n", "a\nb", "..", "a/b", "Media", "a.b", " "]
)
async def test_a_namespace_that_could_leave_its_place_in_the_path_is_refused(own: Bench, trick: str) -> None:
    for tool, extra in (("resources_get", {"kind": "pod", "name": "x"}), ("pods_list", {}), ("find", {"keyword": "x"})):
        assert "is not a namespace name" in await own.refuse(tool, namespace=trick, **extra)


@pytest.mark.parametrize("output", ["yaml", "table"])
async def test_what_is_missing_is_said_the_object_or_its_namespace(own: Bench, output: str) -> None:
    place = {"kind": "pod", "name": "nowhere", "output": output}
    assert "No Pod is named 'nowhere' in namespace media." in await own.refuse(
        "resources_get", namespace="media", **place
    )
    assert "There is no namespace 'medai'." in await own.refuse("resources_get", namespace="medai", **place)
    assert "No Node is named 'n9'." in await own.refuse(
        "resources_get", kind="node", name="n9", namespace="media", output=output
    )


async def test_who_may_not_read_namespaces_is_told_where_the_object_is_not(tmp_path: Path) -> None:
    async def answer(request: Request) -> Response:
        path = request.url.path
        if path in ("/api", "/apis"):
            core = [kind("pods", "pod", "Pod"), kind("namespaces", "namespace", "Namespace", namespaced=False)]
            return JSONResponse(discovery(("", "v1", core)) if path == "/api" else discovery())
        denied = path == "/api/v1/namespaces/media"
        message = 'namespaces "media" is forbidden' if denied else 'pods "x" not found'
        return JSONResponse({"kind": "Status", "message": message}, 403 if denied else 404)

    async with serving(always(answer)) as url, tools_at(url, tmp_path) as tools:
        said = await tools.refuse("resources_get", kind="pod", name="x", namespace="media")
    assert "No Pod is named 'x' in namespace media." in said


@pytest.mark.parametrize(("kind_name", "name"), [("deploy", "sonarr"), ("ns", "media")])
async def test_the_data_of_yaml_says_what_it_is_and_does_not_carry_it_again(
    own: Bench, kind_name: str, name: str
) -> None:
    said = await own.say("resources_get", kind=kind_name, name=name)
    whole = yaml.safe_load(said.text)
    namespace = whole["metadata"].get("namespace", "")
    assert said.data == {"kind": whole["kind"], "namespace": namespace, "name": name}
