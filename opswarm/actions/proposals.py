"""Proposals: actions that wait for a person, as the tool server that would execute them keeps them.

What a person is shown and what they sign for is read from here, never from an agent. A proposal is answered once, and
what it allows is done once: both are a single statement of the database.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opswarm.actions.action import Plan
from opswarm.actions.canonical import canonical, digest
from opswarm.errors import Conflict, LimitExceeded, NotFound
from opswarm.guard.principal import Principal
from opswarm.guard.risk import Risk
from opswarm.guard.standing import is_operator
from opswarm.store.database import Database, Row

log = logging.getLogger(__name__)

ID_LENGTH = 10
MOST_WAITING = 100
"""Proposals of one tool server that may wait at the same time. More would bury what a person is to read."""

MOST_OF_ONE = 20
"""Of one caller, so that nobody's keep out everybody else's."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without letters that are taken for digits: people type these."""


class State(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    STALE = "stale"
    """Approved, but the world had changed by then: another one took its place."""
    USED = "used"


class Proposal(BaseModel):
    """One call that waits for a person.

    `expires`, `created` and `answered` are Unix seconds. `proof` is the work token with which an agent made the call:
    it shows the orchestrator, which signed it, for whom the work would go on; it is not part of what is shown.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    server: str
    tool: str
    arguments: Mapping[str, Any]
    summary: str
    preview: str
    risk: Risk
    touches: tuple[str, ...]
    rule: str
    reason: str
    principal: Principal
    created: float
    expires: float
    state: State = State.WAITING
    approver: str = ""
    answer: str = ""
    answered: float = 0.0
    grant: str = Field("", repr=False)
    proof: str = Field("", repr=False)

    def digest(self) -> str:
        """The hash of everything that a person is shown. Whoever signs makes it anew from what it showed."""
        return digest(
            {
                "id": self.id,
                "server": self.server,
                "tool": self.tool,
                "arguments": self.arguments,
                "content": self.content,
                "rule": self.rule,
                "reason": self.reason,
                "principal": _who(self.principal),
                "expires": round(self.expires, 3),
            }
        )

    @property
    def content(self) -> str:
        return content(self.summary, self.preview, self.risk, self.touches)

    def shown(self) -> dict[str, Any]:
        """The proposal as JSON for people: without the grant and the proof."""
        return {**self.model_dump(mode="json", exclude={"grant", "proof"}), "digest": self.digest()}


def content(summary: str, preview: str, risk: Risk, touches: tuple[str, ...]) -> str:
    """The hash of what a plan would do. Two plans of the same are the same action in the same world."""
    return digest([summary, preview, risk.value, list(touches)])


def content_of(plan: Plan) -> str:
    return content(plan.summary, plan.preview, plan.risk, touched(plan))


def touched(plan: Plan) -> tuple[str, ...]:
    return tuple(str(t) for t in plan.touches)


def _who(principal: Principal) -> dict[str, Any]:
    return {"subject": principal.subject, "actors": list(principal.actors), "task": principal.task}


def _caller(principal: Principal) -> tuple[str, ...]:
    return principal.subject, *principal.actors


def new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))


class Proposals:
    """The proposals of one tool server. `open` it first. Each method raises `Unavailable` with its database."""

    def __init__(self, database: Database, server: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._server = server
        self._clock = clock

    async def open(self) -> None:
        await self._database.script(
            [
                "CREATE TABLE IF NOT EXISTS proposals (id VARCHAR(32) NOT NULL PRIMARY KEY,"
                " server VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, same VARCHAR(64) NOT NULL,"
                " created_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION NOT NULL,"
                " answered_at DOUBLE PRECISION NOT NULL, approver VARCHAR(256) NOT NULL, answer VARCHAR(600) NOT NULL,"
                " signed TEXT NOT NULL, body TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS proposal_keys (server VARCHAR(64) NOT NULL, id VARCHAR(64) NOT NULL,"
                " proposal VARCHAR(32) NOT NULL, made_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (server, id))",
                "CREATE INDEX IF NOT EXISTS proposals_by_state ON proposals (server, state, created_at)",
                "CREATE INDEX IF NOT EXISTS proposals_by_call ON proposals (server, same, created_at)",
            ]
        )

    async def propose(self, proposal: Proposal) -> Proposal:
        """Keeps a proposal; or gives the one that waits already for the same call, in the same world, of the same
        caller, for the same reason. Raises `LimitExceeded` when too many wait."""
        for other in await self._same(proposal.tool, proposal.arguments, proposal.principal):
            same = (other.content, other.rule, other.reason) == (proposal.content, proposal.rule, proposal.reason)
            if other.state is State.WAITING and same:
                return other
        waiting = await self.waiting()
        own = sum(_caller(p.principal) == _caller(proposal.principal) for p in waiting)
        if own >= MOST_OF_ONE or len(waiting) >= MOST_WAITING:
            raise LimitExceeded(
                f"{max(own, len(waiting))} actions wait for a person already.", hint="Answer them: `opswarm approvals`."
            )
        await self._database.write(
            "INSERT INTO proposals (id, server, state, same, created_at, expires_at, answered_at, approver, answer,"
            " signed, body) VALUES (:id, :server, :state, :same, :created, :expires, 0, '', '', '', :body)",
            {
                "id": proposal.id,
                "server": self._server,
                "state": proposal.state.value,
                "same": _same_call(proposal.tool, proposal.arguments, proposal.principal),
                "created": proposal.created,
                "expires": proposal.expires,
                "body": canonical(proposal),
            },
        )
        return proposal

    async def get(self, id: str) -> Proposal:
        """Raises `NotFound`."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE id = :id AND server = :server", {"id": id, "server": self._server}
        )
        if not rows:
            raise NotFound("There is no such approval.", hint="`opswarm approvals` lists those that wait.")
        return self._read(rows[0])

    async def waiting(self) -> list[Proposal]:
        """Those that wait for an answer, the oldest first."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE server = :server AND state = 'waiting' AND expires_at > :now ORDER BY created_at",
            {"server": self._server, "now": self._clock()},
        )
        return self._readable(rows)

    async def keyed(self, key: str) -> str:
        """The proposal that the call with this idempotency key became last, or ""."""
        rows = await self._database.rows(
            "SELECT proposal FROM proposal_keys WHERE server = :server AND id = :id",
            {"server": self._server, "id": key},
        )
        return str(rows[0][0]) if rows else ""

    async def remember(self, key: str, id: str) -> None:
        """Notes that the call with this idempotency key became the proposal `id`."""
        await self._database.write(
            "INSERT INTO proposal_keys (server, id, proposal, made_at) VALUES (:server, :key, :id, :now)"
            " ON CONFLICT (server, id) DO UPDATE SET proposal = excluded.proposal, made_at = excluded.made_at",
            {"server": self._server, "key": key, "id": id, "now": self._clock()},
        )

    async def claim(self, key: str, id: str, was: str) -> bool:
        """The same as `remember`, where the key still stands for `was` ("": nothing). Of several one wins."""
        rows = await self._database.rows(
            "INSERT INTO proposal_keys (server, id, proposal, made_at) VALUES (:server, :key, :id, :now)"
            " ON CONFLICT (server, id) DO UPDATE SET proposal = excluded.proposal, made_at = excluded.made_at"
            " WHERE proposal_keys.proposal IN (:was, :id) RETURNING proposal",
            {"server": self._server, "key": key, "id": id, "was": was, "now": self._clock()},
        )
        return bool(rows)

    async def approved(self, tool: str, arguments: Mapping[str, Any], principal: Principal) -> Proposal | None:
        """The newest approved one, not used yet, for the same call of the same caller in the same task."""
        found = await self._same(tool, arguments, principal)
        return next((p for p in found if p.state is State.APPROVED), None)

    async def answer(self, id: str, state: State, *, approver: str, answer: str, grant: str) -> Proposal:
        """Answers one that waits: the first answer counts.

        Raises `NotFound`, or `Conflict` where it was answered before, by whom and how, or has expired.
        """
        now = self._clock()
        rows = await self._database.rows(
            "UPDATE proposals SET state = :state, approver = :approver, answer = :answer, signed = :signed,"
            " answered_at = :now WHERE id = :id AND server = :server AND state = 'waiting' AND expires_at > :now"
            f" RETURNING {_COLUMNS}",
            {
                "state": state.value,
                "approver": approver,
                "answer": answer,
                "signed": grant,
                "now": now,
                "id": id,
                "server": self._server,
            },
        )
        if rows:
            return self._read(rows[0])
        raise answered(await self.get(id))

    async def use(self, id: str, into: State = State.USED) -> bool:
        """Takes an approved proposal out of use: done (`USED`), or overtaken (`STALE`), as can be what was begun and
        broken off. True for one caller only."""
        from_ = "('approved', 'used')" if into is State.STALE else "('approved')"
        rows = await self._database.rows(
            f"UPDATE proposals SET state = :into WHERE id = :id AND server = :server AND state IN {from_} RETURNING id",
            {"into": into.value, "id": id, "server": self._server},
        )
        return bool(rows)

    async def forget(self, until: float) -> None:
        """Drops those that were made before `until` (Unix seconds)."""
        await self._database.write(
            "DELETE FROM proposals WHERE server = :server AND created_at < :until",
            {"server": self._server, "until": until},
        )
        await self._database.write(
            "DELETE FROM proposal_keys WHERE server = :server AND made_at < :until",
            {"server": self._server, "until": until},
        )

    async def _same(self, tool: str, arguments: Mapping[str, Any], principal: Principal) -> list[Proposal]:
        rows = await self._database.rows(
            f"{_SELECT} WHERE server = :server AND same = :same ORDER BY created_at DESC LIMIT 20",
            {"server": self._server, "same": _same_call(tool, arguments, principal)},
        )
        return self._readable(rows)

    def _readable(self, rows: Sequence[Row]) -> list[Proposal]:
        """Without those that can't be read, of another version or by a broken disk: they must not hide the rest."""
        found = []
        for row in rows:
            try:
                found.append(self._read(row))
            except ValidationError as error:
                log.warning("a proposal of %s can't be read and is left out: %s", self._server, error)
        return found

    def _read(self, row: Row) -> Proposal:
        state, answered_at, approver, answer, signed, body = row
        found = Proposal.model_validate_json(body)
        now_state = State(state)
        if now_state is State.WAITING and found.expires <= self._clock():
            now_state = State.EXPIRED
        return found.model_copy(
            update={
                "state": now_state,
                "answered": float(answered_at),
                "approver": str(approver),
                "answer": str(answer),
                "grant": str(signed),
            }
        )


_COLUMNS = "state, answered_at, approver, answer, signed, body"
_SELECT = f"SELECT {_COLUMNS} FROM proposals"


def _same_call(tool: str, arguments: Mapping[str, Any], principal: Principal) -> str:
    return digest([tool, arguments, _who(principal)])


def answered(proposal: Proposal) -> Conflict:
    """What whoever comes too late is told."""
    match proposal.state:
        case State.EXPIRED | State.WAITING:
            return Conflict(f"The approval {proposal.id} has expired, which means no.", hint="Ask for it again.")
        case State.REJECTED:
            return Conflict(f"{proposal.approver} has rejected {proposal.id} already.")
        case _:
            return Conflict(f"{proposal.approver} has approved {proposal.id} already.")


def may_answer(principal: Principal) -> bool:
    """Whether what `principal` says counts as a person's answer: an operator or admin, with no agent in the chain.

    A front may be in it: it is how its people reach us.
    """
    return is_operator(principal) and all(actor.startswith("service:") for actor in principal.actors)
