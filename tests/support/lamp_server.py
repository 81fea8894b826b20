"""The lamps' tool server as a process of its own, which can kill itself at a chosen instant.

`python -m tests.support.lamp_server HOME PORT WORLD CRASH`: the world is a file, so that it outlives the process; CRASH
is `before` or `after` (the effect), `recorded` (right after the outcome was written), or `never`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from opswarm.actions.action import Done, Intent, Verification
from opswarm.mcp.serving import http_service
from tests.support.hosting import serving, settings_at
from tests.support.lamps import Lamps


class FileLamps(Lamps):
    def __init__(self, path: Path, crash: str) -> None:
        super().__init__()
        self.path = path
        self.crash = crash
        self.load()

    def load(self) -> None:
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.lit, self.marks, self.effects = kept["lit"], set(kept["marks"]), kept["effects"]

    def _dies(self, at: str) -> None:
        if self.crash == at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def perform(self, intent: Intent) -> Done:
        self._dies("before")
        done = await super().perform(intent)
        self.path.write_text(json.dumps({"lit": self.lit, "marks": sorted(self.marks), "effects": self.effects}))
        self._dies("after")
        return done

    async def verify(self, intent: Intent) -> Verification:
        self._dies("recorded")
        return await super().verify(intent)


async def main(home: str, port: str, world: str, crash: str) -> None:
    lamps = FileLamps(Path(world), crash)
    settings = settings_at(Path(home))
    async with http_service(lamps.opener(), settings) as service, serving(service.app(), int(port)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
