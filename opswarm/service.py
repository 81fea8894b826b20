"""What every service's HTTP app has: health, readiness, who is calling, one run id, and plain errors."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opswarm import telemetry
from opswarm.errors import InvalidInput, LimitExceeded, OpswarmError, wire_code
from opswarm.guard import fronts
from opswarm.guard import principal as principals
from opswarm.guard.forward_auth import ForwardAuth
from opswarm.guard.principal import Principal
from opswarm.guard.redaction import redact
from opswarm.guard.tokens import Signed, Verifier

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]
"""Says whether a dependency answers: returns, or raises `OpswarmError` with the reason."""

Prover = Callable[[str], Awaitable[Principal]]
"""Says whom a bearer token ("" where none was sent) proves. Raises `Unauthenticated`."""

_LEFT = 499
"""What proxies (nginx first) count a request as whose client did not wait for the answer."""

_CHECK_SECONDS = 4.0
_OPEN = re.compile(
    r"""
    GET\ /(?:healthz|readyz)
    | GET\ /\.well-known/[a-z.-]+
    | GET\ (?:/api)?/a2a/[^/]+/[^/]+/\.well-known/agent(?:-card)?\.json   # where kagent's clients look
    | POST\ /oauth/token
    """,
    re.VERBOSE,
)
"""What needs no token: method and path."""

incoming_token: ContextVar[str] = ContextVar("incoming_token", default="")
"""The bearer token of the request being served: the caller's proof, for the token exchange only."""

WORK_HEADER = "x-opswarm-work-token"
incoming_work: ContextVar[str] = ContextVar("incoming_work", default="")
"""The work token that an orchestrator sent with the request, or ""."""


class Caller(SimpleUser):
    """The principal as Starlette's user: its `display_name` is the subject that the work is done for."""

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal.subject)
        self.principal = principal


@dataclass(frozen=True, slots=True)
class Service:
    """One service, ready to be served alone or mounted beside others.

    `audiences` are the token audiences its door accepts; `None` means that the routes check tokens themselves.
    `fronts` is whether a front may name its user here. `provers` check the token of single routes, given by method and
    path, instead of the door. `forward_auth` lets in people whom a proxy has signed in. `checks` name what readiness
    depends on.
    """

    name: str
    routes: Sequence[BaseRoute]
    verifier: Verifier | None
    audiences: Sequence[str] | None
    fronts: bool = False
    provers: Mapping[str, Prover] = field(default_factory=dict)
    forward_auth: ForwardAuth | None = None
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    checks: Mapping[str, Check] = field(default_factory=dict)

    def app(self) -> Starlette:
        """The ASGI app, with `/healthz` and `/readyz`."""

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self.lifespan():
                yield

        own: list[BaseRoute] = [Route("/healthz", _healthz), Route("/readyz", self._readyz)]
        return Starlette(
            routes=[*own, *self.routes],
            lifespan=lifespan,
            middleware=[Middleware(_Door, service=self)],
            exception_handlers={
                OpswarmError: _on_error,
                HTTPException: _on_http_error,
                ClientDisconnect: _on_left,
                Exception: _on_defect,
            },
        )

    async def _readyz(self, request: Request) -> Response:
        results = await asyncio.gather(*(self._check(c) for c in self.checks.values()))
        states = dict(zip(self.checks, results, strict=True))
        ready = all(state == "ok" for state in states.values())
        body = {"service": self.name, "status": "ready" if ready else "not ready", "checks": states}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def _check(self, check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check()
        except TimeoutError:
            return f"no answer within {_CHECK_SECONDS:.0f} s"
        except OpswarmError as error:
            return redact(str(error))
        return "ok"


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Door:
    """Starts the run, finds out who is calling, and counts the request."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        run = telemetry.begin_run(headers.get("traceparent"), self._service.name)
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-opswarm-run", run.encode())]
            await send(message)

        try:
            await self._identify(scope, headers)
        except OpswarmError as error:
            await error_response(error)(scope, receive, counted)
        else:
            await self._app(scope, receive, counted)
        finally:
            telemetry.REQUESTS.labels(self._service.name, scope["method"], str(status)).inc()

    async def _identify(self, scope: Scope, headers: Headers) -> None:
        principals.set_current(None)
        if self._service.audiences is None or self._service.verifier is None:
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        route = f"{scope['method']} {path}"
        if _OPEN.fullmatch(route):
            return
        token = bearer_token(headers)
        named = headers.getlist(fronts.USER_HEADER)
        if (who := self._let_in_by_proxy(scope, headers)) is not None:
            fronts.asking(Signed(who, {}, 0), named, taken=False)
        elif (prover := self._service.provers.get(route)) is not None:
            who = await prover(token)
        else:
            signed = self._service.verifier.verify(token, self._service.audiences)
            who = fronts.asking(signed, named, taken=self._service.fronts)
            incoming_work.set(headers.get(WORK_HEADER, "") if signed.principal.actors else "")
        principals.set_current(who)
        incoming_token.set(token)
        scope["user"] = Caller(who)
        scope["auth"] = None

    def _let_in_by_proxy(self, scope: Scope, headers: Headers) -> Principal | None:
        if self._service.forward_auth is None:
            return None
        # The connection's own end, never what a header says of it (hosting turns that off).
        peer = scope.get("client")
        return self._service.forward_auth.person(peer[0] if peer else "", scope["method"], headers)


def bearer_token(headers: Headers) -> str:
    """The bearer token of a request, or ""."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def error_response(error: OpswarmError) -> Response:
    """An error as JSON, in the shape that OpenAI and most HTTP APIs use."""
    code = wire_code(error)
    headers = {"WWW-Authenticate": 'Bearer realm="opswarm"'} if code.http == 401 else None
    body = {"error": {"message": redact(str(error)), "type": code.openai, "code": error.code}}
    return JSONResponse(body, status_code=code.http, headers=headers)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OpswarmError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"error": {"message": str(error.detail), "type": "invalid_request_error", "code": "http"}}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _on_left(request: Request, error: Exception) -> Response:
    return Response(status_code=_LEFT)


async def _on_defect(request: Request, error: Exception) -> Response:
    """The process boundary: the log gets the details, the client a sentence."""
    log.error("request to %s broke", request.url.path, exc_info=error)
    return error_response(OpswarmError("The service broke on this request.", hint="Its log has the details."))


T = TypeVar("T")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Does the work while the client is there; it is cancelled when the client leaves. The body must be read."""
    working = asyncio.ensure_future(work)
    listening = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_json(request: Request, limit: int) -> Any:
    """The request's body as JSON. Raises `LimitExceeded` as `read_body` does, and `InvalidInput` for what is none."""
    try:
        return json.loads(await read_body(request, limit))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body must be JSON.") from error


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises `LimitExceeded` as soon as it is known to be over `limit` bytes."""
    too_long = LimitExceeded(f"The request is larger than {limit} bytes.", hint="Send less text.")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_long
    return bytes(body)
