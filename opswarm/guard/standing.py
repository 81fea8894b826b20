"""How much a caller may do by itself: the autonomy of the whole chain that acts, and what its roles leave of it."""

from __future__ import annotations

from dataclasses import dataclass

from opswarm.guard.policy import Access, Policy
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.risk import Level

_AGENT = "agent:"


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller's `level`, the `rule` that gave it, and why, as the end of a sentence."""

    level: Level
    rule: str
    why: str


def standing(policy: Policy, principal: Principal) -> Standing:
    """The level at which `principal` acts: of several that act, the lowest; for a viewer, never more than observe."""
    found = _acting(policy, principal)
    if principal.kind is Kind.PERSON and highest_role(principal) is Role.VIEWER and found.level is not Level.OBSERVE:
        return Standing(Level.OBSERVE, "role.viewer", f"{principal.subject} has the role viewer")
    return found


def agents_of(principal: Principal) -> tuple[str, ...]:
    """The names of the agents in the chain, nearest first."""
    return tuple(who.removeprefix(_AGENT) for who in _chain(principal) if who.startswith(_AGENT))


def highest_role(principal: Principal) -> Role | None:
    """The most that a person is; what it may do goes by this role alone."""
    return next((role for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER) if role in principal.roles), None)


def is_operator(principal: Principal) -> bool:
    """Whether it is a person with the role operator or admin, whoever acts for them."""
    return principal.kind is Kind.PERSON and highest_role(principal) in (Role.ADMIN, Role.OPERATOR)


def _chain(principal: Principal) -> tuple[str, ...]:
    """All that act: the actors, and the subject where it is no person."""
    return principal.actors if principal.kind is Kind.PERSON else (*principal.actors, principal.subject)


def _acting(policy: Policy, principal: Principal) -> Standing:
    if principal.is_direct_person:
        return Standing(policy.autonomy.people, "autonomy.people", f"{principal.subject} acts directly")
    levels = [_of(policy, who) for who in _chain(principal)]
    return min(levels, key=lambda s: s.level.rank)


def _of(policy: Policy, who: str) -> Standing:
    named = policy.autonomy.agents.get(who.removeprefix(_AGENT)) if who.startswith(_AGENT) else None
    if named is None:
        return Standing(policy.autonomy.default, "autonomy.default", f"{who} is not named in the policy")
    name = who.removeprefix(_AGENT)
    return Standing(named, f"autonomy.agents.{name}", f"the agent {name} has the level {named}")


def refused_access(policy: Policy, principal: Principal, tool: str) -> tuple[str, str] | None:
    """The rule by which the chain may not call `tool` at all, and who of it may not; None where all of it may."""
    entries: list[tuple[str, str, Access]] = []
    for agent in agents_of(principal):
        if (access := policy.access.agents.get(agent)) is not None:
            entries.append((f"access.agents.{agent}", f"the agent {agent}", access))
    role = highest_role(principal) if principal.kind is Kind.PERSON else None
    if role is not None and (access := policy.access.roles.get(role)) is not None:
        entries.append((f"access.roles.{role}", f"the role {role}", access))
    return next(((rule, who) for rule, who, access in entries if not access.permits(tool)), None)
