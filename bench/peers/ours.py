"""Opswarm: a specialist agent as its pod runs it, tokens checked and limits on, SQLite under a folder of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

os.environ["OTEL_INSTRUMENTATION_A2A_SDK_ENABLED"] = "false"

from bench.peers import place
from opswarm.a2a.cards import Skill, agent_card
from opswarm.agent.service import agent_service, no_rules
from opswarm.cli import hosting
from opswarm.settings import load
from opswarm.telemetry import configure_logging

AT = place()
HOME = Path(sys.argv[4])
SKILL = Skill("look", "Look", "Looks at workloads.", ("kubernetes",))


async def main() -> None:
    settings = load(home=HOME, addresses={"gateway": AT.model, "bench": AT.tool, "devops": AT.url})
    configure_logging(settings.log.model_copy(update={"level": "WARNING"}))
    card = agent_card("devops", "Bench", "answers", AT.url, (SKILL,))
    service = agent_service(
        settings, "devops", card, tool_servers=("bench",), system="You look after a cluster.", rules=no_rules
    )
    listener = hosting.listen("127.0.0.1", AT.port)
    async with hosting.hosted(service.app(), listener, settings.server):
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
