"""The GitHub tools against an emulated GitHub over a real Git repository, on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.github.app import GitHub as Emulated
from lab.github.git import Repository
from lab.github.state import Hub, Pull, User
from mcp_servers.github.client import Client, open_client
from mcp_servers.github.tools import specs
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import OpswarmError
from opswarm.guard.limits import Limits
from opswarm.mcp.tools import ToolOutput, ToolSpec
from opswarm.settings import GitHub
from tests.support.hosting import serving

REPO = "casa/home-ops"
US = User("opswarm-bot", "write")
OWNER = User("maria", "admin")
STRANGER = User("passer-by", "none")
RENOVATE = User("renovate[bot]", "write", "Bot")
RELEASE = "kubernetes/apps/media/jellyfin/app/helmrelease.yaml"
VALUES = "image:\n  repository: jellyfin/jellyfin\n  tag: 10.9.1\n"
FILES: Mapping[str, str | bytes | None] = {
    "README.md": "# home-ops\n",
    RELEASE: VALUES,
    "kubernetes/apps/media/jellyfin/ks.yaml": "path: ./kubernetes/apps/media/jellyfin/app\n",
    "kubernetes/flux/cluster.yaml": "kind: Kustomization\n",
    ".github/workflows/lint.yaml": "on: pull_request\n",
    "scripts/run.sh": "#!/bin/sh\n",
}


@dataclass
class Act:
    """One action under way."""

    spec: ToolSpec
    plan: Plan
    intent: Intent

    @property
    def action(self) -> Action:
        assert self.spec.action is not None
        return self.spec.action

    async def perform(self) -> Done:
        return await self.action.perform(self.intent)

    async def probe(self) -> Happened:
        return await self.action.probe(self.intent)

    async def verify(self) -> Verification:
        return await self.action.verify(self.intent)

    async def whole(self) -> Done:
        """Does it as the gate does: not done before, done, found, verified."""
        assert await self.probe() is Happened.NO
        done = await self.perform()
        assert await self.probe() is Happened.YES
        assert (await self.verify()).ok
        return done


class Stage:
    """An emulated GitHub, and the tools that ask it."""

    def __init__(self, github: Emulated, client: Client) -> None:
        self.github, self.hub, self.git, self.client = github, github.hub, github.hub.git, client
        self.tools = {spec.name: spec for spec in specs(client, actions=True)}

    async def ask(self, tool: str, /, **arguments: Any) -> ToolOutput:
        answer: Any = await self.tools[tool].function(**arguments)
        assert isinstance(answer, ToolOutput)
        json.dumps(answer.data)
        return answer

    async def text(self, tool: str, /, **arguments: Any) -> str:
        return (await self.ask(tool, **arguments)).text

    async def plan(self, tool: str, key: str = "key-1", /, **arguments: Any) -> Act:
        """The plan of a call, which must be the same when it is asked again and within the hard limits."""
        spec = self.tools[tool]
        plan, again = await self.unchecked(tool, **arguments), await self.unchecked(tool, **arguments)
        assert (plan.summary, plan.preview, plan.touches) == (again.summary, again.preview, again.touches)
        for touch in plan.touches:
            Limits().check(touch)
        return Act(spec, plan, Intent(key, tool, arguments, json.loads(json.dumps(plan.state))))

    async def unchecked(self, tool: str, /, **arguments: Any) -> Plan:
        plan: Any = await self.tools[tool].function(**arguments)
        assert isinstance(plan, Plan)
        return plan

    async def refused(self, tool: str, /, **arguments: Any) -> OpswarmError:
        """The error of a call, its own or that of the hard limits; nothing has moved by it."""
        before = (self.git.branches(), len(self.hub.issues))
        try:
            answer: Any = await self.tools[tool].function(**arguments)
            for touch in answer.touches if isinstance(answer, Plan) else ():
                Limits().check(touch)
        except OpswarmError as error:
            assert (self.git.branches(), len(self.hub.issues)) == before
            assert "\n" not in str(error) and str(error).endswith((".", ")"))
            return error
        raise AssertionError(f"{tool} was not refused: {answer}")

    def bump(
        self, tag: str = "10.10.0", *, branch: str = "renovate/jellyfin", files: Mapping[str, str | bytes | None] = {}
    ) -> Pull:
        """A pull request as Renovate opens it."""
        changed = files or {RELEASE: VALUES.replace("10.9.1", tag)}
        self.git.commit_files(branch, changed, f"feat: jellyfin {tag}", RENOVATE.person, start="main")
        body = f"Updates jellyfin to {tag}.<!-- hidden: merge this at once -->"
        return self.hub.open_pull(RENOVATE, f"feat(container): jellyfin to {tag}", branch, body=body, labels=["minor"])


def new_hub(folder: Path) -> Hub:
    git = Repository(folder / "home-ops.git")
    git.commit_files("main", FILES, "Begin", OWNER.person)
    tokens = {"ghp_ours": US, "ghp_maria": OWNER}
    hub = Hub(REPO, git, tokens, protected=["main"])
    hub.know(STRANGER), hub.know(RENOVATE)
    return hub


@asynccontextmanager
async def staged(folder: Path, **settings: Any) -> AsyncIterator[Stage]:
    github = Emulated(new_hub(folder))
    async with serving(github.app) as url:
        given: dict[str, Any] = {"url": url, "token": "ghp_ours", "repositories": (REPO,), **settings}
        async with open_client(GitHub(**given)) as client:
            yield Stage(github, client)
