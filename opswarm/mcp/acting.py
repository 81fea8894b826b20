"""Action tools over MCP: their schema, how a person is asked, and what a call gives.

An action is described by its planning function like any tool; `dry_run` is added to each. In a call's `_meta` may be
`opswarm/idempotency-key`, and `opswarm/proposal` with the id of one that was approved. A result that waits for a
person has the proposal in its own `_meta`, under `opswarm/approval`: nothing that is read from the world gets there.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)
from pydantic import Field
from pydantic_core import to_jsonable_python

from opswarm.actions.action import Plan
from opswarm.actions.gate import Answer, Asked, Gate, Said
from opswarm.actions.proposals import Proposal
from opswarm.actions.records import Status
from opswarm.errors import InvalidInput, OpswarmError
from opswarm.guard import principal as principals
from opswarm.guard.redaction import redact, redact_value
from opswarm.mcp.meta import APPROVAL, KEY, PROPOSAL
from opswarm.mcp.tools import ToolSpec
from opswarm.mcp.toolsets import as_json

_QUESTION = "approval"
_PERSON_SECONDS = 600.0
"""How long a person's client has to bring back their answer."""

_BESIDE_SECONDS = 90.0
"""What planning, looking twice and writing down may take beside the action itself."""

_MODERN = "2026-07-28"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Do it", "description": "Whether this is to be done."}},
    "required": ["approve"],
}

DryRun = Annotated[bool, Field(description="Only say what would be done.")]


class _AskFirst(Exception):
    """No failure: ends the call with a question to the client (2026-07-28), which calls again with the answer."""

    def __init__(self, proposal: Proposal) -> None:
        params = ElicitRequestFormParams(message=_question(proposal), requested_schema=_SCHEMA)
        self.result = InputRequiredResult(
            input_requests={_QUESTION: ElicitRequest(params=params)}, request_state=f"{proposal.id}:{proposal.content}"
        )


def seconds(spec: ToolSpec) -> float:
    """How long a whole call of an action may take."""
    assert spec.action is not None
    return spec.timeout + spec.action.seconds + spec.action.verify_seconds + _BESIDE_SECONDS + _PERSON_SECONDS


def acting(spec: ToolSpec, gate: Gate) -> Callable[..., Awaitable[CallToolResult | InputRequiredResult]]:
    """The function of an action tool as the MCP SDK takes it: the planning function's parameters, and `dry_run`."""
    function, action = spec.function, spec.action
    if action is None:
        raise OpswarmError(f"The tool {spec.name} is not read-only and has no action.")
    planned = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    async def call(**given: Any) -> CallToolResult | InputRequiredResult:
        ctx: Context[Any, Any] = given.pop("ctx")
        dry_run: bool = given.pop("dry_run")
        bound = planned.bind(**given)
        bound.apply_defaults()

        async def planner() -> Plan:
            async with asyncio.timeout(spec.timeout):
                plan = await function(**bound.arguments)
            if not isinstance(plan, Plan):
                raise OpswarmError(f"{spec.name} gave no plan.")
            return plan

        asked = _asked(ctx, dry_run)
        declared = spec.declared(bound.arguments)
        try:
            answer = await gate.act(
                spec.name, action, declared, _plain(bound.arguments), planner, principals.current(), asked
            )
        except _AskFirst as ask:
            return ask.result
        return _result(answer)

    extra = [
        inspect.Parameter("dry_run", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DryRun),
        inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context[Any, Any]),
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in planned.parameters.values()]
    call.__signature__ = inspect.Signature([*parameters, *extra], return_annotation=CallToolResult)  # type: ignore[attr-defined]
    call.__annotations__ = {**{p.name: p.annotation for p in (*parameters, *extra)}, "return": CallToolResult}
    return call


class Withheld:
    """A middleware that leaves out of the list what the policy does not let the caller call at all."""

    def __init__(self, offers: Callable[[str], bool]) -> None:
        self._offers = offers

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        listed = await call_next(ctx)
        if ctx.method != "tools/list":
            return listed
        found = as_json(listed)
        return {**found, "tools": [t for t in found.get("tools", []) if self._offers(t["name"])]}


def _asked(ctx: Context[Any, Any], dry_run: bool) -> Asked:
    meta: Mapping[str, Any] = dict(ctx.request_context.meta or {})
    return Asked(
        key=_text(meta.get(KEY)),
        proposal=_text(meta.get(PROPOSAL)),
        dry_run=dry_run,
        token=principals.proof(),
        person=_person(ctx) if _can_ask(ctx) else None,
        said=_said(ctx),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as JSON has them. Raises `InvalidInput` for text that can't be written down as it is."""
    plain: dict[str, Any] = to_jsonable_python(dict(arguments))
    try:
        json.dumps(plain, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError as error:
        raise InvalidInput("The arguments hold what is no text or no number.", hint="Send plain Unicode.") from error
    return plain


def _can_ask(ctx: Context[Any, Any]) -> bool:
    capabilities = ctx.client_capabilities
    return capabilities is not None and capabilities.elicitation is not None


def _person(ctx: Context[Any, Any]) -> Callable[[Proposal], Awaitable[bool | None]]:
    """Asks through the client, in the way of the protocol's era."""

    async def ask(proposal: Proposal) -> bool | None:
        if (ctx.protocol_version or "") >= _MODERN:
            raise _AskFirst(proposal)
        try:
            async with asyncio.timeout(_PERSON_SECONDS):
                said = await ctx.session.elicit_form(_question(proposal), _SCHEMA, related_request_id=ctx.request_id)
        except TimeoutError:
            return None
        return _yes(said)

    return ask


def _said(ctx: Context[Any, Any]) -> Said | None:
    """What the client brings back of a question that an earlier round of this call asked (2026-07-28)."""
    if not ctx.request_state or not ctx.input_responses:
        return None
    # The state is sealed by the SDK: it is what we gave to this very caller for this very call.
    id, _, content = ctx.request_state.partition(":")
    response = ctx.input_responses.get(_QUESTION)
    return Said(id, content, _yes(response)) if isinstance(response, ElicitResult) else None


def _yes(said: ElicitResult) -> bool:
    return said.action == "accept" and (said.content or {}).get("approve") is True


def _question(proposal: Proposal) -> str:
    preview = f"\n\n{proposal.preview}" if proposal.preview else ""
    return redact(f"{proposal.summary}{preview}\n\n{proposal.reason} (risk: {proposal.risk})")


def _result(answer: Answer) -> CallToolResult:
    data: dict[str, Any] = {}
    meta: dict[str, Any] | None = None
    failed = False
    waits = answer.proposal is not None and answer.outcome is None
    if answer.outcome is not None:
        failed = answer.outcome.status is not Status.DONE
        data = {
            "status": answer.outcome.status.value,
            "verified": answer.outcome.verified,
            "after": dict(answer.outcome.after),
            "repeated": answer.outcome.again,
        }
    elif answer.proposal is not None and waits:
        shown = redact_value(answer.proposal.shown())
        kept = ("id", "server", "tool", "summary", "preview", "risk", "expires")
        data = {"status": "needs_approval", "approval": {k: shown[k] for k in kept}}
        meta = {APPROVAL: data["approval"]}
    elif answer.verdict is not None:
        verdict = answer.verdict
        data = {"status": "previewed", "decision": verdict.outcome.value, "rule": verdict.rule, "risk": verdict.risk}
    return CallToolResult(
        content=[TextContent(type="text", text=redact(answer.text))],
        structured_content=data,
        is_error=failed,
        _meta=meta,
    )
