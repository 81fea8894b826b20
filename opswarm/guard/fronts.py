"""Fronts: programs with people of their own (a chat program), trusted to say which of them is asking.

A front holds a service's token with the claim `front`. With it, and with nothing else, a call may name a user in
`X-Opswarm-User`. What comes of that is a person whose tasks nobody else of the same front sees, and never one that
acted directly: the front stays in the chain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.tokens import Signed

USER_HEADER = "x-opswarm-user"
"""Names the front's user: 1 to 128 visible ASCII characters, as the front knows them."""

ROLES = frozenset({Role.VIEWER, Role.OPERATOR})
"""What a front, and whoever it names, can be at most: its people are proven by the front alone."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TAKEN = frozenset({"agent", "person", "proxy", "service", "turn"})
_USER = re.compile(r"[!-~]{1,128}")


def front(name: str, roles: frozenset[Role]) -> Principal:
    """The front itself. Raises `InvalidInput` for a name or a role that a front can't have."""
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise InvalidInput(
            "A front's name is 1 to 32 lower-case letters, digits and hyphens, a letter first.",
            hint=f"It can't be one of {', '.join(sorted(_TAKEN))}.",
        )
    if excess := sorted(roles - ROLES):
        raise InvalidInput(f"A front can't have the role {excess[0].value}.", hint="It speaks for many people.")
    return Principal(kind=Kind.SERVICE, subject=f"service:{name}", roles=roles)


def asking(signed: Signed, named: Sequence[str], *, taken: bool) -> Principal:
    """Who asks: the token's own principal, or the person that its front names in the header's values `named`.

    `taken` is whether this door lets fronts name people at all. Raises `PermissionDenied` when it does not or the
    token is no front's, and `InvalidInput` for what can't be a user's id.
    """
    if not named:
        return signed.principal
    name = signed.claims.get("front")
    own = signed.principal
    if not isinstance(name, str) or own.kind is not Kind.SERVICE or own.actors or own.subject != f"service:{name}":
        raise PermissionDenied(
            "Only the token of a front may name a user in X-Opswarm-User.",
            hint="`opswarm token --front NAME` makes one; with any other token leave the header out.",
        )
    if not taken:
        raise PermissionDenied("A front's users are let in by the orchestrator only.", hint="Call it instead.")
    if len(named) != 1 or not _USER.fullmatch(named[0]):
        raise InvalidInput("X-Opswarm-User must be one id of 1 to 128 visible ASCII characters.")
    return Principal(
        kind=Kind.PERSON, subject=f"{name}:{named[0]}", roles=own.roles & ROLES, actors=(own.subject,)
    )
