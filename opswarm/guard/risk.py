"""How much harm a call can do, and how much of it an agent may do by itself."""

from __future__ import annotations

from enum import StrEnum


class Risk(StrEnum):
    """Of one call, from its tool and its arguments; least first."""

    READ = "read"
    """Changes nothing."""
    SAFE = "safe"
    """Reversible and bounded."""
    RISKY = "risky"
    FORBIDDEN = "forbidden"
    """Nobody may, whatever the policy says."""

    @property
    def rank(self) -> int:
        return list(Risk).index(self)


class Level(StrEnum):
    """Of autonomy; least first."""

    OBSERVE = "observe"
    SUGGEST = "suggest"
    SAFE = "safe"
    FULL = "full"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Outcome(StrEnum):
    """Of a decision. Where rules disagree the last of these wins."""

    ALLOW = "allow"
    NEEDS_APPROVAL = "needs_approval"
    DENY = "deny"

    @property
    def rank(self) -> int:
        return list(Outcome).index(self)


def worst(*risks: Risk) -> Risk:
    """The highest of one or more risks."""
    return max(risks, key=lambda r: r.rank)
