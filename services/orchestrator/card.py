"""What the orchestrator says it can do."""

from __future__ import annotations

from a2a.types import AgentCard

from opswarm.a2a.cards import Skill, agent_card

NAME = "orchestrator"

SKILLS = (
    Skill(
        "route",
        "Ask the swarm",
        "Send any question about the cluster; the right agent answers. Start with @NAME to choose one yourself.",
        ("kubernetes", "cluster", "swarm", "router"),
        ("what is broken in my cluster?", "@devops list the pods in media"),
    ),
)


def card(url: str) -> AgentCard:
    """The card of the orchestrator served at `url`."""
    return agent_card(NAME, "Opswarm", "a crew of agents that looks after a Kubernetes cluster.", url, SKILLS)
