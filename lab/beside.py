"""What stands beside the cluster: a GitHub, whose repository the cluster follows, a Loki, and a Prometheus with its
Alertmanager."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from subprocess import SubprocessError
from types import TracebackType
from typing import Any

from lab.app import Lab
from lab.github.app import GitHub
from lab.github.git import GitFailed, Repository
from lab.github.state import Hook, Hub
from lab.gitops.receivers import RECEIVERS, Receivers, receiver
from lab.loki.app import Loki
from lab.loki.following import following
from lab.observing import programs
from lab.observing.exporter import Exporter
from lab.seed.hub import OWNER, REPOSITORY, grow_hub
from lab.seed.repository import plant_repository
from lab.serve import Hosted, host

ALL = ("github", "loki", "prometheus")


class Beside:
    """The servers, on loopback, while it is open. `settings` are those by which the tool servers find them, by section;
    `missing` says what could not be started and why, a sentence each."""

    def __init__(self, lab: Lab, wanted: Sequence[str] = ALL) -> None:
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.missing: list[str] = []
        self._lab, self._wanted = lab, wanted
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Beside:
        try:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="opswarm-lab-")))
            starts: dict[str, Callable[[Path], Any]] = {
                "github": self._github, "loki": self._loki, "prometheus": self._prometheus,
            }  # fmt: skip
            async with asyncio.TaskGroup() as starting:  # Where one breaks, none is left starting.
                for name in self._wanted:
                    starting.create_task(starts[name](folder))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _host(self, app: Any) -> Hosted:
        hosted = await host(app)
        self._stack.push_async_callback(hosted.stop)
        return hosted

    async def _loki(self, folder: Path) -> None:
        hosted = await self._host(Loki(following(self._lab.cluster, self._lab.clock)).app)
        self.settings["loki"] = {"url": hosted.url}

    async def _github(self, folder: Path) -> None:
        if shutil.which("git") is None:
            self.missing.append("The lab has no GitHub, and its Flux follows no repository: git is not installed.")
            return
        token = f"ghp_{secrets.token_hex(18)}"
        try:
            git = Repository(folder / "home-ops.git")
            plant_repository(self._lab.cluster, git, OWNER.person, self._lab.clock())
            hub = grow_hub(git, token, self._lab.clock)
        except (GitFailed, OSError, SubprocessError) as error:
            self.missing.append(f"The lab has no GitHub, as git fails (2.38 or newer is needed): {error}")
            return
        await self._receive(hub)
        hosted = await self._host(GitHub(hub).app)
        self.settings["github"] = {"url": hosted.url, "token": token, "repositories": [REPOSITORY]}

    async def _receive(self, hub: Hub) -> None:
        """Flux's webhook receiver, and the hook on the GitHub that calls it at each push."""
        secret, where, lab = secrets.token_hex(20), "flux-system", self._lab
        source = {"kind": "GitRepository", "name": where}
        made = lab.store.add(RECEIVERS, receiver("github", where, secret, [source], lab.clock()))
        path = made["status"]["webhookPath"]
        hosted = await self._host(Receivers(lab.store, {path: secret}, lab.clock).app)
        hub.hooks.append(Hook(f"{hosted.url}{path}", secret, ("push",)))

    async def _prometheus(self, folder: Path) -> None:
        if gone := programs.missing():
            self.missing.append(f"The lab has no Prometheus: {' and '.join(gone)} not installed.")
            return
        exporter = await self._host(Exporter(self._lab.cluster, self._lab.clock).app())
        rules = files("lab.observing").joinpath("rules.yml").read_text(encoding="utf-8")
        try:
            alerts = await programs.alertmanager(folder / "alertmanager")
            self._stack.push_async_callback(alerts.stop)
            metrics = await programs.prometheus(
                folder / "prometheus", exporter.url.removeprefix("http://"), alerts.url.removeprefix("http://"), rules
            )
            self._stack.push_async_callback(metrics.stop)
        except OSError as error:
            self.missing.append(f"{error}.")
            return
        self.settings["prometheus"] = {"url": metrics.url, "alertmanager": {"url": alerts.url}}
