"""The orchestrator's ASGI factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from opswarm.a2a.engine import forgotten
from opswarm.a2a.server import A2AServer
from opswarm.agent.service import answers, prompt
from opswarm.bounded import Bounded
from opswarm.errors import OpswarmError, PermissionDenied, SettingsInvalid, Unauthenticated
from opswarm.fetch import Fetcher
from opswarm.guard.exchange import GRANT, JWT_TYPE, Exchange
from opswarm.guard.follower import control_store
from opswarm.guard.forward_auth import forward_auth
from opswarm.guard.issuers import ServiceProof, service_accounts
from opswarm.guard.keys import signing_key
from opswarm.guard.principal import Principal
from opswarm.guard.redaction import keep_secret
from opswarm.guard.tokens import AUDIENCE_EXCHANGE, AUDIENCE_PERSON, TURN_SECONDS, Verifier
from opswarm.mcp.client import ToolServerClient, bearer
from opswarm.models.client import GatewayClient
from opswarm.service import Service, read_body
from opswarm.settings import Settings
from opswarm.store.tasks import Tasks
from services.orchestrator.card import NAME, card
from services.orchestrator.control import ASKED, ControlRoutes
from services.orchestrator.delegation import Delegation
from services.orchestrator.desk import Desk
from services.orchestrator.desktop import desktop
from services.orchestrator.directory import Directory

_MAX_FORM = 32_768


def _token() -> str:
    held = bearer.get()
    return held() if held is not None else ""


class _Tokens:
    """The token endpoint and the key set."""

    def __init__(self, exchange: Exchange, jwk: dict[str, object]) -> None:
        self._exchange = exchange
        self._jwk = jwk

    async def exchange(self, request: Request) -> Response:
        """RFC 8693 token exchange: the caller's token and the agent's own, for a turn token."""
        body = await read_body(request, _MAX_FORM)

        async def replay() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        form: FormData = await Request(request.scope, replay).form()
        if form.get("grant_type") != GRANT:
            return _refused("unsupported_grant_type", "grant_type must be the token exchange grant.")
        try:
            token = await self._exchange.exchange(
                str(form.get("subject_token") or ""),
                str(form.get("actor_token") or ""),
                str(form.get("task") or "")[:256],
            )
        except (Unauthenticated, PermissionDenied) as error:
            return _refused("invalid_grant", str(error))
        return JSONResponse(
            {
                "access_token": token,
                "issued_token_type": JWT_TYPE,
                "token_type": "Bearer",
                "expires_in": TURN_SECONDS,
            },
            headers={"Cache-Control": "no-store"},
        )

    async def keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [self._jwk]})


def _refused(code: str, message: str) -> Response:
    return JSONResponse({"error": code, "error_description": message}, status_code=400)


def create_app(settings: Settings) -> Service:
    """The orchestrator as a service."""
    key = signing_key(settings)
    verifier = Verifier(key.public_pem())
    http = httpx.AsyncClient(timeout=httpx.Timeout(10.0), transport=Bounded())
    addresses = {n: url or settings.address(n) for n, url in settings.orchestrator.agents.items()}
    outside = settings.orchestrator.outside
    for agent in outside.values():
        with suppress(SettingsInvalid):  # A token file that can't be read is told when the agent is looked at.
            keep_secret(agent.bearer())
    fetch = Fetcher()
    directory = Directory(
        addresses, http, fetch, refresh_seconds=settings.orchestrator.refresh_seconds, outside=outside
    )
    proof = ServiceProof(verifier, service_accounts(settings.identity))
    exchange = Exchange(key, verifier, addresses.keys, proof=proof)
    gateway = GatewayClient(settings.address("gateway"), fetch, _token)
    system = prompt("services.orchestrator", "route")
    store = Tasks(settings.database(NAME), NAME, executor=settings.executor, keep_days=settings.keep_days)
    desk = Desk(settings, http, key, verifier, store) if settings.actions.servers else None
    parking = desk.parking if desk is not None else None
    responder = Delegation(directory, exchange, gateway, settings.orchestrator, system, parking)
    server = A2AServer(
        NAME,
        card(settings.address(NAME)),
        responder,
        store,
        max_bytes=settings.server.max_request_bytes,
        ended=desk.ended if desk is not None else forgotten,
    )
    if desk is not None:
        desk.resumes(server.engine, directory, exchange)
    tokens = _Tokens(exchange, key.public_jwk())
    servers = {s: ToolServerClient(s, settings.address(s)) for s in settings.orchestrator.tool_servers}
    mcp = desktop(NAME, settings, server.engine, directory, exchange, verifier, servers)

    control = ControlRoutes(settings, control_store(settings))

    async def asks_for_control(token: str) -> Principal:
        return await proof(token, (AUDIENCE_PERSON, AUDIENCE_EXCHANGE))

    async def agents(request: Request) -> Response:
        await directory.refresh()
        return JSONResponse({"agents": [e.shown() for e in directory.entries()]})

    async def agents_alive() -> None:
        dead = [e.name for e in directory.entries() if e.agent is None]
        if dead:
            raise OpswarmError(f"dead: {', '.join(dead)}")

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(http.aclose)
            stack.push_async_callback(fetch.aclose)
            stack.push_async_callback(proof.aclose)
            await stack.enter_async_context(server.lifespan())
            if desk is not None:
                await stack.enter_async_context(desk.lifespan())
            await stack.enter_async_context(directory.kept_fresh())
            await stack.enter_async_context(mcp.lifespan())
            await stack.enter_async_context(control.lifespan())
            yield

    routes: list[BaseRoute] = [
        Route("/agents", agents, methods=["GET"]),
        Route("/oauth/token", tokens.exchange, methods=["POST"]),
        Route("/.well-known/jwks.json", tokens.keys, methods=["GET"]),
        Route("/mcp", mcp),
        *(desk.routes() if desk is not None else ()),
        *control.routes(),
        *server.routes(),
        *server.chat_routes(lambda: (NAME, *directory.names())),
    ]
    checks = {
        "database": store.ping,
        "agents": agents_alive,
        "gateway": answers(http, "gateway", settings.address("gateway")),
    }
    return Service(
        NAME,
        routes,
        verifier,
        (AUDIENCE_PERSON,),
        fronts=True,
        provers={ASKED: asks_for_control},
        forward_auth=forward_auth(settings.identity.forward_auth),
        lifespan=lifespan,
        checks=checks,
    )
