"""One service of the swarm about lamps in a process of its own, until it is killed.

`python -m tests.services.orchestrator.pod NAME SETTINGS`, the settings as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from opswarm.settings import load
from tests.services.orchestrator.house import made
from tests.support.hosting import serving


async def main(name: str, given: str) -> None:
    kept = json.loads(given)
    settings = load(**{**kept, "home": Path(kept["home"])})
    async with serving(made(settings, name).app(), int(settings.address(name).rpartition(":")[2])):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
