"""The one way a tool server is made: from a name and its tools to HTTP and stdio.

```python
server = ToolServer("kubernetes", tools.specs(), instructions="…")
app = server.http(auth=verifier)      # Starlette routes at /mcp; run `server.lifespan()` in the outer app
await server.stdio()                  # a desktop app's child process
```

Whatever the transport, every call goes through the same gate: the caller's identity, arguments checked against
the schema with unknown names refused by name, a deadline, errors turned into one sentence, secrets masked, and
the text cut to its cap.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.context import ServerMiddleware
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.resources import Resource
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
from mcp.server.subscriptions import InMemorySubscriptionBus, SubscriptionBus
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import AnyHttpUrl, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from opswarm.actions.gate import Gate
from opswarm.errors import (
    DeadlineExceeded,
    InvalidInput,
    OpswarmError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    UnderWay,
)
from opswarm.guard import principal as principals
from opswarm.guard.decision import Call, decide
from opswarm.guard.policy import Policy
from opswarm.guard.principal import Kind, Principal
from opswarm.guard.redaction import redact, redact_value
from opswarm.guard.risk import Risk
from opswarm.guard.standing import refused_access
from opswarm.guard.tokens import AUDIENCE_PERSON, AUDIENCE_TOOLS, Verifier
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp import acting, progress
from opswarm.mcp.meta import LATER, TOOLSET
from opswarm.mcp.tools import CORE, ToolOutput, ToolSpec
from opswarm.mcp.toolsets import Toolsets
from opswarm.service import error_response

log = logging.getLogger(__name__)

TEXT_LIMIT_BYTES = 32_768
"""No result text is longer, whatever the tool does: about 8,000 tokens, a quarter of a small model's window."""

DATA_LIMIT_BYTES = 262_144
"""Nor is a structured form: code that wants more asks for less at a time."""

_LET_IN_SECONDS = 0.02
"""For whoever was let in a moment before the end to get as far as the session manager."""

Observer = Callable[[str, str, float], None]
"""Told (tool, outcome, seconds) after each call; outcome is "ok" or an error code."""


class _TokenCheck:
    """Our verifier in the shape the MCP SDK asks for."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            signed = self._verifier.verify(token, (AUDIENCE_TOOLS, AUDIENCE_PERSON))
        except Unauthenticated:
            return None
        # A door before this one may know better: at the orchestrator's a front names its user.
        principal = principals.current() or signed.principal
        return AccessToken(
            token="",
            client_id=principal.acting,
            scopes=[],
            expires_at=None,
            subject=principal.subject,
            claims={"principal": principal, "proof": "" if AUDIENCE_PERSON in signed.claims["aud"] else token},
        )


class _GatedTool(Tool):
    """A tool whose call goes through the gate (see the module's docstring)."""

    spec: ToolSpec
    caller: Principal | None = None
    policy: Callable[[], Policy] | None = None
    observe: Observer

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        started = anyio.current_time()
        outcome = "ok"
        principals.set_current(caller() or self.caller, _proof())
        seconds = self.spec.timeout if self.spec.action is None else acting.seconds(self.spec)
        try:
            self._refuse_unknown(arguments)
            if self.policy is not None and self.spec.read_only:
                call = Call(self.name, arguments, Risk.READ)
                decide(self.policy(), call, principals.current(), time.time()).raise_for_denial()
            with anyio.fail_after(seconds):
                if not progress.wanted(context.request_context):
                    return await super().run(arguments, context, convert_result)
                async with progress.reported(self.name, context.report_progress):
                    return await super().run(arguments, context, convert_result)
        except OpswarmError as error:
            outcome = error.code
            if _later(error):
                return _not_now(redact(str(error)))
            raise ToolError(redact(str(error))) from error
        except TimeoutError as error:
            outcome = DeadlineExceeded.code
            text = f"{self.name} did not finish within {seconds:.0f} s. Narrow the request or try again."
            if self.spec.action is not None:
                return _not_now(text)
            raise ToolError(text) from error
        except ToolError as error:
            outcome, told = _explain(self.name, error)
            if isinstance(error.__cause__, OpswarmError) and _later(error.__cause__):
                return _not_now(str(told))
            raise told from error
        finally:
            seconds = anyio.current_time() - started
            self.observe(self.name, outcome, seconds)
            log.info("tool %s called by %s: %s in %.2f s", self.name, principals.current(), outcome, seconds)

    def _refuse_unknown(self, arguments: dict[str, Any]) -> None:
        known = list(self.parameters.get("properties", {}))
        for name in arguments:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                guess = f" Did you mean '{close[0]}'?" if close else ""
                raise InvalidInput(
                    f"{self.name} has no argument '{cap_bytes(name, 64)}'.{guess}",
                    hint=f"It takes: {', '.join(known) or 'nothing'}.",
                )


def _later(error: OpswarmError) -> bool:
    """Whether the same call may go through later, though nothing about it changes."""
    if isinstance(error, PermissionDenied):
        return error.rule in ("control.paused", "control.unknown")
    return isinstance(error, Unavailable | DeadlineExceeded | UnderWay)


def _not_now(text: str) -> CallToolResult:
    """An error as the SDK gives one, with a word beside it that code goes by."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta={LATER: True})


def _explain(tool: str, error: ToolError) -> tuple[str, ToolError]:
    """The error code, and the error as the caller reads it."""
    cause = error.__cause__
    if isinstance(cause, OpswarmError):
        return cause.code, ToolError(redact(str(cause)))
    if isinstance(cause, ValidationError):
        return InvalidInput.code, ToolError(_bad_arguments(tool, cause))
    if isinstance(error, UnexpectedToolError):
        log.error("tool %s broke", tool, exc_info=cause)
        return OpswarmError.code, ToolError(f"{tool} broke inside. Its server's log has the details.")
    return OpswarmError.code, ToolError(redact(str(error)))


def _bad_arguments(tool: str, error: ValidationError) -> str:
    faults = [f"'{'.'.join(str(p) for p in item['loc'])}': {item['msg']}" for item in error.errors()[:5]]
    return f"{tool} can't use these arguments: {'; '.join(faults)}."


def caller() -> Principal | None:
    """Who makes the HTTP call that is being served; None over stdio."""
    token = get_access_token()
    if token is None or token.claims is None:
        return None
    return cast(Principal, token.claims["principal"])


def _proof() -> str:
    """The work token of the HTTP call that is being served, or "": a person's own is nobody else's to keep."""
    token = get_access_token()
    return str(token.claims.get("proof", "")) if token is not None and token.claims is not None else ""


def _result(output: ToolOutput) -> CallToolResult:
    text = redact(output.text)
    cut = cap_bytes(text, TEXT_LIMIT_BYTES)
    if len(cut) < len(text):
        cut += f"\n(cut: {len(cut)} of {len(text)} characters shown; narrow the request to see the rest)"
    data: dict[str, Any] | None = redact_value(dict(output.data)) if output.data is not None else None
    if data is not None and len(json.dumps(data, default=str)) > DATA_LIMIT_BYTES:
        data = None
        cut += "\n(the structured form was left out for its size; narrow the request to get it)"
    return CallToolResult(content=[TextContent(type="text", text=cut)], structured_content=data)


def _reading(spec: ToolSpec) -> Callable[..., Any]:
    function = spec.function

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> CallToolResult:
        output = await function(*args, **kwargs)
        if not isinstance(output, ToolOutput):
            raise OpswarmError(f"{spec.name} is no action and gave a plan.")
        return _result(output)

    signature = inspect.signature(function, eval_str=True)
    call.__signature__ = signature.replace(return_annotation=CallToolResult)  # type: ignore[attr-defined]
    call.__annotations__ = {
        **{name: p.annotation for name, p in signature.parameters.items()},
        "return": CallToolResult,
    }
    return call


def _gated(spec: ToolSpec, observe: Observer, policy: Callable[[], Policy] | None, gate: Gate | None) -> Tool:
    reads = spec.read_only or spec.delegates
    if not reads and gate is None:
        raise OpswarmError(f"The tool {spec.name} changes something, and this server has no gate.")
    made = Tool.from_function(
        _reading(spec) if reads or gate is None else acting.acting(spec, gate),
        name=spec.name,
        title=spec.title or None,
        description=inspect.cleandoc(spec.function.__doc__ or ""),
        # Whether it is destructive or idempotent says nothing of a tool that reads, and what is usual costs tokens.
        annotations=ToolAnnotations(read_only_hint=spec.read_only, destructive_hint=None if spec.read_only else True),
        structured_output=False,
        meta={TOOLSET: spec.toolset} if spec.toolset != CORE else None,
    )
    fields = {name: getattr(made, name) for name in Tool.model_fields}
    fields["parameters"] = _compact(_strict(made.fn_metadata.arg_model).model_json_schema(by_alias=True))
    return _GatedTool.model_construct(**fields, spec=spec, observe=observe, caller=None, policy=policy)


def _strict(model: type[ArgModelBase]) -> type[ArgModelBase]:
    return type(model.__name__, (model,), {"model_config": ConfigDict(extra="forbid"), "__module__": __name__})


def _compact(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without generated titles, which cost tokens and say nothing."""
    schema.pop("title", None)
    for prop in schema.get("properties", {}).values():
        if isinstance(prop, dict):
            prop.pop("title", None)
    return schema


class _Entrance:
    """Lets nobody in before the session manager runs and after it has stopped, which it takes for a defect."""

    def __init__(self, app: ASGIApp, is_open: Callable[[], bool]) -> None:
        self._app = app
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open():
            stopped = Unavailable("The tool server is being stopped.", hint="Ask again when it runs.")
            await error_response(stopped)(scope, receive, send)
            return
        if scope["type"] == "http":
            # White space around a value is no part of it (RFC 9110, 5.5), and some HTTP parsers leave it.
            scope = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
        await self._app(scope, receive, send)


def _offered(policy: Callable[[], Policy], stdio_caller: Principal | None, tool: str) -> bool:
    principal = caller() or stdio_caller
    return principal is None or refused_access(policy(), principal, tool) is None


def _unobserved(tool: str, outcome: str, seconds: float) -> None:
    return None


class ToolServer:
    """One tool server. `specs` are its tools; `instructions` tells a model what it is for."""

    def __init__(
        self,
        name: str,
        specs: Sequence[ToolSpec],
        *,
        instructions: str,
        version: str = "",
        verifier: Verifier | None = None,
        stdio_caller: Principal | None = None,
        observe: Observer = _unobserved,
        resources: Sequence[Resource] = (),
        events: SubscriptionBus | None = None,
        middleware: Sequence[ServerMiddleware[Any]] = (),
        policy: Callable[[], Policy] | None = None,
        gate: Gate | None = None,
        switches: bool = False,
    ) -> None:
        """With a `verifier` every HTTP call needs a bearer token; without one the server is for stdio only,
        where whoever started the process (`stdio_caller`) is the caller. Reads are let through by `policy`; what
        changes something goes through `gate`, and raises `OpswarmError` here when there is none. What is put on
        `events` is told to clients that listen (2026-07-28). With `switches` its one client may switch toolsets."""
        self.name = name
        events = events or InMemorySubscriptionBus()
        toolsets = Toolsets({spec.name: spec.toolset for spec in specs}, events)
        if len(toolsets.names) > 1:
            middleware = [*middleware, toolsets]
            specs = [*specs, toolsets.switch()] if switches else specs
        tools = [_gated(spec, observe, policy, gate) for spec in specs]
        if policy is not None:
            middleware = [*middleware, acting.Withheld(functools.partial(_offered, policy, stdio_caller))]
        for tool in tools:
            cast(_GatedTool, tool).caller = stdio_caller
        auth: dict[str, Any] = {}
        if verifier is not None:
            settings = AuthSettings(issuer_url=AnyHttpUrl("https://opswarm.invalid"), resource_server_url=None)
            auth = {"auth": settings, "token_verifier": _TokenCheck(verifier)}
        self._secured = verifier is not None
        self._open = False
        self._mcp: MCPServer[Any] = MCPServer(
            name, instructions=instructions, version=version, tools=tools, log_level="WARNING", subscriptions=events,
            resources=list(resources), middleware=list(middleware), **auth
        )  # fmt: skip

    @property
    def sdk(self) -> MCPServer[Any]:
        """The SDK's server, for what is no tool of ours: prompts, templates of resources."""
        return self._mcp

    def http(self, *, allowed_hosts: Sequence[str] = ()) -> Starlette:
        """The streamable HTTP app, at `/mcp`. Its `lifespan()` must run in the outer app.

        Raises `OpswarmError` when the server was made without a verifier: no open tool server, ever.
        """
        if not self._secured:
            raise OpswarmError("A tool server over HTTP needs a token verifier.")
        own = [f"{host}{port}" for host in ("localhost", "127.0.0.1", "[::1]") for port in ("", ":*")]
        app = self._mcp.streamable_http_app(
            transport_security=TransportSecuritySettings(
                allowed_hosts=[*own, *allowed_hosts], allowed_origins=[f"http://{host}" for host in own]
            )
        )
        app.add_middleware(_Entrance, is_open=lambda: self._open)
        return app

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Runs the session manager; call after `http()`."""
        async with self._mcp.session_manager.run():
            self._open = True
            try:
                yield
            finally:
                self._open = False
                await anyio.sleep(_LET_IN_SECONDS)

    async def stdio(self) -> None:
        """Serves one desktop client over stdin and stdout until it hangs up."""
        await self._mcp.run_stdio_async()


def local_person() -> Principal:
    """Whoever started this process from a shell or a desktop app."""
    return Principal(kind=Kind.PERSON, subject="person:local", roles=frozenset(principals.Role))
