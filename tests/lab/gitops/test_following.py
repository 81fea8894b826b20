"""The lab's Flux follows a Git repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.app import Lab
from lab.github.git import Person, Repository
from lab.gitops.kustomizations import KUSTOMIZATIONS
from lab.gitops.marks import REQUESTED
from lab.gitops.releases import RELEASES
from lab.gitops.sources import GIT
from lab.objects import Obj, condition
from lab.seed.repository import plant_repository
from tests.lab.conftest import START, Clock, new_lab

MARIA = Person("maria", "maria@home.example")
JELLYFIN = "kubernetes/apps/media/jellyfin"
RELEASE = f"{JELLYFIN}/app/helmrelease.yaml"
LIST = f"{JELLYFIN}/app/kustomization.yaml"


@dataclass
class Home:
    """A lab, its clock, and the repository that it follows."""

    lab: Lab
    clock: Clock
    git: Repository

    def run(self, seconds: int, step: int = 2) -> None:
        for _ in range(0, seconds, step):
            self.clock.move(seconds=step)
            self.lab.tick()

    def get(self, storage: str, namespace: str, name: str) -> Obj:
        found = self.lab.store.get(storage, namespace, name)
        assert found is not None
        return found

    def app(self, name: str) -> Obj:
        return self.get(KUSTOMIZATIONS, "flux-system", name)

    def file(self, path: str) -> str:
        return self.git.files(str(self.git.resolve("main")))[path]

    def commit(self, files: Mapping[str, str | None], message: str = "change") -> str:
        """A commit on main, and Flux told of it."""
        sha = self.git.commit_files("main", files, message, MARIA, at=self.clock())
        self.ask(GIT, "flux-system", "flux-system")
        self.run(6)
        return sha

    def ask(self, storage: str, namespace: str, name: str) -> str:
        found, stamp = self.get(storage, namespace, name), self.clock().isoformat()
        marks = {**(found["metadata"].get("annotations") or {}), REQUESTED: stamp}
        self.lab.store.replace(storage, {**found, "metadata": {**found["metadata"], "annotations": marks}})
        return stamp

    def ready(self, name: str) -> tuple[str, str, str]:
        found = condition(self.app(name), "Ready") or {}
        return found["status"], found["reason"], found["message"]

    def image(self, name: str = "jellyfin", namespace: str = "media") -> str:
        found = self.get("deployments.apps", namespace, name)
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    lab, clock = new_lab()
    git = Repository(tmp_path / "home-ops.git")
    plant_repository(lab.cluster, git, MARIA, START)
    made = Home(lab, clock, git)
    made.run(2)
    return made


def test_the_repository_says_what_the_cluster_already_is(home: Home) -> None:
    def specs() -> dict[str, Any]:
        return {
            f"{o['kind']}/{o['metadata']['namespace']}/{o['metadata']['name']}": o["spec"]
            for storage in (KUSTOMIZATIONS, RELEASES, "deployments.apps", "statefulsets.apps", "cronjobs.batch")
            for o in home.lab.store.all(storage)
        }

    before = specs()
    sha = home.commit({"README.md": "# Home\n"})
    assert specs() == before
    for one in home.lab.store.all(KUSTOMIZATIONS):
        assert one["status"]["lastAppliedRevision"] == f"main@sha1:{sha}"
        assert condition(one, "Ready")["status"] == "True", condition(one, "Ready")  # type: ignore[index]


def test_a_commit_upgrades_a_release_and_rolls_its_pods(home: Home) -> None:
    sha = home.commit({RELEASE: home.file(RELEASE).replace("10.11.2", "10.12.0")}, "feat: jellyfin 10.12.0")
    assert home.image().endswith(":10.12.0")
    release = home.get(RELEASES, "media", "jellyfin")["status"]
    assert [r["version"] for r in release["history"]] == [5, 4]
    assert release["history"][1]["status"] == "superseded"
    assert home.app("jellyfin")["status"]["history"][0]["metadata"]["revision"] == f"main@sha1:{sha}"
    home.run(60)
    (pod,) = [p for p in home.lab.store.all("pods", "media") if p["metadata"]["name"].startswith("jellyfin-")]
    assert pod["spec"]["containers"][0]["image"].endswith(":10.12.0")
    messages = [e["message"] for e in home.lab.store.all("events", "flux-system")]
    assert "stored artifact for commit 'feat: jellyfin 10.12.0'" in messages
    assert "HelmRelease/media/jellyfin configured" in messages


def test_only_what_a_commit_changes_is_written(home: Home) -> None:
    def written() -> dict[tuple[str, str], Any]:
        return {
            (storage, o["metadata"]["name"]): o["metadata"].get("managedFields")
            for storage in (RELEASES, "deployments.apps")
            for o in home.lab.store.all(storage)
        }

    before = written()
    home.commit({RELEASE: home.file(RELEASE).replace("10.11.2", "10.12.0")})
    assert [key for key, fields in written().items() if before[key] != fields] == [(RELEASES, "jellyfin")]


def test_what_is_new_in_git_is_installed_and_what_is_gone_is_pruned(home: Home) -> None:
    release = yaml.safe_load(home.file(RELEASE))
    release["metadata"]["name"] = "tautulli"
    release["spec"]["values"]["controllers"]["main"]["containers"]["app"]["image"] = {
        "repository": "ghcr.io/home-operations/tautulli", "tag": "2.16.0",
    }  # fmt: skip
    ks = yaml.safe_load(home.file(f"{JELLYFIN}/ks.yaml"))
    ks["metadata"]["name"] = "tautulli"
    ks["spec"]["path"] = "./kubernetes/apps/media/tautulli/app"
    listed = "kubernetes/apps/media/kustomization.yaml"
    kept = home.file(listed)
    folder = "kubernetes/apps/media/tautulli"
    home.commit(
        {
            f"{folder}/ks.yaml": yaml.safe_dump(ks),
            f"{folder}/app/helmrelease.yaml": yaml.safe_dump(release),
            listed: kept + "- ./tautulli/ks.yaml\n",
        }
    )
    home.run(10)
    assert home.ready("tautulli")[0] == "True"
    assert home.image("tautulli") == "ghcr.io/home-operations/tautulli:2.16.0"
    assert home.get(RELEASES, "media", "tautulli")["status"]["history"][0]["version"] == 1
    home.commit({f"{folder}/ks.yaml": None, f"{folder}/app/helmrelease.yaml": None, listed: kept})
    home.run(10)
    for storage in (RELEASES, "deployments.apps"):
        assert home.lab.store.get(storage, "media", "tautulli") is None
    assert home.lab.store.get(KUSTOMIZATIONS, "flux-system", "tautulli") is None


@pytest.mark.parametrize(
    ("files", "reason", "says"),
    [
        ({RELEASE: "kind: [HelmRelease\n"}, "BuildFailed", "kustomize build failed: accumulating resources from"),
        ({RELEASE: "apiVersion: v9\nkind: Nothing\n"}, "BuildFailed", 'no matches for kind "Nothing"'),
        ({RELEASE: None}, "ArtifactFailed", "no such file or directory"),
        ({RELEASE: None, LIST: "resources: [gone.yaml]\n"}, "BuildFailed", "'gone.yaml'"),
        ({RELEASE: None, LIST: "[\n"}, "BuildFailed", "kustomization.yaml is not valid"),
        ({LIST: "resources: [../app]\n"}, "BuildFailed", "'../app'"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_fails_as_flux_says(
    home: Home, files: dict[str, str | None], reason: str, says: str
) -> None:
    before = home.image()
    home.commit(files)
    status, found, message = home.ready("jellyfin")
    assert (status, found) == ("False", reason) and says in message
    assert home.image() == before
    assert home.app("jellyfin")["status"]["history"][0]["lastReconciledStatus"] == reason
    home.commit({RELEASE: home.git.files(home.git.log("main")[-1].sha)[RELEASE], LIST: None})
    assert home.ready("jellyfin")[0] == "True"


def test_what_depends_on_a_failure_waits_for_it(home: Home) -> None:
    path = next(p for p in home.git.files("main") if p.endswith("/cloudnative-pg/ks.yaml"))
    folder = path.removesuffix("/ks.yaml")
    name = next(p for p in home.git.files("main") if p.startswith(f"{folder}/app/"))
    home.commit({name: "kind: [\n"})
    assert home.ready("cloudnative-pg")[1] == "BuildFailed"
    assert home.ready("sonarr") == (
        "False",
        "DependencyNotReady",
        "dependency 'flux-system/cloudnative-pg' is not ready",
    )
    home.commit({name: home.git.files(home.git.log("main")[-1].sha)[name]})
    home.run(60)
    assert home.ready("sonarr")[0] == "True"


def test_suspended_objects_are_left_alone(home: Home) -> None:
    before = home.image()
    found = home.app("jellyfin")
    home.lab.store.replace(KUSTOMIZATIONS, {**found, "spec": {**found["spec"], "suspend": True}})
    home.commit({RELEASE: home.file(RELEASE).replace("10.11.2", "10.12.0")})
    stamp = home.ask(KUSTOMIZATIONS, "flux-system", "jellyfin")
    home.run(60)
    assert home.image() == before
    assert home.app("jellyfin")["status"].get("lastHandledReconcileAt") != stamp
    found = home.app("jellyfin")
    home.lab.store.replace(KUSTOMIZATIONS, {**found, "spec": {**found["spec"], "suspend": False}})
    home.run(6)
    assert home.image().endswith(":10.12.0")
    assert home.app("jellyfin")["status"]["lastHandledReconcileAt"] == stamp


def test_what_is_changed_by_hand_is_put_back(home: Home) -> None:
    found = home.get("deployments.apps", "default", "homepage")
    image = home.image("homepage", "default")
    spec = yaml.safe_load(yaml.safe_dump(found["spec"]))
    spec["template"]["spec"]["containers"][0]["image"] = "docker.io/evil:1"
    home.lab.store.replace("deployments.apps", {**found, "spec": spec})
    home.ask(KUSTOMIZATIONS, "flux-system", "homepage")
    home.run(4)
    assert home.image("homepage", "default") == image


def test_a_commit_is_found_at_the_interval_without_being_asked(home: Home) -> None:
    home.git.commit_files("main", {RELEASE: home.file(RELEASE).replace("10.11.2", "10.12.0")}, "x", MARIA)
    home.run(60)
    assert home.image().endswith(":10.11.2")
    home.clock.at += timedelta(hours=1)
    home.run(4)
    assert home.image().endswith(":10.12.0")


def test_objects_that_say_nonsense_do_not_stop_the_lab(home: Home) -> None:
    for name, spec in (
        ("no-source", {}),
        ("odd-times", {"interval": "soon", "retryInterval": 5, "sourceRef": {"kind": "GitRepository", "name": "x"}}),
    ):
        home.lab.store.add(KUSTOMIZATIONS, {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": name, "namespace": "media"}, "spec": spec,
        })  # fmt: skip
    home.lab.store.add(GIT, {
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "x", "namespace": "media"}, "spec": {"interval": "500ms", "ref": {"branch": "../x"}},
    })  # fmt: skip
    home.lab.store.add(RELEASES, {
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "empty", "namespace": "media"}, "spec": {},
    })  # fmt: skip
    home.run(10)
    assert (condition(home.get(GIT, "media", "x"), "Ready") or {})["reason"] == "GitOperationFailed"
    assert (condition(home.get(RELEASES, "media", "empty"), "Ready") or {})["reason"] == "UpgradeFailed"
