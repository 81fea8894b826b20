"""What stands beside the lab's cluster: a merge on its GitHub reaches the pods, and its Loki has what they write."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from lab.app import Lab
from lab.beside import Beside
from lab.github.git import GitFailed, Repository
from lab.gitops.kustomizations import KUSTOMIZATIONS
from lab.gitops.marks import requested
from lab.gitops.receivers import RECEIVERS, Receivers
from lab.gitops.sources import GIT
from lab.objects import Obj
from tests.lab.conftest import new_lab

SECONDS = 20.0


class Town:
    """A lab and its surroundings."""

    def __init__(self, lab: Lab, clock: Any, around: Beside) -> None:
        self.lab, self.clock, self.around = lab, clock, around

    def of(self, name: str) -> httpx.AsyncClient:
        given = self.around.settings[name]
        token = {"Authorization": f"Bearer {given['token']}"} if "token" in given else {}
        return httpx.AsyncClient(base_url=given["url"], headers=token, timeout=SECONDS)

    def source(self) -> Obj:
        found = self.lab.store.get(GIT, "flux-system", "flux-system")
        assert found is not None
        return found

    def run(self, seconds: int) -> None:
        for _ in range(seconds // 2):
            self.clock.move(seconds=2)
            self.lab.tick()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    lab, clock = new_lab()
    async with Beside(lab, ("github", "loki")) as around:
        made = Town(lab, clock, around)
        made.run(4)
        yield made


async def test_a_merge_is_in_the_cluster_moments_later(town: Town) -> None:
    repository = town.around.settings["github"]["repositories"][0]
    async with town.of("github") as github:
        pulls = (await github.get(f"/repos/{repository}/pulls")).json()
        (bump,) = [p for p in pulls if p["head"]["ref"] == "renovate/jellyfin-10.11.3"]
        merged = await github.put(
            f"/repos/{repository}/pulls/{bump['number']}/merge",
            json={"merge_method": "squash", "sha": bump["head"]["sha"]},
        )
        assert merged.status_code == 200, merged.text
    async with asyncio.timeout(SECONDS):
        while not requested(town.source()):  # Until the webhook has come.
            await asyncio.sleep(0.02)
    town.run(10)
    assert town.source()["status"]["artifact"]["revision"] == f"main@sha1:{merged.json()['sha']}"
    found = town.lab.store.get("deployments.apps", "media", "jellyfin")
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":10.11.3")


async def test_the_pull_requests_have_their_checks(town: Town) -> None:
    repository = town.around.settings["github"]["repositories"][0]
    async with town.of("github") as github:
        found = {}
        for pull in (await github.get(f"/repos/{repository}/pulls")).json():
            runs = (await github.get(f"/repos/{repository}/commits/{pull['head']['sha']}/check-runs")).json()
            found[pull["head"]["ref"]] = sorted(str(r["conclusion"]) for r in runs["check_runs"])
    assert found == {
        "renovate/jellyfin-10.11.3": ["success", "success"],
        "renovate/sonarr-4.1.0.3001": ["None", "success"],
        "renovate/homepage-v2.0.0": ["failure", "success"],
    }


async def test_loki_has_what_the_pods_write_also_after_they_are_gone(town: Town) -> None:
    begin = int(town.clock().timestamp() - 3_600) * 10**9

    async def lines(query: str) -> int:
        end = int(town.clock().timestamp() * 1e9)
        asked = {"query": query, "start": str(begin), "end": str(end), "limit": "1000"}
        async with town.of("loki") as loki:
            answer = await loki.get("/loki/api/v1/query_range", params=asked)
        return sum(len(s["values"]) for s in answer.json()["data"]["result"])

    before = await lines('{namespace="media", app="sonarr"}')
    assert before > 10
    assert await lines('{namespace="media", app="sonarr"}') == before  # Asking again adds nothing.
    town.run(300)
    after = await lines('{namespace="media", app="sonarr"}')
    assert before < after <= before + 5
    for pod in list(town.lab.store.all("pods", "media")):
        if pod["metadata"]["name"].startswith("sonarr-"):
            town.lab.store.remove("pods", "media", pod["metadata"]["name"])
    town.run(4)
    assert await lines('{namespace="media", app="sonarr"}') >= after - 1


async def test_a_hook_is_taken_only_with_its_signature(town: Town) -> None:
    (found,) = town.lab.store.all(RECEIVERS)
    path = found["status"]["webhookPath"]
    app = Receivers(town.lab.store, {path: "secret"}, town.clock).app
    body = json.dumps({"ref": "refs/heads/main"}).encode()
    signed = f"sha256={hmac.new(b'secret', body, hashlib.sha256).hexdigest()}"

    async def post(to: str, signature: str, event: str = "push", content: bytes = body) -> int:
        headers = {"X-Hub-Signature-256": signature, "X-GitHub-Event": event}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flux") as http:
            return (await http.post(to, content=content, headers=headers)).status_code

    assert await post(path, "") == await post(path, "sha256=" + "0" * 64) == 400
    assert await post("/hook/other", signed) == 404
    assert await post(path, signed, "issues") == 400
    assert await post(path, signed, content=b"{}") == 400
    assert not requested(town.source())
    assert await post(path, signed) == 200
    assert requested(town.source())


async def test_without_git_there_is_no_github_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.beside.shutil.which", lambda name: None)
    lab, _ = new_lab()
    async with Beside(lab, ("github", "loki")) as around:
        assert set(around.settings) == {"loki"}
        assert around.missing == ["The lab has no GitHub, and its Flux follows no repository: git is not installed."]
    assert all("history" not in one["status"] for one in lab.store.all(KUSTOMIZATIONS))


async def test_a_git_that_fails_is_told_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Repository, *words: str, **more: Any) -> bytes:
        raise GitFailed("unknown option `initial-branch'")

    monkeypatch.setattr(Repository, "_git", fails)
    lab, _ = new_lab()
    async with Beside(lab, ("github", "loki")) as around:
        assert set(around.settings) == {"loki"}
        assert "2.38 or newer" in around.missing[0] and "initial-branch" in around.missing[0]
