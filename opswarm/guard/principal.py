"""Who is asking: the `Principal` that every request resolves to."""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    PERSON = "person"
    SERVICE = "service"
    AGENT = "agent"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Principal(BaseModel):
    """Who acts, and for whom.

    `subject` is the one on whose behalf the work is done; `actors` the chain that acts for it, nearest first
    (RFC 8693 `act`), empty when the subject itself calls. `task` is the task the call belongs to, or "".
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    subject: str
    roles: frozenset[Role] = frozenset()
    actors: tuple[str, ...] = ()
    task: str = ""

    @property
    def is_direct_person(self) -> bool:
        """True only for a person with no agent or service anywhere in the chain."""
        return self.kind is Kind.PERSON and not self.actors

    @property
    def acting(self) -> str:
        """Who is on the line: the nearest actor, or the subject itself."""
        return self.actors[0] if self.actors else self.subject

    def __str__(self) -> str:
        return " for ".join((*self.actors, self.subject))


_current: ContextVar[Principal | None] = ContextVar("principal", default=None)
_proof: ContextVar[str] = ContextVar("proof", default="")


def current() -> Principal | None:
    """The principal of the request being served, or None outside of one."""
    return _current.get()


def set_current(principal: Principal | None, proof: str = "") -> None:
    """`proof` is the token that says so, where there is one."""
    _current.set(principal)
    _proof.set(proof)


def proof() -> str:
    """The token of the request being served, for the record of what was proposed with it, or ""."""
    return _proof.get()
