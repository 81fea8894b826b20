"""What an agent says it can do, as an A2A agent card."""

from __future__ import annotations

from dataclasses import dataclass

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentProvider,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from opswarm import __version__
from opswarm.a2a.wire import APPROVALS_URI, EVENTS_URI


@dataclass(frozen=True, slots=True)
class Skill:
    """One thing an agent does. The router reads the tags and examples, so they are words people use."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    examples: tuple[str, ...] = ()


def agent_card(name: str, title: str, description: str, url: str, skills: tuple[Skill, ...]) -> AgentCard:
    """The card of the agent served at `url` (its base, the JSON-RPC endpoint)."""
    endpoint = f"{url.rstrip('/')}/"
    return AgentCard(
        name=name,
        description=f"{title}: {description}",
        version=__version__,
        provider=AgentProvider(organization="Opswarm", url="https://opswarm.dev"),
        supported_interfaces=[
            AgentInterface(url=endpoint, protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=endpoint, protocol_binding="JSONRPC", protocol_version="0.3.0"),
        ],
        capabilities=AgentCapabilities(
            streaming=True,
            push_notifications=False,
            extensions=[
                AgentExtension(
                    uri=EVENTS_URI, description="Tool, delegation and usage events while a turn runs", required=False
                ),
                AgentExtension(
                    uri=APPROVALS_URI, description="What waits for a person's approval, and the answers", required=False
                ),
            ],
        ),
        default_input_modes=["text/plain"],
        default_output_modes=["text/markdown", "text/plain"],
        skills=[
            AgentSkill(id=s.id, name=s.name, description=s.description, tags=list(s.tags), examples=list(s.examples))
            for s in skills
        ],
        security_schemes={
            "bearer": SecurityScheme(
                http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer", bearer_format="JWT")
            )
        },
        security_requirements=[SecurityRequirement(schemes={"bearer": StringList()})],
    )
