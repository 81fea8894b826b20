"""What stands beside the cluster: the lab's GitHub, whose repository the cluster follows, and its Loki."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.app import Lab
from lab.github.app import GitHub
from lab.github.git import Repository
from lab.github.state import Hook, Hub
from lab.gitops.receivers import RECEIVERS, Receivers, receiver
from lab.loki.app import Loki
from lab.loki.following import following
from lab.seed.hub import OWNER, REPOSITORY, grow_hub
from lab.seed.repository import plant_repository
from lab.serve import Hosted, host


@dataclass
class Beside:
    """The servers, and under which settings the tool servers find them. `stop` ends them and takes the repository away.

    `missing` says what could not be started, in a sentence; "" where all is there.
    """

    settings: Mapping[str, Mapping[str, Any]]
    missing: str
    _servers: tuple[Hosted, ...]
    _folder: tempfile.TemporaryDirectory[str]

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop()
        self._folder.cleanup()

    async def __aenter__(self) -> Beside:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def beside(lab: Lab) -> Beside:
    """Serves them on loopback, on free ports, in the running event loop. Without the program `git` there is no
    GitHub."""
    folder = tempfile.TemporaryDirectory(prefix="opswarm-lab-")
    loki = await host(Loki(following(lab.cluster, lab.clock)).app)
    servers, missing = [loki], ""
    settings: dict[str, Mapping[str, Any]] = {"loki": {"url": loki.url}}
    if shutil.which("git") is None:
        missing = "There is no GitHub in the lab, and its Flux follows no repository: the program git is not installed."
    else:
        git = Repository(Path(folder.name) / "home-ops.git")
        plant_repository(lab.cluster, git, OWNER.person, lab.clock())
        token = f"ghp_{secrets.token_hex(18)}"
        hub = grow_hub(git, token, lab.clock)
        hooks = await _receiving(lab, hub)
        github = await host(GitHub(hub).app)
        servers += [github, hooks]
        settings["github"] = {"url": github.url, "token": token, "repositories": [REPOSITORY]}
    return Beside(settings, missing, tuple(servers), folder)


async def _receiving(lab: Lab, hub: Hub) -> Hosted:
    """Flux's webhook receiver, and the hook on the GitHub that calls it at each push."""
    secret, where = secrets.token_hex(20), "flux-system"
    source = {"kind": "GitRepository", "name": where}
    made = lab.store.add(RECEIVERS, receiver("github", where, secret, [source], lab.clock()))
    path = made["status"]["webhookPath"]
    hosted = await host(Receivers(lab.store, {path: secret}, lab.clock).app)
    hub.hooks.append(Hook(f"{hosted.url}{path}", secret, ("push",)))
    return hosted
