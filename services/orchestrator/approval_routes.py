"""What waits for people, over HTTP: to be looked at, answered, and read in the audit."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard import principal as principals
from opswarm.guard.standing import is_operator
from opswarm.service import read_json
from services.orchestrator.approvals import Approvals, may_look, shown

_MOST_BODY = 4_096


class _Answer(BaseModel):
    """A person's answer. `digest` is that of what they were shown; without it what waits now is answered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answer: Literal["approve", "reject"]
    reason: str = ""
    digest: str = ""


class ApprovalRoutes:
    """The routes of the orchestrator, whose door has found out who is calling."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/approvals", self._list, methods=["GET"]),
            Route("/approvals/{id}", self._get, methods=["GET"]),
            Route("/approvals/{id}", self._answer, methods=["POST"]),
            Route("/audit", self._servers, methods=["GET"]),
            Route("/audit/{server}", self._audit, methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        may_look(principals.current())
        found, missing = await self._approvals.waiting()
        return JSONResponse({"approvals": [shown(p) for p in found], "missing": missing})

    async def _get(self, request: Request) -> Response:
        may_look(principals.current())
        return JSONResponse(shown(await self._approvals.find(_id(request))))

    async def _answer(self, request: Request) -> Response:
        principal = principals.current()
        if principal is None:
            raise PermissionDenied("Nobody is known to be answering.")
        body = await read_json(request, _MOST_BODY)
        try:
            said = _Answer.model_validate(body)
        except ValidationError:
            raise InvalidInput(
                'An answer is {"answer": "approve" or "reject", "reason": "…", "digest": "…"} and nothing else.',
                hint="What is approved can't be changed: a changed call is asked for anew.",
            ) from None
        taken = await self._approvals.answer(
            _id(request), principal, approve=said.answer == "approve", reason=said.reason, digest=said.digest
        )
        return JSONResponse(shown(taken))

    async def _servers(self, request: Request) -> Response:
        _may_read_audit()
        return JSONResponse({"servers": self._approvals.servers})

    async def _audit(self, request: Request) -> Response:
        _may_read_audit()
        kept = {k: v for k, v in request.query_params.items() if k in ("since", "after", "tool", "limit")}
        return JSONResponse(await self._approvals.audit(str(request.path_params["server"]), kept))


def _id(request: Request) -> str:
    id = str(request.path_params["id"])
    if not id.isascii() or not id.isalnum() or len(id) > 32:
        raise InvalidInput("That is not the id of an approval.", hint="`opswarm approvals` lists them.")
    return id


def _may_read_audit() -> None:
    who = principals.current()
    if who is None or not who.is_direct_person or not is_operator(who):
        raise PermissionDenied("The audit is for operators.", hint="A token with the role operator would do.")
