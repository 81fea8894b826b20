"""What a tool server with actions serves beside its tools: proposals, to be shown and answered, and the audit.

For the orchestrator, which signs the token that it comes with; the audit also for an operator or admin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from opswarm.actions.gate import Gate
from opswarm.actions.proposals import Proposal
from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.standing import is_operator
from opswarm.guard.tokens import AUDIENCE_PERSON, Verifier, actions_audience
from opswarm.service import bearer_token, read_json

ORCHESTRATOR = Principal(kind=Kind.SERVICE, subject="service:orchestrator")
"""Who may read and answer proposals. Only the holder of the signing key can be it."""

_MOST_BODY = 16_384
_MOST_ENTRIES = 1_000


class ActionRoutes:
    """The routes of one tool server, whose callers prove themselves to `verifier`."""

    def __init__(self, gate: Gate, verifier: Verifier) -> None:
        self._gate = gate
        self._verifier = verifier

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/actions/proposals", self._list, methods=["GET"]),
            Route("/actions/proposals/{id}", self._get, methods=["GET"]),
            Route("/actions/proposals/{id}/answer", self._answer, methods=["POST"]),
            Route("/actions/audit", self._audit, methods=["GET"]),
        ]

    def _caller(self, request: Request, *others: str) -> Principal:
        audiences = (actions_audience(self._gate.server), *others)
        return self._verifier.verify(bearer_token(request.headers), audiences).principal

    def _orchestrator(self, request: Request) -> None:
        if self._caller(request) != ORCHESTRATOR:
            raise PermissionDenied(
                "Only the orchestrator reads and answers proposals here.", hint="Ask it: `opswarm approvals`."
            )

    async def _list(self, request: Request) -> Response:
        self._orchestrator(request)
        return JSONResponse({"proposals": [_wire(p) for p in await self._gate.proposals.waiting()]})

    async def _get(self, request: Request) -> Response:
        self._orchestrator(request)
        return JSONResponse(_wire(await self._gate.proposals.get(str(request.path_params["id"])[:64])))

    async def _answer(self, request: Request) -> Response:
        self._orchestrator(request)
        body = await read_json(request, _MOST_BODY)
        grant = body.get("grant") if isinstance(body, dict) else None
        if not isinstance(grant, str):
            raise InvalidInput("An answer is a grant.")
        return JSONResponse(_wire(await self._gate.answer(str(request.path_params["id"])[:64], grant)))

    async def _audit(self, request: Request) -> Response:
        caller = self._caller(request, AUDIENCE_PERSON)
        if caller != ORCHESTRATOR and not (caller.is_direct_person and is_operator(caller)):
            raise PermissionDenied("The audit is for operators.", hint="A token with the role operator would do.")
        query = request.query_params
        audit = self._gate.audit
        entries = await audit.entries(
            since=_number(query, "since"),
            after=int(_number(query, "after")),
            tool=query.get("tool", "")[:128],
            most=min(int(_number(query, "limit", _MOST_ENTRIES)), _MOST_ENTRIES),
        )
        anchor = await audit.anchor()
        key = audit.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return JSONResponse(
            {
                "server": self._gate.server,
                "entries": [e.model_dump(mode="json") for e in entries],
                "anchor": str(anchor) if anchor else "",
                "head": str(await audit.head()),
                "key": key.decode("ascii"),
            }
        )


def _wire(proposal: Proposal) -> dict[str, Any]:
    """With the proof, for the orchestrator; the grant stays here."""
    return proposal.model_dump(mode="json", exclude={"grant"})


def _number(query: Mapping[str, str], name: str, default: float = 0.0) -> float:
    try:
        value = float(query.get(name) or default)
    except ValueError as error:
        raise InvalidInput(f"{name} must be a number.") from error
    if not 0 <= value < 2**53:
        raise InvalidInput(f"{name} is out of range.")
    return value
