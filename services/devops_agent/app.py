"""The devops agent's ASGI factory."""

from __future__ import annotations

from opswarm.agent.service import agent_service, prompt
from opswarm.service import Service
from opswarm.settings import Settings
from services.devops_agent.card import NAME, card
from services.devops_agent.health import first_look

TOOL_SERVERS = ("kubernetes", "flux")


def create_app(settings: Settings) -> Service:
    """The devops agent as a service."""
    return agent_service(
        settings,
        NAME,
        card(settings.address(NAME)),
        tool_servers=TOOL_SERVERS,
        system=prompt("services.devops_agent", "system"),
        rules=first_look,
    )
